"""A database that is stopped, crashes, throws everybody out, is read-only, or has no room left."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from notifications.endpoints.lanes import START
from tests.processes import eventually
from tests.receiver import HELD, HttpReceiver
from tests.reliability.disks import DISKS, Disk
from tests.reliability.support import (
    Child,
    Nursery,
    Report,
    Site,
    SlowReceiver,
    patience,
    settle_accounts,
)

SEED = 20260117
WORKERS = 4
ROWS = 250
READ_ONLY = "in a read-only transaction"
# The second where the reason did not come through before the connection was closed.
TERMINATED = (
    "terminating connection due to administrator command",
    "server closed the connection unexpectedly",
)
AWAY = "the database is away, next try in"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stops", "crashes"])
def test_a_server_that_ends_and_starts_again(
    how: signal.Signals, site: Site, nursery: Nursery, report: Report
) -> None:
    chance, ids = random.Random(SEED), set[str]()
    workers = several(nursery)
    with SlowReceiver(SEED) as receiver:
        for _ in range(2):
            ids |= site.insert(ROWS, receiver.url())
            patience(chance.uniform(0.1, 0.5))
            site.server.halt(how)
            patience(chance.uniform(0.2, 1.0))
            site.server.resume()
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report(f"a server that ended by {how.name} and started again, twice", account)
    assert account.lost == 0
    assert all(AWAY in worker.said for worker in workers)
    assert account.duplicates == 0, "what was in hand could have been recorded once the server was back"
    all_end_in_order(workers)


def test_connections_that_are_terminated(site: Site, nursery: Nursery, report: Report) -> None:
    chance, ids = random.Random(SEED), set[str]()
    workers = several(nursery)
    with SlowReceiver(SEED) as receiver:
        for _ in range(12):
            ids |= site.insert(ROWS // 3, receiver.url())
            patience(chance.uniform(0.0, 0.5))
            site.disconnect_all()
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report("connections terminated 12 times", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert all(any(words in worker.said for words in TERMINATED) for worker in workers)
    all_end_in_order(workers)


def test_a_database_that_becomes_read_only(site: Site, nursery: Nursery, report: Report) -> None:
    """What is in flight ends; nothing is begun, however often it is asked meanwhile."""
    workers = several(nursery)
    with SlowReceiver(SEED) as receiver:
        receiver.always(HELD)
        ids = site.insert(ROWS, receiver.url())
        receiver.wait_for(WORKERS * START)
        with read_only(site):
            they_have_tried(workers, 1)
            in_flight = len(receiver.ids)
            receiver.let_go()
            once = nursery.start("send_notifications")
            assert once.wait() == 1
            assert len(once.said.splitlines()) == 1, once.said
            assert READ_ONLY in once.said
            they_have_tried(workers, 4)
            assert len(receiver.ids) == in_flight, "sent what could not be recorded"
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report("a database that was read-only for a while", account)
    assert (account.lost, account.duplicates) == (0, 0)
    all_end_in_order(workers)


def they_have_tried(workers: list[Child], times: int) -> None:
    eventually(lambda: all(w.said.count(READ_ONLY) >= times for w in workers), "all workers say so")


@contextmanager
def read_only(site: Site) -> Iterator[None]:
    """As after a failover, for all who connect from now on; those who are connected are thrown out."""
    site.administer(f"ALTER DATABASE {site.name} SET default_transaction_read_only = on")
    site.disconnect_all()
    yield
    site.administer(f"ALTER DATABASE {site.name} RESET default_transaction_read_only")


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_without_room(disk: Disk, site: Site, nursery: Nursery, report: Report) -> None:
    with HttpReceiver() as receiver, disk(site) as (without_room, words):
        receiver.always(HELD)
        ids = site.insert(ROWS, receiver.url())
        workers = several(nursery)
        receiver.wait_for(1)
        with without_room():
            receiver.let_go()
            eventually(lambda: any(words in worker.said for worker in workers), "a worker says so")
            patience(1.0)
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
        all_end_in_order(workers)
    report(f"a database that was told '{words}' for a while", account)
    assert (account.lost, account.duplicates) == (0, 0)


def several(nursery: Nursery) -> list[Child]:
    """Workers that listen to signals."""
    workers = [nursery.start() for _ in range(WORKERS)]
    eventually(lambda: all("SIGTERM ends it" in worker.said for worker in workers), "workers that listen")
    return workers


def all_end_in_order(workers: list[Child]) -> None:
    for worker in workers:
        assert worker.code() is None, worker.said
        worker.send(signal.SIGTERM)
    for worker in workers:
        assert worker.wait() == 0
        assert "Traceback" not in worker.said
