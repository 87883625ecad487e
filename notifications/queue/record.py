"""Write what became of attempts, where their lease still stands: row, history, counts, deaths."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import database, signals
from ..database import PAUSES, carried, dump, kind_of
from ..deaths.follow import follow
from ..exceptions import status_code
from ..models import AttemptOutcome, NotificationEvent, Status, tallies
from ..models.tallies import Counted
from ..text import tidy
from . import recipients
from .batch import in_parts, put_on_record, reason_of
from .claim import NOTHING_ANSWERED, Claimed

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How one attempt ended, and what the row becomes.

    channel   as the settings spell it, where it is configured
    status    sent, failed or dead
    kind      the attempt's: sent, transient, … (AttemptOutcome)
    delay     until the next attempt, where status is failed
    error     the attempt's error, None where it succeeded
    duration  of the attempt, in milliseconds
    spent     whether it counts towards the budget; a probe that fails does not
    answered  of single addresses of the recipient, what became of them: as in DeliveryError
    """

    event: Claimed
    channel: str
    status: str
    kind: str
    started_at: datetime
    duration: int
    delay: timedelta | None = None
    error: str | None = None
    reason: str = ""
    status_code: int | None = None
    spent: bool = True
    answered: Mapping[str, str] = NOTHING_ANSWERED


class Recorded(NamedTuple):
    """What became of the outcomes, by the notifications' ids. Of all others the lease had ended.

    written    the row is what its outcome says
    locked     another program holds the row: nothing is written, and it can be tried again
    set_aside  the database refused it: the row is dead, or where not even that can be written, left alone
    """

    written: set[str]
    locked: set[str]
    set_aside: set[str]


def record(
    outcomes: Sequence[Outcome], *, now: datetime, worker: str, pauses: Sequence[float] = PAUSES
) -> Recorded:
    """Write the outcomes of attempts, and the attempts into the history.

    Rows that were reaped, requeued or finished by somebody else in the meantime keep what happened since;
    of them only the attempt is put on record. The same outcome twice is one.

    pauses  seconds before each new try where others are in the way
    """
    parts = in_parts(
        outcomes,
        partial(_record, now=now, worker=worker),
        partial(_set_aside, now=now, worker=worker),
        "recording",
        pauses,
    )
    return Recorded(*(set().union(*sets) for sets in zip(*parts, strict=True))) if parts else NOTHING


NOTHING = Recorded(set(), set(), set())


def _record(outcomes: Sequence[Outcome], *, now: datetime, worker: str) -> Recorded:
    with database.atomic(durable=True):
        ids = _settle(outcomes, now, worker)
        written = [o for o in outcomes if o.event.id in ids]
        rest = [o for o in outcomes if o.event.id not in ids]
        locked, late, again = _not_settled(rest, now, worker) if rest else (set(), set(), set())
        if answered := {o.event.id: o.answered for o in outcomes if o.answered and o.event.id in ids | late}:
            recipients.remember(answered, now=now)
        dead = [o.event.id for o in written if o.status == Status.DEAD]
        follow(NotificationEvent.objects.all(), dead, now=now)
        if signals.delivered.receivers:
            sent = [o.event.id for o in written if o.kind == AttemptOutcome.SENT]
            signals.tell_of(signals.delivered, NotificationEvent.objects.all(), sent)
        counted = [
            Counted(o.channel, o.kind, o.duration, (now - o.event.due_at).total_seconds())
            for o in outcomes
            if o.event.id in ids or o.event.id in late
        ]
        tallies.add(counted, now=now)
    return Recorded(ids | again, locked, set())


