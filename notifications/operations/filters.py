"""Which notifications: the vocabulary that the admin, the command line, REST and MCP share.

A surface may spell a filter in its own way. What it means is said here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial, reduce
from operator import or_
from typing import Any
from urllib.parse import urlencode

from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.db.models.lookups import Contains, Exact
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.text import smart_split, unescape_string_literal

from ..database import is_postgresql
from ..deaths.fingerprints import BLANK, NOTHING, WORDS, pattern
from ..endpoints.outages import endpoint_of
from ..exceptions import BLAMING
from ..models import (
    BulkOperation,
    DeliveryAttempt,
    NotificationEvent,
    NotificationQuerySet,
    OperationKind,
    Outage,
    Reading,
    Requeue,
    Status,
)
from ..models.fields import Folded
from ..notifiers.endpoint import going_to
from ..text import TRACEBACK, fold

RETRYING, STRANDED = "retrying", "stranded"  # the two kinds of failed
PROBABLY_DELIVERED = "probably_delivered"  # a kind of stranded: an e-mail of certctl's
NOT_DELIVERED = "not_delivered"  # a kind of sent: the channel had no notifier
DISMISSED, SEEN, WITHDRAWN = "dismissed", "seen", "withdrawn"  # the three kinds of read
REFUSED = "refused"  # a kind of undelivered: the database takes no change of it
STATUSES = (
    *(*Status.values, RETRYING, STRANDED, PROBABLY_DELIVERED),
    *(NOT_DELIVERED, DISMISSED, SEEN, WITHDRAWN, REFUSED),
)
# "" means any of them.
STORED = {
    **dict.fromkeys((RETRYING, STRANDED, PROBABLY_DELIVERED), Status.FAILED),
    NOT_DELIVERED: Status.SENT,
    **dict.fromkeys((DISMISSED, SEEN, WITHDRAWN), Status.READ),
    REFUSED: "",
}
REDRIVE = "redrive"  # the surface, so to speak, of what is requeued by itself
TEXTS = ("recipient", "certificate_id", "message", "error", "last_error")
WHOLE = ("pk", "certificate_id", "recipient")  # what an index finds as it is written
AGES = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
    "over7d": ("Older than 7 days", timedelta(days=7)),
    "over30d": ("Older than 30 days", timedelta(days=30)),
}


class Meaningless(ValueError):
    """A value that its filter does not know. name: the filter, as it was spelled."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


@dataclass(frozen=True)
class Filters:
    """What notifications must have in common; what is empty asks nothing.

    status      one of STATUSES
    channel     in any case; type, certificate_id and recipient exactly
    search      a whole id, certificate or recipient, where there is one; else every word, somewhere in TEXTS
    error       part of the error that it waits or died with, in any case
    alike       that error's fingerprint
    since       when it was raised, as is until
    dead_since  when a dead letter died
    outage      the number of what a dead letter died of
    operation   the number of what changed it, with many others
    redriven    "no": never requeued by itself
    left_by     the numbers of those that could have changed it, with many others, and did not
    """

    ids: tuple[str, ...] = ()
    status: str = ""
    channel: str = ""
    type: str = ""
    certificate_id: str = ""
    recipient: str = ""
    search: str = ""
    error: str = ""
    alike: str = ""
    since: datetime | None = None
    until: datetime | None = None
    dead_since: datetime | None = None
    outage: int | None = None
    operation: int | None = None
    redriven: str = ""
    left_by: tuple[int, ...] = ()

    @cached_property
    def exact(self) -> dict[str, str] | None:
        """The id, the certificate or the recipient that is searched for, where there is such a thing."""
        value = self.search.strip()
        known = [{name: value} for name in WHOLE] if value else []
        return next((which for which in known if NotificationEvent.objects.filter(**which).exists()), None)

    @property
    def addressee(self) -> str:
        """The one recipient that is meant, by its own filter or by the search; "" where any is."""
        return self.recipient or (self.exact or {}).get("recipient", "")

    @cached_property
    def outage_on_record(self) -> Outage | None:
        """The outage; None also where that is not on record."""
        found: Outage | None = Outage.objects.filter(pk=self.outage).first() if self.outage else None
        return found

    @cached_property
    def operation_on_record(self) -> BulkOperation | None:
        found: BulkOperation | None = BulkOperation.objects.filter(pk=self.operation or 0).first()
        return found

    @property
    def of_the_dead(self) -> bool:
        """They ask of what nothing but a dead letter did: to die."""
        return bool(self.outage or self.dead_since)

    @property
    def query(self) -> str:
        """As a query string that `of_query` reads, all but the ids."""
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ids"}
        return urlencode({name: _written(value) for name, value in said.items() if value})


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.isoformat() if isinstance(value, datetime) else value


# From what a surface was told


def of_query(query: str, now: datetime) -> Filters:
    """What a query string means; the last value counts, and other names are not ours. Raises Meaningless."""
    return parse(QueryDict(query).dict(), now)


