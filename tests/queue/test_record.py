"""What became of attempts: the row, the history, the counts and what a death brings about, in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import DeliveryAttempt, Escalation, NotificationEvent, RecipientAnswer, Tally
from notifications.models.tallies import EPOCH
from notifications.queue.claim import Claimed, claim
from notifications.queue.record import Outcome, Recorded, record
from tests import factories
from tests.breakage import refused_rows
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(seconds=3)
LEASE = timedelta(minutes=2)
ENDS = {
    "sent": {"status": "sent", "kind": "sent", "status_code": 202},
    "failed": {
        "status": "failed",
        "kind": "transient",
        "delay": timedelta(minutes=4),
        "error": "HTTP 503",
        "reason": "server",
        "status_code": 503,
    },
    "dead": {"status": "dead", "kind": "permanent", "error": "HTTP 404", "reason": "gone"},
}


def claimed(count: int = 1, **fields: Any) -> list[Claimed]:
    for n in range(count):
        given = {
            "retry_count": 2,
            "created_at": NOW - timedelta(seconds=50),
            "last_error": "before",
            **fields,
        }
        factories.failed(id=f"n-{n}", due_at=NOW, **given)
    return claim(EVENTS.order_by("pk"), count, now=NOW, lease=LEASE)


def ended(event: Claimed, how: str, **fields: Any) -> Outcome:
    given = {"channel": "Slack", "started_at": BEGAN, "duration": 250, **ENDS[how], **fields}
    return Outcome(event, **given)


def recorded(outcomes: list[Outcome], worker: str = "w:1") -> Recorded:
    return record(outcomes, now=NOW, worker=worker)


def ids(*numbers: int) -> set[str]:
    return {f"n-{n}" for n in numbers}


def counted() -> dict[tuple[datetime, str, str], int]:
    rows = Tally.objects.values_list("hour", "channel", "outcome", "attempts")
    return {(hour, name, outcome): attempts for hour, name, outcome, attempts in rows}


def test_each_becomes_what_its_own_outcome_says() -> None:
    events = claimed(3)
    assert recorded([ended(e, how) for e, how in zip(events, ENDS, strict=True)]) == (
        ids(0, 1, 2),
        set(),
        set(),
    )
    names = ("status", "retry_count", "next_retry_at", "sent_at", "last_error", "leased_until")
    assert list(EVENTS.order_by("pk").values_list(*names)) == [
        ("sent", 2, None, NOW, "before", None),
        ("failed", 3, NOW + timedelta(minutes=4), None, "HTTP 503", None),
        ("dead", 2, None, None, "HTTP 404", None),
    ]


def test_each_attempt_is_in_the_history() -> None:
    recorded([ended(e, how) for e, how in zip(claimed(3), ENDS, strict=True)])
    rows = DeliveryAttempt.objects.order_by("notification")
    names = ("number", "channel", "started_at", "duration_ms", "worker")
    assert set(rows.values_list(*names)) == {(3, "Slack", BEGAN, 250, "w:1")}
    assert list(rows.values_list("outcome", "reason", "status_code", "error")) == [
        ("sent", "", 202, None),
        ("transient", "server", 503, "HTTP 503"),
        ("permanent", "gone", None, "HTTP 404"),
    ]


def test_a_delivery_may_have_a_reason() -> None:
    recorded([ended(claimed()[0], "sent", reason="combined")])
    attempt = DeliveryAttempt.objects.get()
    assert (attempt.outcome, attempt.reason, attempt.error) == ("sent", "combined", None)


def test_what_the_table_would_not_take_is_made_to_fit() -> None:
    odd = ended(claimed()[0], "failed", error="a NUL \x00", status_code="503")
    assert recorded([odd]).written == ids(0)
    attempt = DeliveryAttempt.objects.get()
    assert attempt.status_code is None
    assert attempt.error == EVENTS.get().last_error
    assert "\x00" not in str(attempt.error)


def test_a_probe_that_failed_spends_nothing() -> None:
    recorded([ended(claimed()[0], "failed", spent=False)])
    event = EVENTS.get()
    assert (event.status, event.retry_count, event.last_error) == ("failed", 2, "HTTP 503")


def test_a_channel_without_a_notifier_says_so_and_keeps_the_last_error() -> None:
    recorded([ended(claimed()[0], "sent", kind="no_notifier", error="nothing was delivered")])
    event = EVENTS.get()
    assert (event.status, event.sent_at, event.error) == ("sent", NOW, "nothing was delivered")
    assert event.last_error == "before"


def test_they_are_counted_with_how_long_they_took_and_how_old_they_were() -> None:
    events = claimed(3)
    EVENTS.filter(pk="n-2").update(leased_until=None)
    recorded([ended(events[0], "sent"), ended(events[1], "sent", duration=50), ended(events[2], "dead")])
    assert counted() == {
        (hour, "Slack", outcome): number
        for hour in (EPOCH, NOW)
        for outcome, number in (("sent", 2), ("permanent", 1))
    }
    sent = Tally.objects.get(hour=NOW, outcome="sent")
    assert (sent.milliseconds, sent.took_0, sent.took_1) == (300, 1, 1)
    assert (sent.age_2, sent.age_3) == (0, 2), "raised 50 seconds ago"


def test_only_the_dead_are_followed_and_at_their_time(configure: Configure) -> None:
    names = {name: channel(Script()) for name in ("Slack", "Email")}
    configure(CHANNELS=names, ESCALATION={"Slack": "Email:ops"})
    events = claimed(3, channel="Slack")
    recorded([ended(e, how) for e, how in zip(events, ENDS, strict=True)])
    link = Escalation.objects.get()
    assert (link.notification_id, link.at) == ("n-2", NOW)
    assert EVENTS.get(pk=link.raised_id).created_at == NOW


def test_where_all_is_recorded_nobody_asks_what_became_of_the_rest() -> None:
    with CaptureQueriesContext(connection) as seen:
        recorded([ended(event, "sent") for event in claimed(2)])
    assert not [query for query in seen if query["sql"].strip().startswith("SELECT held.id")]


def test_nothing_is_nothing() -> None:
    assert recorded([]) == (set(), set(), set())


def test_the_same_outcome_twice_is_one() -> None:
    outcomes = [ended(event, "failed") for event in claimed(2)]
    assert recorded(outcomes[:1]).written == ids(0)
    assert recorded(outcomes) == (ids(0, 1), set(), set())
    assert recorded(outcomes) == (ids(0, 1), set(), set())
    assert DeliveryAttempt.objects.count() == 2
    assert set(EVENTS.values_list("retry_count", flat=True)) == {3}
    assert set(counted().values()) == {2}


def test_what_single_addresses_answered_is_kept_with_the_attempt_that_is_put_on_record() -> None:
    answers = [{"a@example.com": ""}, {"b@example.com": "550"}, {"c@example.com": ""}, {}]
    outcomes = [ended(e, "failed", answered=said) for e, said in zip(claimed(4), answers, strict=True)]
    EVENTS.filter(pk="n-1").update(leased_until=NOW + 2 * LEASE)
    EVENTS.filter(pk="n-2").delete()
    for _ in range(2):
        recorded(outcomes)
    found = RecipientAnswer.objects.order_by("recipient")
    assert list(found.values_list("notification", "recipient", "refusal", "at")) == [
        ("n-0", "a@example.com", "", NOW),
        ("n-1", "b@example.com", "550", NOW),
    ]


def test_a_delivery_stays_one_where_only_its_addresses_answers_are_refused() -> None:
    [event] = claimed()
    with refused_rows("NEW.recipient <> ''", table="notification_recipients"):
        assert recorded([ended(event, "sent", answered={"a@example.com": ""})]).written == ids(0)
    assert EVENTS.get().status == "sent"
    assert not RecipientAnswer.objects.exists()


def test_of_a_lease_that_was_taken_away_only_the_attempt_is_put_on_record() -> None:
    outcomes = [ended(event, "sent") for event in claimed(2)]
    EVENTS.filter(pk="n-0").update(leased_until=NOW + 2 * LEASE)
    assert recorded(outcomes) == (ids(1), set(), set())
    late = EVENTS.get(pk="n-0")
    assert (late.status, late.leased_until, late.sent_at) == ("failed", NOW + 2 * LEASE, None)
    assert late.deliveryattempts.get().outcome == "sent"
    assert set(counted().values()) == {2}


@pytest.mark.parametrize("change", [{"worker": "w:2"}, {"began": BEGAN - timedelta(seconds=1)}])
def test_a_late_attempt_is_told_from_others_by_its_worker_and_its_beginning(change: dict[str, Any]) -> None:
    [event] = claimed()
    EVENTS.update(leased_until=None)
    factories.attempt(EVENTS.get(), started_at=BEGAN, worker="w:1")
    late = ended(event, "sent", started_at=change.get("began", BEGAN))
    recorded([late], change.get("worker", "w:1"))
    assert DeliveryAttempt.objects.count() == 2


def test_what_another_program_finished_keeps_what_it_says() -> None:
    [event] = claimed()
    EVENTS.update(status="read")
    assert recorded([ended(event, "dead")]) == (set(), set(), set())
    assert EVENTS.get().status == "read"
    assert DeliveryAttempt.objects.count() == 1


def test_of_a_row_that_is_gone_there_is_nothing_to_record() -> None:
    outcomes = [ended(event, "sent") for event in claimed(2)]
    EVENTS.filter(pk="n-0").delete()
    assert recorded(outcomes) == (ids(1), set(), set())
    assert DeliveryAttempt.objects.get().notification_id == "n-1"
    assert set(counted().values()) == {1}


def test_a_row_that_was_requeued_meanwhile_is_the_next_workers() -> None:
    [event] = claimed()
    EVENTS.update(leased_until=NOW - LEASE)
    EVENTS.all().requeue(by="ada", now=NOW)
    assert recorded([ended(event, "dead")]).written == set()
    assert EVENTS.get().status == "pending"