def _set_aside(outcome: Outcome, error: Exception, *, now: datetime, worker: str) -> Recorded:
    """In plain words, so that it can be written: a delivery stays one, and all else is dead."""
    pk, reason = outcome.event.id, reason_of(error)
    plain = outcome._replace(
        channel=outcome.event.channel, reason="", delay=None, status_code=None, answered=NOTHING_ANSWERED
    )
    died = plain._replace(status=Status.DEAD, error=reason)
    tries = [died]
    if outcome.status == Status.SENT:
        died = died._replace(error=f"it was delivered, but {reason}")
        tries = [plain._replace(error=None), died]
    for which in tries:
        try:
            recorded = _record([which], now=now, worker=worker)
        except Exception as fault:
            if kind_of(fault) != "refused":
                raise
            error = fault
            continue
        if which is not died:
            return recorded
        logger.error("notification %s is dead: %s", pk, died.error)
        return Recorded(set(), recorded.locked, recorded.written)
    put_on_record(pk, "record", error, now)
    return Recorded(set(), set(), {pk})


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
            "outcome": o.kind,
            "status_code": status_code(o.status_code),
            **(_failure(o, now, connection) if o.error is not None else _success(o)),
        }
        for o in outcomes
    )


def _success(o: Outcome) -> dict[str, Any]:
    return {"reason": o.reason} if o.reason else {}


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

# What others hold locked is passed over. The UPDATE compares the leases again: the lock is as of now, what it
# reads as of its beginning.
SETTLE_AND_LOG = f"""
    WITH o AS MATERIALIZED (SELECT * FROM {{}}),
         free AS MATERIALIZED (
           SELECT held.id FROM notification_events AS held JOIN o ON held.id = o.id
            WHERE (held.leased_until = o.lease) IS TRUE AND held.status IN ('pending', 'failed')
              FOR NO KEY UPDATE OF held SKIP LOCKED),
         settled AS ({SETTLE.format("o JOIN free USING (id)")}),
         logged AS ({LOG.format("o JOIN settled USING (id)")})
    SELECT id FROM settled
"""  # noqa: S608  (constants and placeholders only)

# Which rows stand as they were claimed although they were not settled: others hold them. The rest changed.
STANDING = """
    SELECT held.id, (held.leased_until = o.lease) IS TRUE AND held.status IN ('pending', 'failed')
      FROM {} JOIN notification_events AS held ON held.id = o.id
"""

LOG_LATE = f"""
    {LOG.format("{}")}
     WHERE NOT EXISTS (SELECT 1 FROM notification_attempts AS known
                        WHERE known.notification_id = o.id AND known.started_at = o.started_at
                          AND known.worker = %s)
    RETURNING notification_id
"""  # noqa: S608  (constants and placeholders only)


def _settle(outcomes: Sequence[Outcome], now: datetime, worker: str) -> set[str]:
    """The row's new state where its lease stands, and the attempt's row; answers the ids."""
    connection, table = database.connection(), carried(*RECORDED)
    batch, at = _carry(outcomes, now), connection.ops.adapt_datetimefield_value(now)
    if connection.vendor == "postgresql":  # which takes the batch apart only once then
        return {pk for (pk,) in _rows(SETTLE_AND_LOG.format(table), [batch, at, worker])}
    recorded = {pk for (pk,) in _rows(SETTLE.format(table), [at, batch])}
    written = [o for o in outcomes if o.event.id in recorded]
    with connection.cursor() as cursor:
        cursor.execute(LOG.format(table), [worker, _carry(written, now)])
    return recorded


def _not_settled(
    outcomes: Sequence[Outcome], now: datetime, worker: str
) -> tuple[set[str], set[str], set[str]]:
    """(those that others hold locked, those whose attempt is on record now although their lease had ended,
    those that this worker had recorded before)."""
    table = carried(*RECORDED)
    standing = dict(_rows(STANDING.format(table), [_carry(outcomes, now)]))
    locked = {pk for pk, stands in standing.items() if stands}
    changed = [o for o in outcomes if o.event.id in standing.keys() - locked]
    if not changed:
        return locked, set(), set()
    late = {pk for (pk,) in _rows(LOG_LATE.format(table), [worker, _carry(changed, now), worker])}
    return locked, late, {o.event.id for o in changed} - late


def _rows(statement: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with database.connection().cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