def parse(given: Mapping[str, Any], now: datetime) -> Filters:
    """The filters among what was given, texts or values. `age` is counted from `now`. Raises Meaningless."""
    said: dict[str, Any] = {}
    for name, value in given.items():
        field = SPELLINGS.get(name, name)
        if value and field in READERS:
            try:
                said[field] = READERS[field](value)
            except (ValueError, UnicodeEncodeError) as error:
                raise Meaningless(name, str(error)) from error
    if age := said.pop("age", None):
        edge = now - AGES[age][1]
        name, nearest = ("until", min) if age.startswith("over") else ("since", max)
        said[name] = nearest(edge, said.get(name, edge))
    return Filters(**said)


def _text(value: Any) -> str:
    text = str(value)
    text.encode()  # a half of a character is in no database
    if "\x00" in text:
        raise ValueError("A text has no NUL character in it.")
    return text


def _one_of(*known: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in known:
            raise ValueError(f"{str(value)!r} is not one of {', '.join(known)}.")
        return str(value)

    return read


def _time(value: Any) -> datetime:
    at = value if isinstance(value, datetime) else parse_datetime(_text(value))
    if at is None:
        raise ValueError(f"{value!r} is not a time.")
    at = at if timezone.is_aware(at) else timezone.make_aware(at)
    try:
        at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} is beyond the calendar.") from None
    return at


