"""What workers do with the queue: claim, record, release; and what is left when one of them dies.

A lease is leased_until on the row, by the database's clock. It is also the worker's token: whoever
records compares it, so a worker that comes back after its lease was taken away changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from . import deaths, tallies
from .batches import carried, dump
from .exceptions import status_code
from .models import INTERRUPTED_ERROR, DeliveryAttempt, NotificationEvent, Status, attempt_number
from .queryset import UNDELIVERED, NotificationQuerySet, tidy
from .tallies import Counted


class Claimed(NamedTuple):
    """A notification in a worker's hands: what an attempt needs to know of it, and no more.

    Not a model: making one and reading its times took as long as all else in a claim.
    """

    id: str
    type: str
    certificate_id: str | None
    channel: str
    recipient: str
    message: str
    status: str
    retry_count: int
    created_at: datetime
    leased_until: datetime

    @property
    def attempt_number(self) -> int:
        return attempt_number(self.retry_count)


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


def claim(due: NotificationQuerySet, count: int, *, now: datetime, lease: timedelta) -> list[Claimed]:
    """Take up to `count` of the notifications in `due`, in its order, for oneself until now + lease.

    Rows that another worker is claiming at this moment are passed over. Between looking and taking
    the rows are locked. A failed row's next_retry_at moves to the end of the lease, which hides it
    from a certctl that knows nothing of leases.
    """
    with transaction.atomic(using=due.db, durable=True):
        chosen = _skip_locked(due.filter(leased_until__isnull=True))
        ids = list(chosen.values_list("pk", flat=True)[:count])
        taken = {row.id: row for row in _take(ids, now + lease, due.db)} if ids else {}
    return [taken[pk] for pk in ids if pk in taken]


def still_held(ids: Sequence[str], lease: datetime, using: str) -> list[Claimed]:
    """Those of the notifications that are under this very lease and not delivered yet, oldest first."""
    rows = NotificationEvent.objects.using(using).filter(
        pk__in=ids, leased_until=lease, status__in=UNDELIVERED
    )
    names = [name for name in Claimed._fields if name != "leased_until"]
    return [Claimed._make((*row, lease)) for row in rows.order_by("created_at").values_list(*names)]


# A time as a number, where the database has a quick one: reading its text takes as long as all else.
HELD = [
    f"id, type, certificate_id, channel, recipient, message, status, retry_count, {created_at}"
    for created_at in ("CAST(created_at AS text)", "CAST(EXTRACT(EPOCH FROM created_at) AS double precision)")
]


def _take(ids: Sequence[str], until: datetime, using: str) -> list[Claimed]:
    connection = connections[using]
    lease = connection.ops.adapt_datetimefield_value(until)
    statement = f"""
        UPDATE notification_events SET leased_until = %s,
               next_retry_at = CASE WHEN status = 'failed' THEN %s ELSE next_retry_at END
         WHERE id IN (SELECT id FROM {carried(("id", "text"), using=using)}) AND leased_until IS NULL
        RETURNING {HELD[connection.vendor == "postgresql"]}
    """  # noqa: S608  (constants and placeholders only)
    with connection.cursor() as cursor:
        cursor.execute(statement, [lease, lease, dump({"id": pk} for pk in ids)])
        return [_claimed(row, until) for row in cursor.fetchall()]


def _claimed(row: tuple[Any, ...], until: datetime) -> Claimed:
    *values, created_at = row
    return Claimed._make((*values, moment(created_at), until))


def moment(at: float | str) -> datetime:
    """A time that Python's calendar does not reach (PostgreSQL's infinity) becomes its end: such a row
    must not keep the others from going out."""
    try:
        if isinstance(at, str):
            return datetime.fromisoformat(at).replace(tzinfo=UTC)
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def record(outcomes: Sequence[Outcome], *, now: datetime, worker: str, using: str) -> set[str]:
    """Write the outcomes of attempts and log them; answers the ids whose lease still stood.

    The others were reaped, requeued, deleted or finished by somebody else in the meantime: their
    rows keep what happened since.
    """
    if not outcomes:
        return set()
    with transaction.atomic(using=using, durable=True):
        recorded = _write(outcomes, now, worker, using)
        written = [o for o in outcomes if o.event.id in recorded]
        deaths.follow([o.event.id for o in written if o.status == Status.DEAD], now=now, using=using)
        counted = [
            Counted(o.channel, o.outcome, o.duration, (now - o.event.created_at).total_seconds())
            for o in written
        ]
        tallies.add(counted, now=now, using=using)
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


def _carry(outcomes: Sequence[Outcome], now: datetime, using: str) -> str:
    """The outcomes as the JSON text that `RECORDED` describes."""
    connection = connections[using]
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


def _write(outcomes: Sequence[Outcome], now: datetime, worker: str, using: str) -> set[str]:
    """The row's new state where its lease stands, and the attempt's row; answers the ids."""
    connection, table = connections[using], carried(*RECORDED, using=using)
    batch, at = _carry(outcomes, now, using), connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # which takes the batch apart only once then
            cursor.execute(SETTLE_AND_LOG.format(table), [batch, at, worker])
            return {pk for (pk,) in cursor.fetchall()}
        cursor.execute(SETTLE.format(table), [at, batch])
        recorded = {pk for (pk,) in cursor.fetchall()}
        written = [o for o in outcomes if o.event.id in recorded]
        cursor.execute(LOG.format(table), [worker, _carry(written, now, using)])
        return recorded


def release(events: Iterable[Claimed], *, due_at: datetime, using: str) -> int:
    """Give claimed rows back unattempted: due again at `due_at`, with nothing spent."""
    leases: dict[datetime | None, list[str]] = {}
    for event in events:
        leases.setdefault(event.leased_until, []).append(event.id)
    rows = NotificationEvent.objects.using(using).filter(status__in=UNDELIVERED)
    with transaction.atomic(using=using, durable=True):
        return sum(
            rows.filter(pk__in=ids, leased_until=lease, status=Status.PENDING).update(leased_until=None)
            + rows.filter(pk__in=ids, leased_until=lease, status=Status.FAILED).update(
                leased_until=None, next_retry_at=due_at
            )
            for lease, ids in leases.items()
        )


def reap(rows: NotificationQuerySet, *, now: datetime, max_attempts: int, limit: int) -> tuple[int, int]:
    """End the leases that ran out: (due again, dead).

    The lost attempt counts, so that a notification that kills its worker cannot do so for ever.
    """
    with transaction.atomic(using=rows.db, durable=True):
        over = rows.filter(leased_until__lte=now).order_by("leased_until")
        lost = list(_skip_locked(over)[:limit])
        waiting = [event for event in lost if event.status in UNDELIVERED]
        dying = [event.pk for event in waiting if event.retry_count >= max_attempts - 1]
        everything = NotificationEvent.objects.using(rows.db)
        mine = everything.filter(pk__in=[event.pk for event in lost], leased_until__lte=now)
        dead = mine.filter(pk__in=dying).update(
            status=Status.DEAD, leased_until=None, next_retry_at=None, last_error=INTERRUPTED_ERROR
        )
        again = mine.filter(status__in=UNDELIVERED).update(
            status=Status.FAILED,
            leased_until=None,
            next_retry_at=now,
            retry_count=F("retry_count") + 1,
            last_error=INTERRUPTED_ERROR,
        )
        # Another program finished these while we held them; only the lease is left over.
        mine.exclude(status__in=UNDELIVERED).update(leased_until=None)
        attempts = [DeliveryAttempt.interrupted(event) for event in waiting]
        DeliveryAttempt.objects.using(rows.db).bulk_create(attempts)
        deaths.follow(dying, now=now, using=rows.db)
        counted = [Counted(a.channel, a.outcome, a.duration_ms) for a in attempts]
        tallies.add(counted, now=now, using=rows.db)
    return again, dead


def bury(rows: NotificationQuerySet, *, now: datetime, max_attempts: int, limit: int) -> int:
    """Dead-letter the due rows that have no attempt left, so that no row waits for ever unseen."""
    spent = rows.spent(now, max_attempts).order_by("next_retry_at")
    with transaction.atomic(using=rows.db, durable=True):
        ids = [event.pk for event in _skip_locked(spent)[:limit]]
        mine = NotificationEvent.objects.using(rows.db).spent(now, max_attempts).filter(pk__in=ids)
        mine.filter(last_error__isnull=True).update(
            last_error="no attempt left: retry_count had reached the maximum"
        )
        dead = mine.update(status=Status.DEAD, next_retry_at=None, leased_until=None)
        deaths.follow(ids, now=now, using=rows.db)
    return dead


def schedule_stranded(rows: NotificationQuerySet, *, now: datetime, limit: int) -> int:
    """Make rows that another program left failed and unscheduled due now."""
    chosen = rows.stranded().filter(leased_until__isnull=True).order_by("created_at")[:limit]
    everything = NotificationEvent.objects.using(rows.db)
    return everything.stranded().filter(pk__in=chosen.values("pk")).update(next_retry_at=now)


def _skip_locked(rows: NotificationQuerySet) -> NotificationQuerySet:
    skip = connections[rows.db].features.has_select_for_update_skip_locked
    return rows.select_for_update(skip_locked=True) if skip else rows
