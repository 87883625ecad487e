"""A site of its own for each test: a database on a server that may be stopped, and workers to kill."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from aiohttp import web

from tests import postgres
from tests.processes import ROOT, Process, eventually, hang_up
from tests.receiver import HttpReceiver, Request

# No answer takes so long here that it could be mistaken for none, nor an outcome to be recorded.
SEND_TIMEOUT = 20
LEASE = 40
SETTINGS = {
    "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": f"{SEND_TIMEOUT}s",
    "CERTCTL_NOTIFICATION_LEASE": f"{LEASE}s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": f"{LEASE - SEND_TIMEOUT}s",
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL": "1s",
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": "1s",
    "CERTCTL_NOTIFICATION_BACKOFF_BASE": "200ms",
    "CERTCTL_NOTIFICATION_MAX_ATTEMPTS": "30",
}
INSERT = """
    INSERT INTO notification_events (id, type, channel, recipient, message)
    SELECT gen_random_uuid()::text, 'ExpirationWarning', %s, %s, 'certificate ' || n || ' expires'
      FROM generate_series(1, %s) AS n
    RETURNING id
"""
OPEN = "SELECT count(*) FROM notification_events WHERE status <> 'sent' OR leased_until IS NOT NULL"
MISFORMED = """
    SELECT id, status FROM notification_events
     WHERE status NOT IN ('pending', 'sent', 'failed', 'dead', 'read')
        OR (status = 'failed') <> (next_retry_at IS NOT NULL)
        OR (status = 'sent') AND sent_at IS NULL
"""
UNKNOWN = """
    SELECT notification_id, count(*) FROM notification_attempts
     WHERE outcome IN ('unknown', 'interrupted') GROUP BY notification_id
"""
LATE = "SELECT notification_id, worker FROM notification_attempts WHERE outcome = 'unknown'"


@dataclass
class Site:
    """One migrated database, and the environment for processes that work on it."""

    server: postgres.Server
    name: str
    environment: dict[str, str]

    def url(self) -> str:
        return self.server.url.replace("/postgres?", f"/{self.name}?")

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: Any) -> Any:
        return self.query(statement, *values)[0][0]

    def administer(self, statement: str) -> None:
        """From another database of the server."""
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(statement)

    def insert(self, count: int, recipient: str, channel: str = "Webhook") -> set[str]:
        return {pk for (pk,) in self.query(INSERT, channel, recipient, count)}

    def disconnect_all(self) -> None:
        self.administer(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'"
        )

    def all_delivered(self, seconds: float = 90) -> None:
        eventually(lambda: self.value(OPEN) == 0, "every row sent and free", seconds)


class SlowReceiver(HttpReceiver):
    """Takes note of a request as it comes, and answers after a random moment."""

    def __init__(self, seed: int, longest: float = 0.1) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._longest = longest

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._handle(request)
        await asyncio.sleep(self._random.uniform(0, self._longest))
        return response


class Child(Process):
    """A process that the nursery forked."""

    def __init__(self, pid: int, log: Path, nursery: Nursery) -> None:
        self.pid = pid
        self.log = log
        self._nursery = nursery
        self._code: int | None = None

    def code(self) -> int | None:
        if self._code is None:
            self._code = self._nursery.order(poll=self.pid)
        return self._code

    def kill(self) -> None:
        if self.code() is None:
            self.end(signal.SIGKILL)


class Nursery:
    """The client of nursery.py."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.nursery"],
            env=dict(environment),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, *command: str, shift: float = 0.0) -> Child:
        log = self.folder / f"child-{len(self.children) + 1}.log"
        log.touch()
        pid = self.order(command=command or ["run_notifications"], log=str(log), shift=shift)
        child = Child(pid, log, self)
        self.children.append(child)
        return child

    def close(self) -> None:
        hang_up(self._process)


# What came of it


def sender(request: Request) -> int:
    """The pid of the nursery's child that sent this."""
    found = re.match(r"http://worker-(\d+)\.test/", request.json["data"]["url"])
    assert found, request.json
    return int(found[1])


@dataclass
class Account:
    """Every row of a site against every request of its endpoint."""

    rows: int
    arrivals: Counter[str]
    lost: int
    senders: dict[str, list[int]] = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        return sum(self.arrivals.values()) - len(self.arrivals)

    def __str__(self) -> str:
        return f"{self.rows} rows, {len(self.arrivals)} sent, {self.duplicates} duplicates, {self.lost} lost"

    def repeated(self) -> dict[str, list[int]]:
        return {pk: pids for pk, pids in self.senders.items() if len(pids) > 1}


Report = Callable[[str, Account], None]


def settle_accounts(site: Site, receiver: HttpReceiver, ids: Collection[str]) -> Account:
    """Compare the table with what arrived. Whatever may happen more than once, this must be so:

    every row is in one of its five states, on record as delivered no more often than it arrived (also by a
    worker that comes late), and every request carries its key.
    """
    assert site.query(MISFORMED) == []
    sent = site.query("SELECT notification_id FROM notification_attempts WHERE outcome = 'sent'")
    for request in receiver.requests:
        assert request.id == request.headers["Idempotency-Key"] == request.json["data"]["id"]
    arrivals = Counter(receiver.ids)
    assert Counter(pk for (pk,) in sent) <= arrivals
    assert set(arrivals) <= set(ids)
    kept = {pk for (pk,) in site.query("SELECT id FROM notification_events")}
    lost = len(set(ids) - set(arrivals)) + len(set(ids) - kept)
    return Account(len(ids), arrivals, lost)


def with_senders(account: Account, receiver: HttpReceiver) -> Account:
    for request in receiver.requests:
        account.senders.setdefault(request.id, []).append(sender(request))
    return account


def only_the_unknown_repeat(site: Site, account: Account) -> None:
    """A row arrives once, and once more at most for each attempt whose end its worker did not learn."""
    unknown = dict(site.query(UNKNOWN))
    for pk, arrived in account.arrivals.items():
        assert arrived <= 1 + unknown.get(pk, 0), f"{pk} arrived {arrived} times"


def only_the_dead_repeat(site: Site, account: Account, dead: Iterable[int]) -> None:
    """Each arrival but a row's last came from a worker that was killed and could not record it.

    Or from one that had no answer in time and says so: the machine may stand still for seconds.
    """
    late = set(
        site.query("SELECT notification_id, worker FROM notification_attempts WHERE outcome = 'unknown'")
    )
    explained, host = set(dead), socket.gethostname()
    for pk, pids in account.repeated().items():
        living = [pid for pid in pids[:-1] if pid not in explained and (pk, f"{host}:{pid}") not in late]
        assert not living, f"{pk} was sent by {pids}, and of all but the last {living} lived on"


def patience(seconds: float) -> None:
    """Let a random span pass: the moment of a fault is part of what is tested."""
    time.sleep(seconds)
