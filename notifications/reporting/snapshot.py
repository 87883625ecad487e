"""How things stand, read once: the dashboard, /api/v1/stats/summary, /metrics and `notifications stats`
all show this snapshot, so that they cannot disagree.

A part that cannot be had is None, never an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

from django.db import transaction

from .. import database
from ..database import database_now
from ..models import SweepRun
from ..text import one_line
from . import held
from .channels import settings
from .contract import HOLD, SWEEP, fields
from .figures import Snapshot, Traffic
from .parts import DETAILS, PARTS, AsOf

logger = logging.getLogger(__name__)

PART_MILLISECONDS = 2_000


def snapshot(*, details: bool = True, now: datetime | None = None) -> Snapshot:
    """How things stand now. Raises nothing: when the database is away, every part is None.

    details  False leaves out parts.DETAILS, for those who look every few seconds
    now      the database's time, unless given
    """
    parts = [part for part in PARTS if details or part not in DETAILS]
    found: dict[str, Any] = {}
    try:
        with _one_view():
            as_of = AsOf(now or database_now())
            found["at"] = as_of.now
            for part in parts:
                found |= _guarded(part, as_of)
    except Exception as error:
        _report("all that is missing", error)
    return Snapshot(**found)


@contextmanager
def _one_view() -> Iterator[None]:
    """On PostgreSQL: all parts see the same state of the tables, none takes long, none reads the whole table.

    Everything is rolled back at the end, and with it the settings, where we are in somebody's transaction.
    SQLite has no such settings, and a transaction there would make writers wait.
    """
    connection = database.connection()
    if connection.vendor != "postgresql":
        yield
        return
    ours = not connection.in_atomic_block
    with database.atomic(), connection.cursor() as cursor:
        if ours:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Old planner statistics could make it look for few rows in the whole table.
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('enable_seqscan', 'off', true)",
            [str(PART_MILLISECONDS)],
        )
        yield
        transaction.set_rollback(True)


def _guarded(part: Callable[[AsOf], dict[str, Any]], as_of: AsOf) -> dict[str, Any]:
    """What the part found; {} when it failed or its turn came too late."""
    if time.monotonic() > as_of.deadline:
        return {}
    in_transaction = database.connection().in_atomic_block
    try:
        with database.atomic() if in_transaction else nullcontext():
            return part(as_of)
    except Exception as error:
        _report(part.__name__, error)
        return {}


def _report(what: str, error: Exception) -> None:
    logger.warning("statistics without %s: %s: %s", what, type(error).__name__, one_line(str(error)))


def summary(shown: Snapshot | None = None) -> dict[str, Any]:
    """The snapshot (a new one, unless given) as JSON for programs; what could not be had is left out."""
    shown = shown or snapshot()
    counts = shown.counts
    parts: dict[str, Any] = {
        "at": shown.at,
        **{f"notifications_{status}": count for status, count in (counts or {}).items()},
        "notifications_estimated": None if counts is None else sorted(shown.estimated),
        "notifications_stranded": shown.stranded,
        "notifications_probably_delivered": shown.probably_delivered,
        "notifications_in_grace": shown.in_grace,
        "beside": shown.beside,
        "notifications_not_delivered": shown.not_delivered,
        "notifications_refused": shown.refused,
        "notifications_died_last_hour": shown.died_last_hour,
        "notifications_dead_by_channel": shown.dead_by_channel,
        "oldest_due_seconds": None if shown.oldest_due is None else round(shown.oldest_due, 1),
        "last_sweep": shown.last_sweeps and {k: _sweep(run) for k, run in shown.last_sweeps.items()},
        "attempts": shown.attempts and {name: a.outcomes for name, a in shown.attempts.items()},
        "deliveries": shown.traffic and {name: _deliveries(t) for name, t in shown.traffic.items()},
        "holds": _holds(shown),
    }
    return {name: part for name, part in parts.items() if part is not None}


def _sweep(run: SweepRun | None) -> dict[str, Any] | None:
    return fields(run, SWEEP) if run else None


def _deliveries(traffic: Traffic) -> dict[str, Any]:
    return {
        "delivered": {channel: sum(counts) for channel, counts in traffic.delivered.items()},
        "failed": {channel: sum(counts) for channel, counts in traffic.failed.items()},
        "median_seconds": traffic.median and round(traffic.median, 2),
        "p95_seconds": traffic.p95 and round(traffic.p95, 2),
    }


def _holds(shown: Snapshot) -> list[dict[str, Any]] | None:
    if shown.holds is None or shown.at is None:
        return None
    limit = settings().hold_limit
    said = [(hold, held.in_words(hold, shown.at, limit)) for hold in shown.holds]
    return [fields(hold, HOLD) | {"endpoint": in_.name, "state": in_.state} for hold, in_ in said]
