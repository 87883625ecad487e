"""What the list's query string means, for the list and for the operations that go on without it.

The list looks at a bounded number of notifications, so that no page reads a table of millions; an
operation on all that match goes through all of them, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.text import smart_split, unescape_string_literal

from ..endpoints import outages
from ..models import NotificationEvent, NotificationQuerySet, Outage, Status
from .errors import alike

COUNTED = 10_000  # notifications; beyond, a count says "10,000+"
DETAILED = 5_000  # how many of the newest are told apart by error
READ = 10_000  # how many of the newest a text is looked for in
WALKED = 25_000  # how many of the newest are looked through where no index helps

NEWEST, OLDEST = ("-created_at", "-id"), ("created_at", "id")
RETRYING, STRANDED = "retrying", "stranded"
# Few enough to look through all of them, where most of the table is sent or read.
RARE = (Status.PENDING, Status.FAILED, Status.DEAD, RETRYING, STRANDED)
AGES = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
    "over7d": ("Older than 7 days", timedelta(days=7)),
    "over30d": ("Older than 30 days", timedelta(days=30)),
}
TEXTS = ("recipient", "certificate_id", "message", "error", "last_error")


class Meaningless(ValueError):
    """A value that its filter does not know."""


def by_status(rows: NotificationQuerySet, value: str, now: datetime) -> NotificationQuerySet:
    if value == STRANDED:
        return rows.stranded()
    if value == RETRYING:
        return rows.failed().exclude(next_retry_at__isnull=True)
    if value not in Status:
        raise Meaningless(value)
    return rows.filter(status=value)


def by_age(rows: NotificationQuerySet, value: str, now: datetime) -> NotificationQuerySet:
    if value not in AGES:
        raise Meaningless(value)
    edge = now - AGES[value][1]
    return rows.filter(created_at__lt=edge) if value.startswith("over") else rows.filter(created_at__gte=edge)


def by_time(lookup: str) -> Callable[[NotificationQuerySet, str, datetime], NotificationQuerySet]:
    def narrow(rows: NotificationQuerySet, value: str, now: datetime) -> NotificationQuerySet:
        return rows.filter(**{f"created_at__{lookup}": moment(value)})

    return narrow


def moment(value: str) -> datetime:
    try:
        at = parse_datetime(value)
    except ValueError:
        at = None
    if at is None:
        raise Meaningless(value)
    return at if timezone.is_aware(at) else timezone.make_aware(at)


def by_outage(rows: NotificationQuerySet, value: str, now: datetime) -> NotificationQuerySet:
    """What died of it and was not requeued since."""
    outage = Outage.objects.filter(pk=value).first() if value.isascii() and value.isdecimal() else None
    if outage is None:
        raise Meaningless(value)
    return outages.died_of(rows, outage)


def by_words(rows: NotificationQuerySet, value: str, now: datetime) -> NotificationQuerySet:
    return searched(rows, value, exactly(value))


def searched(rows: NotificationQuerySet, value: str, exact: Q | None) -> NotificationQuerySet:
    """What is meant exactly, through its index; else every word, somewhere."""
    if exact is not None:
        return rows.filter(exact)
    for word in words(value):
        somewhere = Q()
        for field in TEXTS:
            somewhere |= Q(**{f"{field}__icontains": word})
        rows = rows.filter(somewhere)
    return rows


def exactly(value: str) -> Q | None:
    """The id or the certificate that the value is, where there is such a thing."""
    value = value.strip()
    known = (Q(pk=value), Q(certificate_id=value)) if value else ()
    return next((q for q in known if NotificationEvent.objects.filter(q).exists()), None)


def words(value: str) -> list[str]:
    """Split at blanks, but for "quoted words"."""
    quoted = [bit[0] in "\"'" and len(bit) > 1 and bit[0] == bit[-1] for bit in smart_split(value)]
    return [unescape_string_literal(b) if q else b for b, q in zip(smart_split(value), quoted, strict=True)]


NARROWING: Mapping[str, Callable[[NotificationQuerySet, str, datetime], NotificationQuerySet]] = {
    "status": by_status,
    "channel": lambda rows, value, now: rows.on_channel(value),
    "type": lambda rows, value, now: rows.filter(type=value),
    "certificate_id": lambda rows, value, now: rows.filter(certificate_id=value),
    "error": lambda rows, value, now: alike(rows, value),
    "age": by_age,
    "since": by_time("gte"),
    "until": by_time("lte"),
    "outage": by_outage,
    "redriven": lambda rows, value, now: outages.not_redriven(rows),
    "q": by_words,
}


def narrowed(rows: NotificationQuerySet, filters: str, now: datetime) -> NotificationQuerySet:
    """All that a query string means at `now`. Raises Meaningless."""
    params = QueryDict(filters)
    for name, narrow in NARROWING.items():
        if value := params.get(name):
            rows = narrow(rows, value, now)
    return rows


# Bounds


def reach(params: Mapping[str, Any], exact: bool) -> int | None:
    """How many of the newest notifications the list looks at; None: an index finds what it needs.

    exact  the search means an id or a certificate
    """
    if params.get("error") or params.get("outage") or (params.get("q") and not exact):
        return READ
    if exact or params.get("certificate_id"):
        return None
    return WALKED if params.get("channel") or params.get("type") else None


def horizon(params: Mapping[str, Any], status: str, many: int, now: datetime) -> datetime | None:
    """When the last of the `many` newest was raised, of one status if it is a rare one.

    None when there are fewer. Raises Meaningless.
    """
    rows: NotificationQuerySet = NotificationEvent.objects.all()
    for name in ("age", "since", "until"):
        if value := params.get(name):
            rows = NARROWING[name](rows, value, now)
    if status in RARE:
        rows = by_status(rows, status, now)
    edge = rows.order_by(*NEWEST).values_list("created_at", flat=True)[many - 1 : many]
    return next(iter(edge), None)


def looks_at_a_part(filters: str) -> bool:
    """Whether the list of this query string stops before the oldest."""
    params = QueryDict(filters).dict()
    most = reach(params, exactly(params.get("q", "")) is not None)
    now = timezone.now()
    return most is not None and horizon(params, params.get("status", ""), most, now) is not None


def capped(rows: NotificationQuerySet, most: int = COUNTED) -> int:
    """How many there are; most + 1 when there are more."""
    return rows.order_by().values("pk")[: most + 1].count()


def many(count: int, most: int = COUNTED) -> str:
    """A capped count in words: 10,000+."""
    return f"{most:,}+" if count > most else f"{count:,}"
