"""What the log says of a death: one line for each, once it is certain."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.utils import timezone

from notifications import delivery
from notifications.exceptions import PermanentError
from notifications.models import NotificationEvent
from notifications.queue.reap import bury, reap
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("ERROR", "notifications.deaths")
    return caplog


def test_an_attempt_that_kills(said: pytest.LogCaptureFixture, script: Script) -> None:
    """Its error in one line, also where the provider's words have several."""
    script.otherwise = PermanentError("HTTP 400:\nno such\r\x1b[2Jteam", advice="mend it")
    event = factories.failed()
    delivery.retry_failed()
    [line] = [message for message in said.messages if event.pk in message]
    assert line.startswith(f"notification {event.pk} died on Webhook: HTTP 400: no such")
    assert line.isprintable()


def test_an_error_tracker_can_tell_what_died_alike(said: pytest.LogCaptureFixture, script: Script) -> None:
    """By the template, and finer by the fingerprint, which has no id, number or address in it."""
    script.otherwise = lambda message: PermanentError(f"HTTP 400: no team {message.id}")
    events = [factories.failed(recipient=f"ops-{n}@example.com") for n in range(2)]
    delivery.retry_failed()
    records = [record for record in said.records if record.name == "notifications.deaths"]
    assert {record.notification for record in records} == {event.pk for event in events}  # type: ignore[attr-defined]
    assert {(record.levelname, record.msg) for record in records} == {
        ("ERROR", "notification %s died on %s: %s")
    }
    [fingerprint] = {tuple(record.fingerprint) for record in records}  # type: ignore[attr-defined]
    assert fingerprint[:2] == ("notification died", "Webhook")
    for record, event in zip(records, events, strict=True):
        assert (record.channel, record.type) == ("Webhook", event.type)  # type: ignore[attr-defined]
        assert event.recipient not in str(vars(record))


def test_a_secret_is_not_in_it(said: pytest.LogCaptureFixture, configure: Configure) -> None:
    configure(CHANNELS={"Webhook": channel(Script())})
    url = "https://hooks.example.com/services/T0/B0/s3cr3ttoken"
    event = factories.failed(retry_count=9, last_error=f"certctl: Post {url}: refused")
    delivery.retry_failed()
    [line] = [message for message in said.messages if event.pk in message]
    assert "died on Webhook" in line
    assert "s3cr3ttoken" not in line


def test_whatever_it_died_of(said: pytest.LogCaptureFixture) -> None:
    """A lease that ran out on the last attempt, a spent budget, a verb."""
    everything = NotificationEvent.objects.all()
    lost, spent, told = factories.lost(retry_count=4), factories.failed(retry_count=5), factories.pending()
    reap(everything, now=timezone.now(), max_attempts=5, limit=9)
    bury(everything, now=timezone.now(), max_attempts=5, limit=9)
    told.mark_as_dead("a person said so")
    named = [message.split()[1] for message in said.messages if "died on" in message]
    assert named == [lost.pk, spent.pk, told.pk]


def test_a_death_that_is_undone_is_none(said: pytest.LogCaptureFixture) -> None:
    event = factories.pending()
    with transaction.atomic():
        event.mark_as_dead("no")
        transaction.set_rollback(True)
    assert said.messages == []


def test_a_missing_notifier_that_kills(said: pytest.LogCaptureFixture, configure: Configure) -> None:
    configure(CHANNELS={}, MISSING_NOTIFIER="dead")
    event = factories.pending(channel="Pager", created_at=ago(minutes=11))
    delivery.send_pending()
    assert f"notification {event.pk} died on Pager: " in said.text
