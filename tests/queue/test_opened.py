"""A renewal's success ends what its failure opened, where that was delivered and the provider can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import delivery
from notifications.database import database_now
from notifications.models import NotificationEvent, Status
from notifications.queue import opened
from notifications.queue.claim import claim
from tests.factories import LEASE, ago, dead, failed, pending, read, sent
from tests.fixtures import Configure
from tests.notifiers.support import OPSGENIE, PAGERDUTY
from tests.receiver import Answer, HttpReceiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def pagerduty(receiver: HttpReceiver, configure: Configure) -> HttpReceiver:
    receiver.always(Answer(202, body=PAGERDUTY.body))
    configure(CHANNELS={"PagerDuty": PAGERDUTY.options(receiver.url(""))})
    return receiver


def failure(make: Any = sent, **fields: Any) -> NotificationEvent:
    values = {"type": "RenewalFailure", "channel": "PagerDuty", "created_at": ago(hours=1)}
    event: NotificationEvent = make(**{**values, **fields})
    return event


def success(**fields: Any) -> NotificationEvent:
    return pending(**{"type": "RenewalSuccess", "channel": "pagerduty", **fields})


def actions(receiver: HttpReceiver) -> list[tuple[str, str]]:
    return [(r.json["event_action"], r.json["dedup_key"]) for r in receiver.requests]


def test_all_that_it_ends_and_nothing_else(pagerduty: HttpReceiver) -> None:
    newer, older = failure(), failure(read, created_at=ago(hours=2), type="renewal_failure", recipient="x")
    failure(certificate_id="mc-other")
    failure(channel="OpsGenie")
    failure(type="DeploymentFailure")
    failure(type="ExpirationWarning")
    failure(dead)
    failure(failed, due_at=ago(hours=-1))
    over = success()
    failure(created_at=ago(hours=-1))  # it failed again since
    assert delivery.send_pending().sent == 1
    assert actions(pagerduty) == [("trigger", over.pk), ("resolve", newer.pk), ("resolve", older.pk)]
    assert all(set(r.json) == {"routing_key", "event_action", "dedup_key"} for r in pagerduty.requests[1:])


def test_of_many_the_newest(pagerduty: HttpReceiver) -> None:
    events = [failure(created_at=ago(hours=n + 1)) for n in range(opened.MOST_OPENED + 5)]
    success()
    assert delivery.send_pending().sent == 1
    assert [key for action, key in actions(pagerduty) if action == "resolve"] == [
        event.pk for event in events[: opened.MOST_OPENED]
    ]


def test_it_is_delivered_when_all_is_told(pagerduty: HttpReceiver) -> None:
    """At least once: what the provider had already, it folds."""
    first = failure()
    over = success()
    pagerduty.script(Answer(202), 503, then=Answer(202))
    assert delivery.send_pending().rescheduled == 1
    NotificationEvent.objects.filter(pk=over.pk).update(next_retry_at=ago(minutes=1))
    assert delivery.retry_failed().sent == 1
    assert actions(pagerduty) == [("trigger", over.pk), ("resolve", first.pk)] * 2


def test_what_the_provider_will_not_end_does_not_keep_the_alert(pagerduty: HttpReceiver) -> None:
    failure()
    over = success()
    pagerduty.script(Answer(202), 400, then=Answer(202))
    assert delivery.send_pending().sent == 1
    over.refresh_from_db()
    assert over.status == Status.SENT


def test_opsgenie_closes_by_the_alias(receiver: HttpReceiver, configure: Configure) -> None:
    receiver.always(Answer(202, body=OPSGENIE.body))
    configure(CHANNELS={"OpsGenie": OPSGENIE.options(receiver.url(""))})
    failure(channel="OpsGenie", pk="odd id/1")
    success(channel="OpsGenie")
    assert delivery.send_pending().sent == 1
    create, close = receiver.requests
    assert create.path == "/v2/alerts"
    [alias] = [part for part in close.path.split("/") if len(part) == 64]  # the hash of an odd id
    assert close.path == f"/v2/alerts/{alias}/close?identifierType=alias"
    assert close.headers["Authorization"].startswith("GenieKey ")
    assert json.loads(close.body)["source"] == "certctl"


def test_a_failing_look_up_keeps_nothing_back(
    pagerduty: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure()
    over = success()
    monkeypatch.setattr(opened, "MOST_OPENED", "no number")
    assert delivery.send_pending().sent == 1
    assert actions(pagerduty) == [("trigger", over.pk)]


def test_the_database_is_asked_only_where_something_can_be_ended() -> None:
    failure()
    success()
    success(channel="Email")
    success(certificate_id=None)
    pending(channel="PagerDuty")
    claimed = claim(NotificationEvent.objects.pending(), 10, now=database_now(), lease=LEASE)
    for channels, queries in (({"slack"}, 0), ({"pagerduty"}, 1)):
        with CaptureQueriesContext(
            connection,
        ) as asked:
            opened.told(claimed, channels)
        assert len(asked) == queries
    assert sorted(len(event.opened) for event in claimed) == [0, 0, 0, 1]
