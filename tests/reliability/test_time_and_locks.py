"""A database that is away for longer than a lease, a worker that is stopped for longer, rows under lock."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest

from tests.processes import eventually
from tests.receiver import HELD
from tests.reliability.proxy import BLACK_HOLE, HEALTHY, Proxy
from tests.reliability.support import (
    Nursery,
    Report,
    Site,
    SlowReceiver,
    sender,
    settle_accounts,
    with_senders,
)

SEED = 20261125
LEASE = 6
IN_FLIGHT = 50  # at one endpoint
BRIEF = {
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "3s",
    "CERTCTL_NOTIFICATION_LEASE": f"{LEASE}s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": "2s",
}
LEASED = "SELECT count(*) FROM notification_events WHERE leased_until IS NOT NULL"
ENDED = """
    SELECT count(*) FROM notification_events WHERE leased_until < clock_timestamp() - interval '1 second'
"""
OPEN_BUT_ONE = "SELECT count(*) FROM notification_events WHERE status <> 'sent' AND id <> %s"
OVER = "SELECT leased_until < clock_timestamp() - interval '3 seconds' FROM notification_events WHERE id = %s"
BEGUN = "SELECT notification_id FROM notification_attempts WHERE worker LIKE %s AND started_at <= %s"
INTERRUPTED = "SELECT count(*) FROM notification_attempts WHERE outcome = 'interrupted'"

Away = Callable[[Site, Proxy], AbstractContextManager[None]]


@contextmanager
def stopped(site: Site, proxy: Proxy) -> Iterator[None]:
    site.server.halt(signal.SIGQUIT)
    try:
        yield
    finally:
        site.server.resume()


@contextmanager
def silent(site: Site, proxy: Proxy) -> Iterator[None]:
    proxy.fault = BLACK_HOLE
    try:
        yield
    finally:
        proxy.fault = HEALTHY


@pytest.mark.parametrize("away", [stopped, silent])
def test_a_database_that_is_away_for_longer_than_the_lease_has_nothing_sent_twice(
    away: Away,
    site: Site,
    nurseries: Callable[..., Nursery],
    report: Report,
) -> None:
    """What was in flight is answered meanwhile; it is recorded, and what waits goes on, under leases that are
    extended."""
    with SlowReceiver(SEED) as receiver, Proxy(site.server.folder / ".s.PGSQL.5432") as proxy:
        over_tcp = f"postgresql://postgres@127.0.0.1:{proxy.port}/{site.name}"
        worker = nurseries(**BRIEF, DATABASE_URL=over_tcp).start()
        ids = site.insert(40, receiver.url())
        site.all_delivered()
        receiver.always(HELD)
        ids |= site.insert(150, receiver.url())
        receiver.wait_for(60)
        with away(site, proxy):
            receiver.let_go()
            time.sleep(LEASE + 3)  # the lease itself is what has to pass
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
        assert worker.code() is None
        assert "the database is away" in worker.said
        assert worker.end() == 0
    report("a database away for longer than the lease", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert site.value(INTERRUPTED) == 0


def test_a_worker_that_wakes_sends_nothing_whose_lease_has_ended(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    nursery = nurseries(**BRIEF)
    with SlowReceiver(SEED, longest=0.4) as receiver:
        frozen = nursery.start()
        ids = site.insert(30, receiver.url())
        site.all_delivered()
        ids |= site.insert(60, receiver.url())
        receiver.wait_for(35)
        eventually(lambda: site.value(LEASED) >= 10, "rows in hand")
        frozen.send(signal.SIGSTOP)
        stopped_at = site.value("SELECT clock_timestamp()")
        in_hand = site.value(LEASED)
        other = nursery.start()
        site.all_delivered()
        before = [sender(request) for request in receiver.requests].count(frozen.pid)
        assert site.value(INTERRUPTED) > 0, "nothing was taken from it"
        frozen.send(signal.SIGCONT)
        ids |= (latest := site.insert(20, receiver.url()))
        site.all_delivered()
        other.end()
        ids |= (alone := site.insert(20, receiver.url()))
        site.all_delivered()
        account = with_senders(settle_accounts(site, receiver, ids), receiver)
        since = [request for request in receiver.requests if sender(request) == frozen.pid][before:]
        assert alone <= {request.id for request in since}, "it works again"
        assert frozen.end() == 0
    # What had begun may come through when it wakes; its attempt says when that was.
    begun = {pk for (pk,) in site.query(BEGUN, f"%:{frozen.pid}", stopped_at)}
    assert {request.id for request in since} <= latest | alone | begun, "it sent what it had lost"
    assert all(pids.count(frozen.pid) <= 1 for pids in account.senders.values())
    report(f"a worker that was stopped with {in_hand} rows in hand", account)
    assert account.lost == 0
    assert account.duplicates <= IN_FLIGHT
    assert all(pids[0] == frozen.pid or pk in begun for pk, pids in account.repeated().items())


def test_a_paused_machine_asks_before_it_sends(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    """Nobody else was there: what it holds is still its own, once the database said so."""
    nursery = nurseries(**BRIEF)
    with SlowReceiver(SEED, longest=0.4) as receiver:
        worker = nursery.start()
        ids = site.insert(150, receiver.url())
        receiver.wait_for(40)
        worker.send(signal.SIGSTOP)
        eventually(lambda: site.value(ENDED) > 0 and site.value(LEASED) == site.value(ENDED), "ended leases")
        worker.send(signal.SIGCONT)
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
        assert worker.end() == 0
    report("a machine that was paused for longer than the lease", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert site.value(INTERRUPTED) == 0


def test_a_row_that_another_program_locks_keeps_no_other_from_being_recorded(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    nursery = nurseries(**BRIEF)
    with SlowReceiver(SEED) as receiver, psycopg.connect(site.url()) as foreign:
        worker = nursery.start()
        ids = site.insert(40, receiver.url())
        site.all_delivered()
        receiver.always(HELD)
        ids |= site.insert(150, receiver.url())
        receiver.wait_for(60)
        locked = receiver.ids[-1]
        foreign.execute("SELECT 1 FROM notification_events WHERE id = %s FOR UPDATE", [locked])
        receiver.let_go()
        eventually(lambda: site.value(OPEN_BUT_ONE, locked) == 0, "all others are recorded", 30)
        eventually(lambda: site.value(OVER, locked), "the end of its lease")
        ids |= site.insert(20, receiver.url())
        eventually(lambda: site.value(OPEN_BUT_ONE, locked) == 0, "new ones go on")
        foreign.rollback()
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
        assert worker.end() == 0
    report("one row that another program locked for longer than the lease", account)
    assert account.lost == 0
    assert set(account.arrivals) == ids
    assert {pk for pk, count in account.arrivals.items() if count > 1} <= {locked}
    assert account.arrivals[locked] <= 2
