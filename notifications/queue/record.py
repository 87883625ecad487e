"""Write what became of attempts, where their lease still stands: row, history, counts, deaths."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import database
from ..database import carried, dump
from ..deaths.follow import follow
from ..exceptions import status_code
from ..models import NotificationEvent, Status
from ..text import tidy
from . import tallies
from .claim import Claimed
from .tallies import Counted


class Outcome(NamedTuple):
    """How one attempt ended, and what the row becomes.

    channel   as the settings spell it, where it is configured
    status    sent, failed or dead
    delay     until the next attempt, where status is failed
    error     the attempt's error, None where it succeeded
    duration  of the attempt, in milliseconds
    spent     whether it counts towards the budget; a probe that fails does not
    """

    event: Claimed
    channel: str
    status: str
    outcome: str
    started_at: datetime
    duration: int
    delay: timedelta | None = None
    error: str | None = None
    reason: str = ""
    status_code: int | None = None
    spent: bool = True


def record(outcomes: Sequence[Outcome], *, now: datetime, worker: str) -> set[str]:
    """Write the outcomes of attempts and log them; answers the ids whose lease still stood.

    The others were reaped, requeued, deleted or finished by somebody else in the meantime: their
    rows keep what happened since.
    """
    if not outcomes:
        return set()
    with database.atomic(durable=True):
        recorded = _write(outcomes, now, worker)
        written = [o for o in outcomes if o.event.id in recorded]
        dead = [o.event.id for o in written if o.status == Status.DEAD]
        follow(NotificationEvent.objects.all(), dead, now=now)
        counted = [
            Counted(o.channel, o.outcome, o.duration, (now - o.event.created_at).total_seconds())
            for o in written
        ]
        tallies.add(counted, now=now)
    return recorded


# What a row leaves out is NULL.
RECORDED = (
    ("id", "text"),
    ("lease", "timestamptz"),
    ("status", "text"),
    ("next_retry_at", "timestamptz"),
    ("number", "integer"),
    ("channel", "text"),
    ("started_at", "timestamptz"),
    ("duration_ms", "integer"),
    ("outcome", "text"),
    ("reason", "text"),
    ("status_code", "integer"),
    ("error", "text"),
    ("spared", "boolean"),
)


def _carry(outcomes: Sequence[Outcome], now: datetime) -> str:
    """The outcomes as the JSON text that `RECORDED` describes."""
    connection = database.connection()
    adapt = connection.ops.adapt_datetimefield_value
    leases = {o.event.leased_until: adapt(o.event.leased_until) for o in outcomes}
    return dump(
        {
            "id": o.event.id,
            "lease": leases[o.event.leased_until],
            "status": o.status,
            "number": o.event.attempt_number,
            "channel": o.channel,
            "started_at": adapt(o.started_at),
            "duration_ms": o.duration,
            "outcome": o.outcome,
            "status_code": status_code(o.status_code),
            **(_failure(o, now, connection) if o.error is not None else {}),
        }
        for o in outcomes
    )


def _failure(o: Outcome, now: datetime, connection: BaseDatabaseWrapper) -> dict[str, Any]:
    due = connection.ops.adapt_datetimefield_value(now + o.delay) if o.delay is not None else None
    said = {"reason": o.reason, "error": tidy(o.error), "next_retry_at": due}
    return said if o.spent else {**said, "spared": True}


# All rows in one statement, each compared with its own lease. What is sent although it has an error had no
# notifier. IS TRUE keeps the planner off the index of leases, where the rows of one claim are all the same:
# it would compare each outcome with every one.
SETTLE = """
    UPDATE notification_events SET leased_until = NULL,
           status = o.status,
           retry_count = retry_count + CASE WHEN o.status = 'failed' AND o.spared IS NULL THEN 1 ELSE 0 END,
           next_retry_at = o.next_retry_at,
           sent_at = CASE WHEN o.status = 'sent' THEN %s ELSE sent_at END,
           last_error = CASE WHEN o.status <> 'sent' THEN o.error ELSE last_error END,
           error = CASE WHEN o.status = 'sent' AND o.error IS NOT NULL THEN o.error
                        ELSE notification_events.error END
      FROM {}
     WHERE notification_events.id = o.id
       AND (notification_events.leased_until = o.lease) IS TRUE
       AND notification_events.status IN ('pending', 'failed')
    RETURNING notification_events.id
"""

# A bulk_create of models would take longer than everything else here.
LOG = """
    INSERT INTO notification_attempts (notification_id, number, channel, started_at, duration_ms,
                                       outcome, reason, status_code, error, worker)
    SELECT id, number, channel, started_at, duration_ms,
           outcome, COALESCE(reason, ''), status_code, error, %s
      FROM {}
"""

SETTLE_AND_LOG = f"""
    WITH o AS MATERIALIZED (SELECT * FROM {{}}),
         settled AS ({SETTLE.format("o")}),
         logged AS ({LOG.format("o JOIN settled USING (id)")})
    SELECT id FROM settled
"""  # noqa: S608  (constants and placeholders only)


def _write(outcomes: Sequence[Outcome], now: datetime, worker: str) -> set[str]:
    """The row's new state where its lease stands, and the attempt's row; answers the ids."""
    connection, table = database.connection(), carried(*RECORDED)
    batch, at = _carry(outcomes, now), connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # which takes the batch apart only once then
            cursor.execute(SETTLE_AND_LOG.format(table), [batch, at, worker])
            return {pk for (pk,) in cursor.fetchall()}
        cursor.execute(SETTLE.format(table), [at, batch])
        recorded = {pk for (pk,) in cursor.fetchall()}
        written = [o for o in outcomes if o.event.id in recorded]
        cursor.execute(LOG.format(table), [worker, _carry(written, now)])
        return recorded
