"""A worker that comes back after its lease was taken away: what it releases or renews is not its own."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from notifications.database import database_now
from notifications.models import NotificationEvent, Status
from notifications.queue.claim import Claimed, claim
from notifications.queue.reap import reap
from notifications.queue.release import release, renew
from tests import factories

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
LEASE = timedelta(minutes=2)


def taken(now: datetime, status: str) -> list[Claimed]:
    return claim(EVENTS.filter(status=status).order_by("created_at"), 10, now=now, lease=LEASE)


def held_by_another(status: str) -> tuple[list[Claimed], datetime]:
    """(what the late worker believes it holds, when the other's lease ends)."""
    begin = database_now()
    factories.notification(status, next_retry_at=begin if status == Status.FAILED else None)
    late = taken(begin, status)
    now = begin + LEASE
    assert reap(EVENTS.all(), now=now, max_attempts=5, limit=10) == (1, 0)
    assert len(taken(now, Status.FAILED)) == 1
    return late, now + LEASE


def snapshot() -> list[tuple[object, ...]]:
    return list(EVENTS.order_by("pk").values_list())


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_late_release_leaves_the_row_with_its_present_holder(status: str) -> None:
    late, until = held_by_another(status)
    before = snapshot()
    assert release(late, due_at=database_now()).rows == 0
    assert snapshot() == before
    assert EVENTS.get().leased_until == until


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_late_renewal_keeps_nothing(status: str) -> None:
    late, until = held_by_another(status)
    before = snapshot()
    assert renew(late, until + LEASE) == set()
    assert snapshot() == before


def test_a_late_release_gives_back_only_what_is_still_its_own() -> None:
    now = database_now()
    mine, lost = factories.pending(), factories.pending()
    late = taken(now, Status.PENDING)
    EVENTS.filter(pk=lost.pk).update(leased_until=now + 2 * LEASE)
    assert release(late, due_at=now).rows == 1
    assert set(EVENTS.filter(leased_until=None)) == {mine}


@pytest.mark.parametrize("status", [Status.SENT, Status.READ, Status.DEAD])
def test_what_another_program_finished_meanwhile_is_neither_released_nor_renewed(status: str) -> None:
    """It knows nothing of leases, so the lease still stands."""
    now = database_now()
    factories.pending()
    late = taken(now, Status.PENDING)
    EVENTS.update(status=status)
    before = snapshot()
    assert (release(late, due_at=now).rows, renew(late, now + 2 * LEASE)) == (0, set())
    assert snapshot() == before


def test_what_is_released_is_due_when_the_worker_says_and_a_pending_row_at_once() -> None:
    now = database_now()
    pending, failed = factories.pending(next_retry_at=now), factories.failed(due_at=now, retry_count=2)
    events = taken(now, Status.PENDING) + taken(now + timedelta(seconds=1), Status.FAILED)
    assert release(events, due_at=now + LEASE).rows == 2
    rows = {row.pk: (row.leased_until, row.next_retry_at, row.retry_count) for row in EVENTS.all()}
    assert rows == {pending.pk: (None, now, 0), failed.pk: (None, now + LEASE, 2)}


def test_a_worker_gives_back_and_renews_only_what_it_names() -> None:
    """Rows of one claim have one lease."""
    now = database_now()
    for _ in range(3):
        factories.pending()
    first, second, third = taken(now, Status.PENDING)
    assert release([first], due_at=now).rows == 1
    assert renew([second], now + 2 * LEASE) == {second.id}
    leases = dict(EVENTS.values_list("pk", "leased_until"))
    assert leases == {first.id: None, second.id: now + 2 * LEASE, third.id: now + LEASE}


def test_a_renewal_moves_the_lease_and_hides_a_failed_row_from_certctl_so_long() -> None:
    now = database_now()
    pending, failed = factories.pending(), factories.failed(due_at=now)
    events = taken(now, Status.PENDING) + taken(now + timedelta(seconds=1), Status.FAILED)
    untouched = factories.failed()
    until = now + 3 * LEASE
    assert renew(events, until) == {pending.pk, failed.pk}
    rows = {row.pk: (row.leased_until, row.next_retry_at) for row in EVENTS.all()}
    assert rows[pending.pk] == (until, None)
    assert rows[failed.pk] == (until, until)
    assert rows[untouched.pk] == (None, untouched.next_retry_at)
