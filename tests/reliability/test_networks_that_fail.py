"""Latency, resets, black holes and answers cut in half, between a worker and all that it speaks to."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from tests.reliability.proxy import BLACK_HOLE, HALF_CUT, HEALTHY, RESETS, Fault, Proxy
from tests.reliability.support import (
    Account,
    Nursery,
    Report,
    Site,
    SlowReceiver,
    only_the_unknown_repeat,
    patience,
    settle_accounts,
)

SEED = 20260117
ROWS = 60
FAULTS = {
    "latency": Fault(latency=0.5),
    "resets": RESETS,
    "a black hole": BLACK_HOLE,
    "half-cut answers": HALF_CUT,
}
BRIEF = {
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "2s",
    "CERTCTL_NOTIFICATION_LEASE": "5s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": "2s",
}
# New rows are found by the database's call alone; what it lost with a connection, the retry sweep finds.
CALLED = BRIEF | {"CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": "1h"}
WATCHDOG = 60  # seconds, in deploy/systemd/certctl-worker.service
FAILED = "SELECT count(*) FROM notification_attempts WHERE outcome <> 'sent' AND notification_id = ANY(%s)"
SLOW = "SELECT count(*) FROM notification_attempts WHERE duration_ms >= 1000 AND notification_id = ANY(%s)"


def test_between_worker_and_endpoint(site: Site, nurseries: Callable[..., Nursery], report: Report) -> None:
    nursery = nurseries(**BRIEF)
    workers = [nursery.start() for _ in range(2)]
    ids: dict[str, set[str]] = {}
    with SlowReceiver(SEED) as receiver, ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(receiver.port)) for name in FAULTS}
        for name, proxy in proxies.items():
            ids[name] = site.insert(ROWS, f"http://127.0.0.1:{proxy.port}/hook")
        receiver.wait_for(ROWS // 2)
        for name, proxy in proxies.items():
            proxy.fault = FAULTS[name]
            ids[name] |= site.insert(ROWS, f"http://127.0.0.1:{proxy.port}/hook")
        patience(4)
        for proxy in proxies.values():
            proxy.fault = HEALTHY
        site.all_delivered()
        account = settle_accounts(site, receiver, set().union(*ids.values()))
    only_the_unknown_repeat(site, account)
    for name, rows in ids.items():
        part = part_of(account, rows)
        report(f"{name} before an endpoint", part)
        assert part.lost == 0
        assert site.value(SLOW if name == "latency" else FAILED, list(rows)) > 0, f"{name} met no attempt"
    assert part_of(account, ids["latency"]).duplicates == 0
    assert [worker.end() for worker in workers] == [0, 0]


def part_of(account: Account, rows: set[str]) -> Account:
    arrivals = type(account.arrivals)({pk: n for pk, n in account.arrivals.items() if pk in rows})
    return replace(account, rows=len(rows), arrivals=arrivals, lost=len(rows - set(arrivals)))


def test_between_worker_and_database(
    site: Site, nurseries: Callable[..., Nursery], report: Report, tmp_path: Path
) -> None:
    chance, ids = random.Random(SEED), set[str]()
    with (
        SlowReceiver(SEED) as receiver,
        Proxy(site.server.folder / ".s.PGSQL.5432") as proxy,
        Systemd(tmp_path / "notify") as systemd,
    ):
        over_tcp = f"postgresql://postgres@127.0.0.1:{proxy.port}/{site.name}"
        nursery = nurseries(**CALLED, DATABASE_URL=over_tcp, NOTIFY_SOCKET=str(systemd.path))
        worker = nursery.start()
        for name, fault in FAULTS.items():
            ids |= site.insert(ROWS, receiver.url())
            patience(chance.uniform(0.1, 0.4))
            proxy.fault = fault
            ids |= site.insert(ROWS, receiver.url())
            patience(3)
            proxy.fault = HEALTHY
            since = time.monotonic()
            site.all_delivered()
            account = settle_accounts(site, receiver, ids)
            report(f"{name} before the database, over after {time.monotonic() - since:.0f} s", account)
            assert account.lost == 0
        only_the_unknown_repeat(site, account)
        assert worker.code() is None
        assert "the database is away" in worker.said
        assert "not listening for new rows" in worker.said
        assert systemd.longest_silence() < WATCHDOG / 2
        assert worker.end() == 0


class Systemd:
    """A service manager's socket: it takes note of when its service showed that it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Systemd:
        self._socket.bind(str(self.path))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while self._socket.recv(100):
            self.heard.append(time.monotonic())

    def longest_silence(self) -> float:
        moments = [*self.heard, time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(moments))
