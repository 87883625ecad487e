"""What ends sooner goes sooner: past backlogs, and no hold; a death with little time left says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import conf, delivery
from notifications.endpoints import holds
from notifications.engine.source import DueRows, Scope
from notifications.engine.sweep import Options
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import Deadline, Death, Escalation, Hold, NotificationEvent
from notifications.notifiers.endpoint import Endpoint
from tests.factories import ago, ahead, an_alert, dead, failed, pending, sent
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db
EVENTS = NotificationEvent.objects
DOWN = TransientError("no connection", reason=Reason.NETWORK)
REFUSED = PermanentError("HTTP 404: no such channel", status=404)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def ending(ends: datetime, make: Any = pending, **fields: Any) -> NotificationEvent:
    event: NotificationEvent = make(**fields)
    Deadline.objects.create(notification=event, not_after=ends)
    return event


# Passing backlogs


@pytest.mark.parametrize("kind", ["pending", "retry"])
def test_what_has_less_than_a_day_left_passes_a_backlog(kind: str, script: Script) -> None:
    """What ends first in front; a week is not urgent, and a certificate that has ended is."""
    make = {"pending": pending, "retry": failed}[kind]
    backlog = [make(created_at=ago(hours=9)) for _ in range(30)]
    week, soon, sooner, over = (
        ending(at, make).pk for at in (ahead(days=7), ahead(hours=20), ahead(hours=2), ago(hours=1))
    )
    delivery.sweep(kind, concurrency=1)
    names = {week: "week", soon: "soon", sooner: "sooner", over: "over"}
    assert [names.get(pk, "backlog") for pk in script.ids[:3]] == ["over", "sooner", "soon"]
    assert set(script.ids[3:]) == {week, *(event.pk for event in backlog)}


def test_it_passes_one_that_has_a_pace_too(configure: Configure) -> None:
    """And what waits in its lane: the others take their time."""
    script = Script()
    configure(CHANNELS={"Webhook": channel(script) | {"MAX_PER_SECOND": 20}})
    for _ in range(20):
        pending(created_at=ago(hours=1))
    last = ending(ahead(hours=2))
    delivery.send_pending()
    assert script.ids.index(last.pk) == 0


def test_it_passes_no_hold_and_no_pause(script: Script, configure: Configure) -> None:
    configure(CHANNELS={name: channel(script) for name in ("Webhook", "Slack")})
    ending(ahead(hours=2))
    ending(ahead(hours=2), channel="Slack")
    other = pending(channel="Slack", recipient="#other")
    holds.pause("Webhook", length=HOUR, limit=HOUR, by="ada")
    holds.pause("Slack", "ops@example.com", length=HOUR, limit=HOUR, by="ada")
    delivery.send_pending()
    assert script.ids == [other.pk]
    assert Hold.objects.filter(until__gt=ahead(minutes=50)).count() == 2, "a pause is an operator's"


def test_nothing_is_asked_of_them_while_others_are_claimed(script: Script) -> None:
    """Once a second at most, however often it claims."""
    source = DueRows("pending", conf.current(), Options(limit=100))
    for _ in range(8):
        pending()
    with CaptureQueriesContext(connection) as seen:
        for _ in range(4):
            source.claim(2, Scope(frozenset()), ago())
    looks = [query["sql"] for query in seen if "waiting" in query["sql"]]
    assert len(looks) == 1


def test_a_row_that_is_urgent_is_claimed_once_and_by_one(script: Script) -> None:
    event = ending(ahead(hours=2))
    source = DueRows("pending", conf.current(), Options(limit=100))
    [mine] = source.claim(10, Scope(frozenset()), ago())
    other = DueRows("pending", conf.current(), Options(limit=100))
    assert (mine.id, other.claim(10, Scope(frozenset()), ago())) == (event.pk, [])
    full = DueRows("pending", conf.current(), Options(limit=100))
    ending(ahead(hours=3))
    never = Scope(frozenset(), never=frozenset({Endpoint("webhook", "Webhook")}))
    assert full._claim_urgent(10, never, ago()) == []


def test_a_sweep_looks_no_more_through_what_has_ended_its_way(script: Script) -> None:
    """And a requeue has them pass backlogs again."""
    ended = [ending(ahead(hours=2), make) for make in (sent, dead)]
    waiting = ending(ahead(hours=30), failed, due_at=ahead(hours=1))
    delivery.send_pending()
    assert list(Deadline.objects.filter(waiting=True).values_list("notification", flat=True)) == [waiting.pk]
    ended[1].requeue(by="ada")
    assert Deadline.objects.get(notification=ended[1]).waiting


# Waits


@pytest.mark.parametrize(
    ("left", "wait"), [(None, 1800), (30 * HOUR, 1800), (2 * HOUR, 720), (5 * MINUTE, 60), (-HOUR, 60)]
)
def test_a_providers_wish_is_bounded(left: timedelta | None, wait: float, script: Script) -> None:
    """Its row's, and its endpoint's hold."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    script.otherwise = TransientError("slow down", reason=Reason.RATE_LIMITED, retry_after=1800.0)
    event = pending(created_at=now)
    if left is not None:
        Deadline.objects.create(notification=event, not_after=now + left)
    delivery.send_pending(clock=lambda: now)
    event.refresh_from_db()
    assert event.next_retry_at is not None
    waits = (event.next_retry_at - now).total_seconds()
    assert wait <= waits <= (wait * 1.1 if wait == 1800 else wait)
    assert (Hold.objects.get().until - now).total_seconds() == wait


