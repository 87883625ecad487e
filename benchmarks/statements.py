"""Claiming and recording without sending, and the very same statements from bare psycopg."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from django.db import connection

from notifications.database import database_now
from notifications.delivery import due
from notifications.models import NotificationEvent, SweepKind
from notifications.queue.beside import GUARD
from notifications.queue.claim import Claimed, claim
from notifications.queue.record import Outcome, record

from . import world

BATCH = 200
CLOCK = "SELECT statement_timestamp()"
Statement = tuple[str, Any]


def claim_and_record(count: int, url: str) -> float:
    world.refill(count, url)
    with world.stopwatch() as seconds:
        for _ in range(count // BATCH):
            _record(_claim())
    return seconds[0]


def _claim() -> list[Claimed]:
    now = database_now()
    eligible = due(SweepKind.RETRY, NotificationEvent.objects.all(), now, 5)
    return claim(eligible, BATCH, now=now, lease=timedelta(minutes=2))


def _record(events: list[Claimed]) -> None:
    now = database_now()
    outcomes = [
        Outcome(
            event=event,
            channel="Webhook",
            status="sent",
            kind="sent",
            started_at=now,
            duration=5,
            status_code=200,
        )
        for event in events
    ]
    recorded = record(outcomes, now=now, worker="benchmark:1")
    assert len(recorded.written) == BATCH


def guarded(count: int, url: str) -> float:
    """The processor time of claim_and_record, here and in the server's process for this connection: other
    work on the machine disturbs it least."""
    world.refill(count, url)
    server = Path(f"/proc/{world.ask('SELECT pg_backend_pid()')}/schedstat")

    def spent() -> float:
        return int(server.read_text().split()[0]) / 1e9 + time.process_time()

    before = spent()
    for _ in range(count // BATCH):
        _record(_claim())
    return spent() - before


def unguarded(count: int, url: str) -> float:
    """The same, as if migration 0016 had made no trigger."""
    trigger = world.ask("SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = %s", [GUARD])
    world.execute(f"DROP TRIGGER {GUARD} ON notification_events")
    try:
        return guarded(count, url)
    finally:
        world.execute(trigger)


class Written(NamedTuple):
    """What PostgreSQL did for each of some rows: bytes of its log, rows written, statements, commits."""

    log: float
    rows: float
    statements: float
    commits: float

    def __str__(self) -> str:
        return (
            f"{self.log:,.0f} bytes of WAL, {self.rows:.2f} rows written,"
            f" {self.statements:.4f} statements and {self.commits:.4f} commits for each"
        )


def written(count: int, work: Callable[[], object]) -> Written:
    """What `work` on `count` rows writes. Nobody else may write meanwhile."""
    issued: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        issued.append(sql)
        return execute(sql, *rest)

    before = _counters()
    with connection.execute_wrapper(note):
        work()
    log, rows, commits = (after - was for after, was in zip(_counters(), before, strict=True))
    return Written(log / count, rows / count, len(issued) / count, commits / count)


def _counters() -> tuple[int, int, int]:
    world.execute("SELECT pg_stat_force_next_flush()")
    tables = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    database = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    log = "SELECT pg_current_wal_lsn() - '0/0'"
    return int(world.ask(log)), int(world.ask(tables)), int(world.ask(database))


def issued(count: int, url: str) -> list[list[Statement]]:
    """The statements of `claim_and_record`, a list for every transaction."""
    world.refill(count, url)
    transactions: list[list[Statement]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not connection.in_atomic_block or not transactions[-1:] or transactions[-1][0][0] == CLOCK:
            transactions.append([])
        transactions[-1].append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        for _ in range(count // BATCH):
            _record(_claim())
    return transactions


def replay(count: int, url: str, transactions: list[list[Statement]]) -> float:
    world.refill(count, url)
    database = psycopg.connect(
        os.environ["DATABASE_URL"], autocommit=True, cursor_factory=psycopg.ClientCursor
    )
    with database, world.stopwatch() as seconds:
        for statements in transactions:
            _replay(database, statements)
    if world.count("sent") != count:
        raise RuntimeError("the replay did something else")
    return seconds[0]


def _replay(database: psycopg.Connection[Any], statements: list[Statement]) -> None:
    with database.transaction(), database.cursor() as cursor:
        for sql, params in statements:
            cursor.execute(sql, params)
            if cursor.description:
                cursor.fetchall()