def _number(value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(f"{text!r} is not a number.")
    return int(text)


READERS: Mapping[str, Callable[[Any], Any]] = {
    "ids": lambda value: tuple(map(_text, value)),
    "status": _one_of(*STATUSES),
    **dict.fromkeys(("channel", "type", "certificate_id", "recipient", "search", "error", "alike"), _text),
    "age": _one_of(*AGES),
    **dict.fromkeys(("since", "until", "dead_since"), _time),
    **dict.fromkeys(("outage", "operation"), _number),
    "redriven": _one_of("no"),
    "left_by": lambda value: tuple(map(_number, str(value).split(","))),
}
SPELLINGS = {"certificate": "certificate_id", "q": "search"}


# To the rows


def matching(filters: Filters, rows: NotificationQuerySet | None = None) -> NotificationQuerySet:
    """Of the rows, all unless given, those that the filters mean.

    rows  few enough to be looked through: an index that has all of a type in history is not asked
    """
    of_type = Q(type=filters.type) if rows is None else Q(Exact(Coalesce("type", Value("")), filters.type))
    rows = raised_within(filters, NotificationEvent.objects.all() if rows is None else rows)
    rows = of_status(rows, filters.status)
    if filters.type:
        rows = rows.filter(of_type)
    for name in ("certificate_id", "recipient"):
        if value := getattr(filters, name):
            rows = rows.filter(**{name: value})
    if filters.ids:
        rows = rows.filter(pk__in=filters.ids)
    if filters.channel:
        rows = rows.on_channel(filters.channel)
    if filters.error:
        rows = with_problem(rows).filter(problem__icontains=filters.error)
    if filters.alike:
        rows = alike(rows, filters.alike)
    if filters.dead_since:
        rows = died_since(rows, filters.dead_since)
    if filters.outage:
        rows = died_of(rows, filters.outage_on_record) if filters.outage_on_record else rows.none()
    if filters.operation:
        rows = rows.filter(changed_by(filters.operation_on_record))
    if filters.redriven:
        rows = not_redriven(rows)
    if filters.left_by:
        rows = not_changed_by(rows, filters.left_by)
    return _searched(rows, filters) if filters.search else rows


def of_status(rows: NotificationQuerySet, status: str) -> NotificationQuerySet:
    """One of STATUSES; "" means any."""
    if status == STRANDED:
        return rows.stranded()
    if status == RETRYING:
        return rows.failed().exclude(next_retry_at__isnull=True)
    if status == PROBABLY_DELIVERED:
        return rows.probably_delivered()
    if status == NOT_DELIVERED:
        return rows.not_delivered()
    if status == DISMISSED:
        return rows.dismissed()
    if status == SEEN:
        return rows.seen()
    if status == WITHDRAWN:
        return rows.withdrawn()
    if status == REFUSED:
        return rows.refused()
    return rows.filter(status=status) if status else rows


def raised_within(filters: Filters, rows: NotificationQuerySet) -> NotificationQuerySet:
    """What the filters say about when: an index knows."""
    if filters.since:
        rows = rows.filter(created_at__gte=filters.since)
    if filters.until:
        rows = rows.filter(created_at__lte=filters.until)
    return before_the_end(rows, filters.outage_on_record) if filters.outage_on_record else rows


def before_the_end(rows: NotificationQuerySet, outage: Outage) -> NotificationQuerySet:
    """What was raised later cannot have died of it."""
    return rows.filter(created_at__lte=outage.ended_at) if outage.ended_at else rows


def _searched(rows: NotificationQuerySet, filters: Filters) -> NotificationQuerySet:
    if filters.exact is not None:
        return rows.filter(**filters.exact)
    for word in _words(filters.search):
        rows = rows.filter(reduce(or_, (_says(field, word) for field in TEXTS)))
    return rows


def _says(field: str, word: str) -> Q:
    """In any case: for a word in ASCII that of ASCII letters, which takes PostgreSQL half the time."""
    return Q(Contains(Folded(field), fold(word))) if word.isascii() else Q(**{f"{field}__icontains": word})


def _words(value: str) -> list[str]:
    """Split at blanks, but for "quoted words"."""
    quoted = [bit[0] in "\"'" and len(bit) > 1 and bit[0] == bit[-1] for bit in smart_split(value)]
    return [unescape_string_literal(b) if q else b for b, q in zip(smart_split(value), quoted, strict=True)]


def with_problem(rows: NotificationQuerySet) -> Any:
    """problem: the error that a notification waits or died with."""
    return rows.annotate(problem=Coalesce("last_error", "error"))


def alike(rows: NotificationQuerySet, print_: str) -> NotificationQuerySet:
    """The rows whose error has this fingerprint."""
    if len(print_.split(" ")) > WORDS:
        return rows.none()
    if print_ == NOTHING:
        same = Q(problem__isnull=True) | Q(problem__regex=rf"\A[{BLANK}]*\Z")
    else:
        said, begins = partial(pattern, print_, atomic=not is_postgresql()), Q(problem__startswith=TRACEBACK)
        same = begins & Q(problem__regex=said()) | ~begins & Q(problem__regex=said(traceback=False))
    found: NotificationQuerySet = with_problem(rows).filter(same)
    return found


def died_since(rows: NotificationQuerySet, when: datetime) -> NotificationQuerySet:
    """A dead letter dies on its last attempt; without one on record, it cannot be older than itself."""
    attempts = DeliveryAttempt.objects.filter(notification=OuterRef("pk"), started_at__gte=when)
    return rows.dead().filter(Q(Exists(attempts)) | Q(created_at__gte=when))


def died_of(rows: NotificationQuerySet, outage: Outage) -> NotificationQuerySet:
    """Of `rows`, the dead whose last attempt began within the outage, and failed because of the endpoint.

    Those that were requeued since, or dismissed, are none of them.
    """
    newest = DeliveryAttempt.objects.filter(notification=OuterRef("pk")).order_by("-started_at", "-id")
    within = Q(started_at__gte=outage.since, reason__in=BLAMING)
    if outage.ended_at:
        within &= Q(started_at__lte=outage.ended_at)
    # Asked once for a row: when the newest was, where it is one of these.
    killed_at = newest.annotate(killed_at=Case(When(within, then=F("started_at")))).values("killed_at")
    requeued = Requeue.objects.filter(
        notification=OuterRef("pk"), at__gte=OuterRef("killed_at"), undone_at__isnull=True
    )
    mine: Any = before_the_end(rows.dead().filter(going_to([endpoint_of(outage)])), outage)
    mine = mine.alias(killed_at=Subquery(killed_at[:1])).filter(killed_at__isnull=False)
    found: NotificationQuerySet = mine.exclude(Exists(requeued))
    return found


def changed_by(operation: BulkOperation | None) -> Q:
    """What an operation changed, and nobody took back since; of one that takes back, what nobody decided on
    since. Nothing of an unknown one."""
    if operation is None:
        return Q(pk__in=[])
    records = decisions_of(operation)
    if operation.undoes_id:
        records = records.filter(undo=operation.pk)
        for model in (Requeue, Reading):
            same = model.objects.filter(notification=OuterRef("notification"))
            records = records.exclude(Exists(same.filter(at__gt=OuterRef("undone_at"))))
    else:
        records = records.filter(undone_at__isnull=True)
    return Q(pk__in=records.values("notification"))


def decisions_of(operation: BulkOperation) -> Any:
    """The records of what it changed, or of what the one changed that it takes back: an index has them."""
    model = Requeue if operation.kind in (OperationKind.REQUEUE, OperationKind.UNDO) else Reading
    return model.objects.filter(operation=operation.undoes_id or operation.pk)


def not_changed_by(rows: NotificationQuerySet, operations: Sequence[int]) -> NotificationQuerySet:
    """Without what these operations changed, or took back, however it stands now."""
    theirs = Q(operation__in=operations) | Q(undo__in=operations)
    for model in (Requeue, Reading):
        rows = rows.exclude(Exists(model.objects.filter(theirs, notification=OuterRef("pk"))))
    return rows


def not_redriven(rows: NotificationQuerySet) -> NotificationQuerySet:
    """Without those that were requeued by themselves before: what dies again is for a person to look at."""
    before = Requeue.objects.filter(notification=OuterRef("pk"), via=REDRIVE)
    return rows.exclude(Exists(before))