def test_what_comes_to_wait_behind_a_hold_brings_the_probe_forward(script: Script) -> None:
    """Once it is due, one is sent, and the others wait for what becomes of it."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    script.otherwise = PermanentError("key revoked", reason=Reason.AUTH)
    pending(created_at=now)
    delivery.send_pending(clock=lambda: now)
    hold = Hold.objects.get()
    assert hold.until == now + 15 * MINUTE
    soon = ending(now + HOUR, created_at=now)
    other = pending(created_at=now)
    delivery.send_pending(clock=lambda: now + MINUTE)
    hold.refresh_from_db()
    assert hold.until == now + MINUTE + (59 * MINUTE) / 10
    assert len(script.ids) == 1, "nothing passes the hold"
    script.otherwise = DOWN
    delivery.send_pending(clock=lambda: now + 8 * MINUTE)
    assert script.ids[1:] == [soon.pk]
    hold.refresh_from_db()
    assert hold.until <= now + 8 * MINUTE + (52 * MINUTE) / 10
    assert EVENTS.get(pk=other.pk).retry_count == EVENTS.get(pk=soon.pk).retry_count == 0, "a probe is free"


def test_five_attempts_remain_five(script: Script) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    script.otherwise = TransientError("busy")
    event = ending(now + 20 * MINUTE, created_at=now)
    delivery.send_pending(clock=lambda: now)
    waits = []
    while (event := EVENTS.get(pk=event.pk)).status == "failed":
        assert event.next_retry_at
        waits.append(event.next_retry_at - now)
        now = event.next_retry_at
        Hold.objects.all().delete()
        delivery.retry_failed(clock=lambda: now)  # noqa: B023
    assert (event.status, len(script.ids)) == ("dead", 5)
    assert [round(wait / MINUTE, 2) for wait in waits] == [1, 1.9, 1.71, 1.54]


# Deaths


def test_a_death_says_how_much_time_is_left_and_what_is_raised_has_it_too(
    configure: Configure, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    script = Script(otherwise=REFUSED)
    configure(
        CHANNELS={name: channel(script) for name in ("Slack", "Email")},
        ESCALATION={"Slack": "Email:ops@x.org"},
    )
    event = ending(ahead(hours=3, minutes=5), channel="Slack")
    with django_capture_on_commit_callbacks(execute=True):
        event.mark_as_dead("no such channel")
    raised = EVENTS.get(pk=Escalation.objects.get(notification=event).raised_id)
    assert raised.message.partition("\n")[0].endswith("; its certificate expires in 3 h")
    assert raised.not_after == event.not_after
    assert "no such channel; its certificate expires in 3 h" in caplog.text


@pytest.mark.parametrize(("left", "at_once"), [(timedelta(hours=20), True), (timedelta(days=20), False)])
def test_the_digest_does_not_wait_where_a_certificate_ends_soon(
    left: timedelta, at_once: bool, configure: Configure
) -> None:
    """Nor is what it told of told again."""
    script, now = Script(otherwise=REFUSED), datetime(2026, 3, 1, 12, 10, tzinfo=UTC)
    configure(
        CHANNELS={"Slack": channel(script), "Email": channel(Script())},
        DIGEST={"TO": "Email:ops@example.com", "INTERVAL": timedelta(days=7)},
        ESCALATION={},
    )
    ending(now + left, channel="Slack", created_at=now)
    delivery.send_pending(clock=lambda: now)
    digests = EVENTS.filter(dedup_key__startswith="digest:")
    assert digests.count() == at_once
    assert Death.objects.count() == (not at_once)
    delivery.send_pending(clock=lambda: now + timedelta(days=2, minutes=1))
    assert digests.count() == 1, "a tenth of the time left, or at once"
    assert "1 alert died" in digests.get().message


# What is given


def test_the_end_is_kept_with_the_alert_and_with_many() -> None:
    event, _ = EVENTS.notify(**an_alert(dedup_key="a", not_after=ahead(hours=2), fingerprints=["b", "a"]))
    again, created = EVENTS.notify(**an_alert(dedup_key="a", not_after=ahead(hours=9)))
    assert (again.pk, created, Deadline.objects.count()) == (event.pk, False, 1)
    assert Deadline.objects.get().fingerprints == ["a", "b"]
    raised = EVENTS.notify_many([an_alert(), an_alert(not_after=ahead(days=2))])
    assert [one.not_after is not None for one, _ in raised] == [False, True]


@pytest.mark.parametrize("odd", [datetime(2026, 1, 1), "soon", datetime.max, 7])  # noqa: DTZ001, DTZ901
def test_what_is_no_time_is_refused(odd: Any) -> None:
    with pytest.raises(Exception, match="This is a time with a time zone") as error:
        EVENTS.notify(**an_alert(not_after=odd))
    assert list(error.value.message_dict) == ["not_after"]  # type: ignore[attr-defined]
    assert not EVENTS.exists()
