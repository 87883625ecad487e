"""What dead workers and other programs left behind, verb by verb."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection

from notifications.models import (
    INTERRUPTED_AGAIN,
    INTERRUPTED_ERROR,
    INTERRUPTED_OFTEN,
    DeliveryAttempt,
    Escalation,
    HandOver,
    NotificationEvent,
    Refusal,
    Tally,
)
from notifications.queue import reap as reaping
from notifications.queue.reap import SPENT_ERROR, bury, reap, schedule_stranded
from tests import factories
from tests.breakage import execute, refused_rows
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
TICK, DAY = timedelta(microseconds=1), timedelta(days=1)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


def lost(
    retry_count: int = 1, status: str = "failed", until: datetime = NOW, **fields: Any
) -> NotificationEvent:
    return factories.leased(until=until, status=status, retry_count=retry_count, **fields)


def reaped(rows: Any = None, limit: int = 10, now: datetime = NOW) -> tuple[int, int]:
    return reap(EVENTS.all() if rows is None else rows, now=now, max_attempts=5, limit=limit)


def states() -> dict[str, tuple[Any, ...]]:
    names = ("pk", "status", "retry_count", "next_retry_at", "leased_until")
    return {pk: rest for pk, *rest in EVENTS.values_list(*names)}  # type: ignore[misc]


@pytest.fixture
def escalated(configure: Configure) -> None:
    """What dies is raised on Email."""
    configure(
        CHANNELS={name: channel(Script()) for name in ("Webhook", "Email")},
        ESCALATION={"Webhook": "Email:ops"},
    )


# Ended leases


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_lease_that_ran_out_ends_and_its_attempt_counts(status: str) -> None:
    event = lost(status=status)
    assert reaped(now=NOW - TICK) == (0, 0)
    assert reaped() == (1, 0)
    assert states() == {event.pk: ["failed", 2, NOW, None]}
    attempt = DeliveryAttempt.objects.get()
    assert (attempt.outcome, attempt.number) == ("interrupted", 2)


def test_the_lost_attempt_may_be_the_last() -> None:
    events = [lost(n) for n in (3, 4, 5)]
    assert reaped() == (1, 2)
    assert states() == {
        events[0].pk: ["failed", 4, NOW, None],
        events[1].pk: ["dead", 4, None, None],
        events[2].pk: ["dead", 5, None, None],
    }
    assert DeliveryAttempt.objects.count() == 3


@pytest.mark.parametrize("retry_count", [1, 4])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, INTERRUPTED_ERROR),
        ("HTTP 503", INTERRUPTED_ERROR),
        (INTERRUPTED_ERROR, INTERRUPTED_AGAIN),
        (INTERRUPTED_AGAIN, INTERRUPTED_OFTEN),
        (INTERRUPTED_OFTEN, INTERRUPTED_OFTEN),
    ],
)
def test_it_says_how_often_its_worker_died(before: str | None, after: str, retry_count: int) -> None:
    lost(retry_count, last_error=before)
    reaped()
    assert EVENTS.get().last_error == after


@pytest.mark.parametrize("status", ["sent", "dead", "read"])
def test_what_another_program_finished_only_loses_its_lease(status: str) -> None:
    event = factories.notification(status, leased_until=NOW, retry_count=9)
    other = lost()
    assert reaped() == (1, 0)
    assert states()[event.pk] == [status, 9, None, None]
    assert DeliveryAttempt.objects.get().notification_id == other.pk


@pytest.mark.usefixtures("escalated")
def test_only_what_died_is_escalated_at_the_time_of_its_death() -> None:
    dying, _ = lost(4), lost(1)
    reaped()
    link = Escalation.objects.get()
    assert (link.notification_id, link.at) == (dying.pk, NOW)


def test_the_oldest_leases_first_and_no_more_than_asked() -> None:
    late, early = lost(until=NOW - TICK), lost(until=NOW - DAY)
    assert reaped(limit=1) == (1, 0)
    assert EVENTS.get(leased_until=None) == early
    assert reaped(EVENTS.exclude(pk=late.pk)) == (0, 0)


def test_of_many_each_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.queue.reap.PART", 2)
    for n in range(5):
        lost(retry_count=4 if n < 2 else 1)
    assert reaped() == (3, 2)
    assert EVENTS.filter(leased_until=None).count() == 5


def test_so_many_are_changed_in_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping, "PART", 2)
    ids, parts = [lost(id=f"n-{n}").pk for n in range(6)], list[list[str]]()

    def change(part: Sequence[str]) -> Counter[str]:
        parts.append(list(part))
        return Counter()

    reaping._changed(EVENTS.order_by("pk"), change, "reap", NOW, 5, ())
    assert parts == [ids[:2], ids[2:4], ids[4:5]]


def test_what_is_refused_is_not_touched_again() -> None:
    event = lost()
    Refusal.objects.create(notification=event, verb="reap", at=NOW, error="refused")
    assert reaped() == (0, 0)
    assert states()[event.pk][3] == NOW


def test_the_attempt_is_counted_at_the_time_of_the_sweep() -> None:
    lost()
    reaped()
    assert {tally.hour for tally in Tally.objects.all()} == {datetime(1970, 1, 1, tzinfo=UTC), NOW}


def test_what_sqlite_keeps_although_it_is_no_lease_is_mended_first() -> None:
    """PostgreSQL never takes it."""
    event = lost(until=NOW + DAY)
    if connection.vendor == "sqlite":
        odd = "leased_until = x'00', next_retry_at = 'soon', retry_count = 'many'"
        execute(f"UPDATE notification_events SET {odd}")
        assert reaped() == (0, 0)
        assert EVENTS.filter(status="failed", retry_count=0, next_retry_at=NOW).get() == event


# Leases that nobody took


@pytest.mark.parametrize(("year", "ends"), [(8999, False), (9000, True), (9999, True)])
def test_a_lease_that_would_never_end_is_nobodys(year: int, ends: bool) -> None:
    until = datetime(year, 1, 1, tzinfo=UTC)
    event, other = lost(until=until), lost(until=NOW + DAY)
    assert reaped(EVENTS.exclude(pk=event.pk)) == (0, 0)
    assert EVENTS.get(pk=event.pk).leased_until is not None
    assert reaped() == (0, 0)
    assert (EVENTS.get(pk=event.pk).leased_until is None) == ends
    assert EVENTS.get(pk=other.pk).leased_until == NOW + DAY
    assert not DeliveryAttempt.objects.exists()


def test_so_many_of_them_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping, "PART", 2)
    for _ in range(3):
        lost(until=NEVER)
    reaped()
    assert EVENTS.exclude(leased_until=None).count() == 1


# Waits that nothing ends


@pytest.mark.parametrize(("year", "due"), [(8999, False), (9000, True), (9999, True)])
def test_what_waits_for_a_time_that_never_comes_is_due_now(year: int, due: bool) -> None:
    never = datetime(year, 1, 1, tzinfo=UTC)
    event, other = factories.failed(due_at=never), factories.pending(next_retry_at=never)
    held = factories.failed(due_at=never, leased_until=NOW + DAY)
    assert reaped(EVENTS.exclude(pk=event.pk)) == (0, 0)
    assert not EVENTS.filter(next_retry_at=NOW).exists()
    assert reaped() == (0, 0)
    waits = dict(EVENTS.values_list("pk", "next_retry_at"))
    assert waits == {event.pk: NOW if due else never, other.pk: never, held.pk: never}


def test_who_waits_the_longest_is_first_and_what_is_refused_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaping, "PART", 1)
    late, early, refused = (
        factories.failed(due_at=datetime(y, 1, 1, tzinfo=UTC)) for y in (9999, 9500, 9000)
    )
    Refusal.objects.create(notification=refused, verb="schedule", at=NOW, error="refused")
    factories.failed(due_at=NOW + DAY)
    factories.failed(due_at=datetime(9000, 1, 1, tzinfo=UTC), leased_until=NOW + DAY)
    reaped()
    assert EVENTS.get(next_retry_at=NOW) == early
    reaped(EVENTS.exclude(pk=late.pk))
    assert EVENTS.get(next_retry_at=NOW) == early


# What the database refuses (more of it in test_refusals)


@pytest.mark.usefixtures("escalated")
def test_what_may_only_die_dies_at_the_time_of_the_sweep() -> None:
    event = lost()
    with refused_rows("NEW.status <> 'dead'", event="UPDATE"):
        assert reaped() == (0, 1)
    link = Escalation.objects.get()
    assert (link.notification_id, link.at) == (event.pk, NOW)


@pytest.mark.usefixtures("escalated")
def test_what_had_died_before_is_not_escalated_for_its_lease() -> None:
    event = factories.dead(leased_until=NOW)
    with refused_rows("NEW.status = 'dead'", event="UPDATE"):
        assert reaped() == (0, 0)
    assert Refusal.objects.get().notification_id == event.pk
    assert not Escalation.objects.exists()


def test_a_wait_that_may_not_be_ended_is_put_on_record() -> None:
    factories.failed(due_at=NEVER)
    with refused_rows("NEW.type <> ''", event="UPDATE"):
        reaped()
    refusal = Refusal.objects.get()
    assert (refusal.verb, refusal.at) == ("schedule", NOW)


# Batches that were handed over


def hand_over(lease: datetime, begun_at: datetime | None = None) -> None:
    HandOver.objects.create(leased_until=lease, notifications=1, handed_over_at=NOW, begun_at=begun_at)


def test_what_nobody_began_with_spends_nothing_and_is_due_now() -> None:
    lease, begun_lease = NOW - DAY / 2, NOW - TICK
    hand_over(lease)
    hand_over(begun_lease, begun_at=NOW)
    failed = lost(4, until=lease)
    pending = lost(0, "pending", until=lease, next_retry_at=NOW - DAY)
    sent = factories.sent(leased_until=lease)
    begun = lost(1, until=begun_lease)
    assert reaped() == (1, 0)
    assert states() == {
        failed.pk: ["failed", 4, NOW, None],
        pending.pk: ["pending", 0, NOW - DAY, None],
        sent.pk: ["sent", 0, None, None],
        begun.pk: ["failed", 2, NOW, None],
    }
    assert DeliveryAttempt.objects.get().notification_id == begun.pk


def test_a_batch_that_is_long_over_is_forgotten() -> None:
    hand_over(NOW - DAY)
    hand_over(NOW - DAY - TICK)
    reaped()
    assert HandOver.objects.get().leased_until == NOW - DAY


# Spent budgets


def buried(rows: Any = None, limit: int = 10) -> int:
    return bury(EVENTS.all() if rows is None else rows, now=NOW, max_attempts=5, limit=limit)


@pytest.mark.usefixtures("escalated")
def test_what_is_due_and_has_no_attempt_left_is_dead() -> None:
    spent = factories.failed(due_at=NOW, retry_count=5, leased_until=NOW, last_error="HTTP 503")
    left = factories.failed(due_at=NOW, retry_count=4)
    later = factories.failed(due_at=NOW + TICK, retry_count=5)
    assert buried() == 1
    assert states()[spent.pk] == ["dead", 5, None, None]
    assert EVENTS.get(pk=spent.pk).last_error == "HTTP 503"
    assert set(EVENTS.failed()) == {left, later}
    link = Escalation.objects.get()
    assert (link.notification_id, link.at) == (spent.pk, NOW)


def test_one_that_died_without_an_error_is_given_one() -> None:
    factories.failed(due_at=NOW, retry_count=5, last_error=None)
    assert buried() == 1
    assert EVENTS.get().last_error == SPENT_ERROR


def test_the_longest_due_is_buried_first() -> None:
    late = factories.failed(due_at=NOW, retry_count=5)
    early = factories.failed(due_at=NOW - DAY, retry_count=5)
    assert buried(limit=1) == 1
    assert EVENTS.dead().get() == early
    assert buried(EVENTS.exclude(pk=late.pk)) == 0
    Refusal.objects.create(notification=late, verb="bury", at=NOW, error="refused")
    assert buried() == 0


@pytest.mark.parametrize(("max_attempts", "dead"), [(3, 1), (4, 0)])
def test_the_budget_is_the_sites(max_attempts: int, dead: int) -> None:
    factories.failed(due_at=NOW, retry_count=3)
    assert bury(EVENTS.all(), now=NOW, max_attempts=max_attempts, limit=9) == dead
    assert EVENTS.dead().count() == dead


# Between the look and the change


CHANGES: dict[str, Callable[[list[str]], Counter[str]]] = {
    "reap": partial(reaping._reap, now=NOW, max_attempts=1),
    "bury": partial(reaping._bury, now=NOW, max_attempts=1),
    "schedule": partial(reaping._schedule, now=NOW),
    "schedule now": partial(reaping._schedule_now, now=NOW),
    "unlease": reaping._unlease,
}


@pytest.mark.parametrize("verb", CHANGES)
def test_what_became_another_since_it_was_looked_at_is_left_alone(verb: str) -> None:
    """Renewed, claimed, requeued or scheduled by somebody else: the guard looks again."""
    rows = [
        lost(until=NOW + DAY),
        factories.failed(due_at=NOW + TICK, retry_count=9),
        factories.pending(),
        factories.stranded(leased_until=NOW + DAY),
        factories.failed(due_at=NEVER, leased_until=NOW + DAY),
    ]
    before = list(EVENTS.order_by("pk").values_list())
    assert sum(CHANGES[verb]([row.pk for row in rows]).values()) == 0
    assert list(EVENTS.order_by("pk").values_list()) == before
    assert not DeliveryAttempt.objects.exists()


@pytest.mark.parametrize("verb", CHANGES)
def test_only_what_was_chosen_is_changed(verb: str) -> None:
    """Others may be another's to choose: of another channel, or beyond the limit."""
    factories.lost()
    factories.failed(due_at=NOW, retry_count=9)
    factories.stranded()
    factories.failed(due_at=NEVER)
    lost(until=NEVER)
    before = list(EVENTS.order_by("pk").values_list())
    assert sum(CHANGES[verb]([]).values()) == 0
    assert list(EVENTS.order_by("pk").values_list()) == before


# Stranded rows


def test_what_another_program_stranded_is_due_now() -> None:
    late = factories.stranded(created_at=NOW)
    early = factories.stranded(created_at=NOW - DAY)
    held = factories.stranded(leased_until=NOW + DAY)
    scheduled = factories.failed(due_at=NOW + DAY)
    assert schedule_stranded(EVENTS.all(), now=NOW, limit=1) == 1
    assert states()[early.pk] == ["failed", 0, NOW, None]
    assert schedule_stranded(EVENTS.exclude(pk=late.pk), now=NOW, limit=9) == 0
    Refusal.objects.create(notification=late, verb="schedule", at=NOW, error="refused")
    assert schedule_stranded(EVENTS.all(), now=NOW, limit=9) == 0
    assert set(EVENTS.filter(next_retry_at=None)) == {late, held}
    assert EVENTS.get(pk=scheduled.pk).next_retry_at == NOW + DAY
