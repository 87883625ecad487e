"""Take due notifications for oneself until a deadline: the lease.

A lease is leased_until on the row, by the database's clock. It is also the worker's token: whoever
records compares it, so a worker that comes back after its lease was taken away changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from django.db.models import Field, Func, Model, QuerySet, Value
from django.db.models.functions import Left

from .. import database
from ..database import carried, dump, kind_of
from ..database.values import UnknownTime, known
from ..models import NotificationEvent, NotificationQuerySet, attempt_number
from ..models.conditions import DUE, ends
from ..models.events import LONGEST_MESSAGE
from ..models.fields import UNDELIVERED
from ..models.history import INTERRUPTED
from .batch import in_parts, not_refused, put_on_record
from .mend import mend

NOTHING_ANSWERED: Mapping[str, str] = MappingProxyType({})
# answered, opened, traced: what `recall`, `told` and such find out after the claim
NOTHING_TOLD: tuple[Mapping[str, str], tuple[str, ...], str] = (NOTHING_ANSWERED, (), "")
MOST_BYTES = 8 * 1024 * 1024  # of messages in one claim
Row = TypeVar("Row", bound=Model)


class Claimed(NamedTuple):
    """A notification in a worker's hands: what an attempt needs to know of it, and no more.

    Not a model: making one and reading its times took as long as all else in a claim.

    interrupted  how often its worker died while it was attempted: 3 for three times in a row, or more often
    due_at       since when it is due: when it was raised, or requeued
    not_after    when the certificate ends that it is about, where that is known
    answered     as in Message; recipients.py reads it
    opened       see `opened.told`
    traced       see `traces.recall`
    """

    id: str
    type: str
    certificate_id: str | None
    channel: str
    recipient: str
    message: str
    status: str
    retry_count: int
    interrupted: int
    created_at: datetime
    due_at: datetime
    leased_until: datetime
    not_after: datetime | None = None
    answered: Mapping[str, str] = NOTHING_ANSWERED
    opened: tuple[str, ...] = ()
    traced: str = ""

    @property
    def attempt_number(self) -> int:
        return attempt_number(self.retry_count)


class Claim(list[Claimed]):
    """What was claimed. full: more may be due, which this many bytes of messages left no room for."""

    full: bool = False


def claim(due: NotificationQuerySet, count: int, *, now: datetime, lease: timedelta) -> Claim:
    """Take up to `count` of the notifications in `due`, in its order, for oneself until now + lease.

    Rows that another worker is claiming at this moment are passed over. Between looking and taking
    the rows are locked. A failed row's next_retry_at moves to the end of the lease, which hides it
    from a certctl that knows nothing of leases. At most MOST_BYTES of messages are taken, or one. What the
    database refuses to lease is put on record and passed over.
    """
    free = due.filter(leased_until__isnull=True)
    try:
        return _claim(free, count, now=now, until=now + lease)
    except Exception as error:
        if kind_of(error) != "refused":
            raise
    free = not_refused(free, now)
    ids = list(free.values_list("pk", flat=True)[:count])
    these = partial(_claim_these, free, now=now, until=now + lease)
    parts = in_parts(ids, these, partial(_refused, now=now), "claim")
    claimed = Claim(row for part in parts for row in part)
    claimed.full = bool(claimed)
    return claimed


def _claim(free: NotificationQuerySet, count: int, *, now: datetime, until: datetime) -> Claim:
    with database.atomic(durable=True):
        mend(now=now)
        sized = list(skip_locked(free).values_list("pk", size_of_message())[:count])
        ids = within_bytes(sized, MOST_BYTES)
        taken = {row.id: row for row in _take(ids, until)} if ids else {}
    claimed = Claim(taken[pk] for pk in ids if pk in taken)
    claimed.full = len(ids) < len(sized)
    return claimed


def _claim_these(free: NotificationQuerySet, ids: Sequence[str], *, now: datetime, until: datetime) -> Claim:
    return _claim(free.filter(pk__in=ids), len(ids), now=now, until=until)


def _refused(pk: str, error: Exception, *, now: datetime) -> Claim:
    put_on_record(pk, "claim", error, now)
    return Claim()


def size_of_message() -> Func:
    """In bytes, as PostgreSQL knows it without reading the message. (Of an IntegerField Django would convert
    each value anew.)"""
    if database.is_postgresql():
        return Func("message", function="octet_length", output_field=Field())
    return Func("message", template="LENGTH(CAST(%(expressions)s AS BLOB))", output_field=Field())


def within_bytes(sized: Iterable[tuple[str, int]], most: int) -> list[str]:
    """The first of them, and as many more as have no more bytes together than that."""
    sized = list(sized)
    if sum(size for _, size in sized) <= most:
        return [pk for pk, _ in sized]
    ids, total = list[str](), 0
    for pk, size in sized:
        total += min(size, LONGEST_MESSAGE)
        if ids and total > most:
            break
        ids.append(pk)
    return ids


def still_held(ids: Sequence[str], lease: datetime) -> list[Claimed]:
    """Those of the notifications that are under this very lease and not delivered yet, oldest first."""
    rows = NotificationEvent.objects.filter(pk__in=ids, leased_until=lease, status__in=UNDELIVERED)
    names: list[Any] = [*Claimed._fields[: Claimed._fields.index("leased_until")], ends()]
    names[names.index("message")] = Left("message", LONGEST_MESSAGE + 1)
    names[names.index("interrupted")] = Value(0)
    names[names.index("due_at")] = DUE
    found = rows.order_by(DUE).values_list(*names)
    return [Claimed._make((*row[:-1], lease, row[-1], *NOTHING_TOLD)) for row in found]


# How often its worker died while it was attempted.
DEATHS = f"""CASE WHEN last_error LIKE '{INTERRUPTED} time and again:%%' THEN 3
                  WHEN last_error LIKE '{INTERRUPTED} again:%%' THEN 2
                  WHEN last_error LIKE '{INTERRUPTED}:%%' THEN 1 ELSE 0 END"""
# One character more than is delivered, so that it shows that the rest is cut.
# A time as a number, where the database has a quick one: reading its text takes as long as all else.
HELD = [
    f"""id, type, certificate_id, channel, recipient, substr(message, 1, {LONGEST_MESSAGE + 1}), status,
        retry_count, {DEATHS}, {time.format("created_at")}, {time.format("requeued_at")},
        (SELECT {time.format("known.not_after")} FROM notification_deadlines AS known
          WHERE known.notification_id = notification_events.id)"""  # noqa: S608  (constants only)
    for time in ("CAST({} AS text)", "CAST(EXTRACT(EPOCH FROM {}) AS double precision)")
]


def _take(ids: Sequence[str], until: datetime) -> list[Claimed]:
    connection = database.connection()
    lease = connection.ops.adapt_datetimefield_value(until)
    statement = f"""
        UPDATE notification_events SET leased_until = %s,
               next_retry_at = CASE WHEN status = 'failed' THEN %s ELSE next_retry_at END
         WHERE id IN (SELECT id FROM {carried(("id", "text"))}) AND leased_until IS NULL
        RETURNING {HELD[connection.vendor == "postgresql"]}
    """  # noqa: S608  (constants and placeholders only)
    with connection.cursor() as cursor:
        cursor.execute(statement, [lease, lease, dump({"id": pk} for pk in ids)])
        return [_claimed(row, until) for row in cursor.fetchall()]


def _claimed(row: tuple[Any, ...], until: datetime) -> Claimed:
    created_at, requeued_at, not_after = row[-3:]
    raised = time_of(created_at)
    due = raised if requeued_at is None else time_of(requeued_at)
    end = None if not_after is None else time_of(not_after)
    return Claimed._make((*row[:-3], raised, due, until, end, *NOTHING_TOLD))


def time_of(at: float | str) -> datetime:
    """The time that `HELD` reads so."""
    try:
        if isinstance(at, str):
            return known(datetime.fromisoformat(at).replace(tzinfo=UTC))
        return known(datetime.fromtimestamp(at, UTC))
    except (ValueError, OverflowError, OSError):
        return UnknownTime.of(str(at))


def skip_locked(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Those that nobody holds, held until the transaction ends; SQLite, with its one writer, ignores it."""
    return rows.select_for_update(skip_locked=True)
