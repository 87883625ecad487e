"""Taking due notifications: which, how many, how large, and what a worker then knows of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.database.values import UnknownTime
from notifications.models import (
    INTERRUPTED_AGAIN,
    INTERRUPTED_ERROR,
    INTERRUPTED_OFTEN,
    NotificationEvent,
    Refusal,
)
from notifications.models.conditions import DUE
from notifications.models.events import LONGEST_MESSAGE
from notifications.queue.claim import claim, size_of_message, still_held, time_of, within_bytes
from tests import factories
from tests.breakage import execute, refused_rows

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
LEASE, MINUTE, DAY = timedelta(minutes=2), timedelta(minutes=1), timedelta(days=1)
UNTIL = NOW + LEASE


def raised(count: int, **fields: Any) -> list[str]:
    """The ids, the oldest first, which is not the order that they were written in."""
    made = [factories.pending(id=f"n-{n}", created_at=NOW - n * MINUTE, **fields) for n in range(count)]
    return [event.pk for event in reversed(made)]


def oldest() -> Any:
    return EVENTS.pending().order_by("created_at")


def test_the_oldest_are_taken_in_order_and_others_are_left() -> None:
    ids = raised(5)
    EVENTS.filter(pk=ids[1]).update(leased_until=UNTIL)
    claimed = claim(oldest(), 3, now=NOW, lease=LEASE)
    assert [event.id for event in claimed] == [ids[0], ids[2], ids[3]]
    assert set(EVENTS.filter(leased_until=UNTIL).values_list("pk", flat=True)) == set(ids[:4])
    assert not claimed.full


def test_a_failed_row_is_hidden_from_a_certctl_that_knows_no_leases() -> None:
    factories.failed(due_at=NOW)
    factories.pending(next_retry_at=NOW)
    claim(EVENTS.order_by("status"), 10, now=NOW, lease=LEASE)
    assert list(EVENTS.order_by("status").values_list("next_retry_at", flat=True)) == [UNTIL, NOW]


def test_where_nothing_is_due_nothing_is_written() -> None:
    factories.sent()
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert claim(oldest(), 10, now=NOW, lease=LEASE) == []
    assert not [query for query in seen if "RETURNING" in query["sql"]]


def test_what_a_worker_knows_of_a_notification() -> None:
    event = factories.failed(
        due_at=NOW, retry_count=2, created_at=NOW - MINUTE, message="ü text", last_error="HTTP 503"
    )
    [claimed] = claim(EVENTS.all(), 1, now=NOW, lease=LEASE)
    assert claimed == (
        event.pk,
        event.type,
        event.certificate_id,
        event.channel,
        event.recipient,
        "ü text",
        "failed",
        2,
        0,
        NOW - MINUTE,
        NOW - MINUTE,
        UNTIL,
        None,
        {},
        (),
        "",
    )
    assert claimed.attempt_number == 3


def test_a_requeued_one_is_due_since_then() -> None:
    factories.pending(created_at=NOW - LEASE, requeued_at=NOW - MINUTE)
    [claimed] = claim(EVENTS.all(), 1, now=NOW, lease=LEASE)
    assert (claimed.created_at, claimed.due_at) == (NOW - LEASE, NOW - MINUTE)


@pytest.mark.parametrize(
    ("error", "times"),
    [(None, 0), ("HTTP 503", 0), (INTERRUPTED_ERROR, 1), (INTERRUPTED_AGAIN, 2), (INTERRUPTED_OFTEN, 3)],
)
def test_how_often_its_worker_died(error: str | None, times: int) -> None:
    factories.failed(last_error=error)
    assert claim(EVENTS.all(), 1, now=NOW, lease=LEASE)[0].interrupted == times


def test_what_sqlite_keeps_although_it_is_no_number_and_no_time_is_mended_first() -> None:
    """PostgreSQL never takes it."""
    event = factories.pending(next_retry_at=NOW)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE notification_events SET retry_count = 'many', next_retry_at = 'soon'")
    [claimed] = claim(EVENTS.all(), 1, now=NOW, lease=LEASE)
    assert claimed.retry_count == 0
    event.refresh_from_db()
    assert (event.retry_count, event.next_retry_at) == (0, NOW)


def test_what_may_not_be_leased_is_put_on_record_and_passed_over() -> None:
    for n in range(5):
        factories.pending(id=f"n-{n}", created_at=NOW - DAY + n * MINUTE, next_retry_at=NOW)
    if connection.vendor == "sqlite":
        execute("UPDATE notification_events SET next_retry_at = 'soon' WHERE id <> 'n-2'")
    with refused_rows("NEW.id = 'n-2'", event="UPDATE"):
        claims = [claim(oldest(), 4, now=NOW + n * MINUTE, lease=LEASE) for n in range(3)]
    assert [[event.id for event in claimed] for claimed in claims] == [["n-0", "n-1", "n-3"], ["n-4"], []]
    assert [claimed.full for claimed in claims] == [True, True, False]
    assert {event.leased_until for event in claims[0]} == {UNTIL}
    assert EVENTS.filter(leased_until=UNTIL, next_retry_at=NOW).count() == 3
    refusal = Refusal.objects.get()
    assert (refusal.notification_id, refusal.verb, refusal.at) == ("n-2", "claim", NOW), "tried once"
    assert "full" in refusal.error


# By their size


def test_a_message_counts_in_bytes() -> None:
    factories.pending(message="é" * 10)
    assert EVENTS.values_list(size_of_message()).get() == (20,)


def test_a_claim_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.queue.claim.MOST_BYTES", 25)
    ids = raised(3, message="x" * 10)
    first = claim(oldest(), 3, now=NOW, lease=LEASE)
    assert ([event.id for event in first], first.full) == (ids[:2], True)
    rest = claim(oldest(), 3, now=NOW, lease=LEASE)
    assert ([event.id for event in rest], rest.full) == (ids[2:], False)


@pytest.mark.parametrize(
    ("sizes", "most", "taken"),
    [
        ([], 10, 0),
        ([99], 10, 1),
        ([99, 0, 1], 10, 1),
        ([4, 6, 1], 10, 2),
        ([4, 7], 10, 1),
        ([LONGEST_MESSAGE * 9] * 3, 2 * LONGEST_MESSAGE, 2),
    ],
)
def test_as_many_as_have_no_more_bytes_together_and_always_one(
    sizes: list[int], most: int, taken: int
) -> None:
    ids = [f"n-{n}" for n in range(len(sizes))]
    assert within_bytes(zip(ids, sizes, strict=True), most) == ids[:taken]


# Handed over, and asked for again


def test_those_that_are_still_held_are_as_they_were_claimed_the_oldest_first() -> None:
    raised(3, message="x" * (LONGEST_MESSAGE + 9), requeued_at=NOW - LEASE)
    EVENTS.filter(pk="n-1").update(requeued_at=None)
    claimed = claim(EVENTS.order_by(DUE, "pk"), 3, now=NOW, lease=LEASE)
    assert {len(event.message) for event in claimed} == {LONGEST_MESSAGE + 1}
    held = still_held(["n-0", "n-1", "n-2"], UNTIL)
    assert sorted(held) == sorted(claimed)
    assert held[-1].id == "n-1"
    assert still_held(["n-2"], UNTIL) == [event for event in claimed if event.id == "n-2"]


def test_what_ended_meanwhile_is_not_held() -> None:
    ids = raised(4)
    claim(EVENTS.all(), 4, now=NOW, lease=LEASE)
    EVENTS.filter(pk=ids[0]).update(leased_until=UNTIL + LEASE)
    EVENTS.filter(pk=ids[1]).update(leased_until=None)
    EVENTS.filter(pk=ids[2]).update(status="sent")
    assert [event.id for event in still_held(ids, UNTIL)] == [ids[3]]


# Times as the claim reads them


@pytest.mark.parametrize("at", [1773576000.25, "2026-03-15 12:00:00.250000"])
def test_a_time_is_read_in_utc(at: float | str) -> None:
    found = time_of(at)
    assert found == NOW + timedelta(milliseconds=250)
    assert type(found) is datetime


@pytest.mark.parametrize("at", [float("inf"), float("-inf"), 1e18, float("nan"), "soon", "-infinity", ""])
def test_a_time_that_is_none_is_kept_as_it_was_stored(at: float | str) -> None:
    found = time_of(at)
    assert isinstance(found, UnknownTime)
    assert found.as_stored == str(at)
    assert found.tzinfo is UTC


@pytest.mark.parametrize("at", [-62135596800.0, "0001-01-01 00:00:00"])
def test_a_time_that_a_time_zone_takes_beyond_the_calendar_is_unknown(at: float | str) -> None:
    assert isinstance(time_of(at), UnknownTime)
