"""What stands around one notification: the next ones of the list that one came from, and all that was sent
about its certificate, to whom and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from ..database.values import UnknownTime
from ..models import NotificationEvent, NotificationQuerySet, Status
from ..operations.filters import (
    SEEN,
    WITHDRAWN,
    Filters,
    Meaningless,
    matching,
    of_query,
    of_status,
    raised_within,
)
from ..operations.follow import KINDS
from ..operations.survey import capped, many
from ..operations.walk import Place, beyond, up_to
from ..reporting import held, words
from . import cells
from .console import Console
from .list import bound

PRESERVED = "_changelist_filters"  # Django's name of the list's filters on other pages
PER_PAGE = 100


# Older and newer


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Addresses, "" where there is none. looked_at: how many were, where texts are read, and not all."""

    newer: str
    older: str
    back: str
    narrowed: bool
    looked_at: str


def neighbours(console: Console, request: HttpRequest, event: NotificationEvent) -> Neighbours:
    """The next ones within the filters of the list that the page was opened from; of all, without any."""
    query, suffix = request.GET.get(PRESERVED, ""), kept(request)
    try:
        filters = of_query(query, timezone.now())
    except Meaningless:
        query, suffix, filters = "", "", Filters()

    def address(newest_first: bool) -> str:
        pk = _next(filters, event, newest_first=newest_first)
        return "" if pk is None else console.url("change", quote(pk)) + suffix

    most = bound(filters, filters.status)
    back = console.url("changelist") + (f"?{query}" if query else "")
    return Neighbours(
        address(False), address(True), back, filters != Filters(), "" if most is None else f"{most:,}"
    )


def kept(request: HttpRequest) -> str:
    """What an address of the page needs at its end, so that it stays within the list that it came from."""
    return within(request.GET.get(PRESERVED, ""))


def within(query: str) -> str:
    """The end of an address of a page that was opened from the list of this query string."""
    return f"?{urlencode({PRESERVED: query})}" if query else ""


def _next(filters: Filters, event: NotificationEvent, *, newest_first: bool) -> str | None:
    """No more rows are looked at than by the list."""
    if isinstance(event.created_at, UnknownTime):
        return None
    rows = of_status(raised_within(filters, NotificationEvent.objects.all()), filters.status)
    if filters.addressee:
        rows = rows.filter(recipient=filters.addressee)
    ahead = beyond(rows, Place(event.created_at, event.pk), newest_first=newest_first)
    if most := bound(filters, filters.status):
        last = ahead.values_list("created_at", "pk")[most - 1 : most]
        ends = [Place(*found) for found in last]
        ahead = up_to(ahead, ends[0], newest_first=newest_first) if ends else ahead
    pk: str | None = matching(filters, ahead).values_list("pk", flat=True)[:1].first()
    return pk


# Sent to whom, when


class Told(NamedTuple):
    """One line of the page. delivered: the time, or why there is none."""

    event: NotificationEvent
    badge: SafeString
    delivered: datetime | None
    otherwise: str


def certificate(console: Console, request: HttpRequest) -> HttpResponse:
    """All notifications of one certificate in order of time, a page at a time."""
    known, after = request.GET.get("id", "").replace("\x00", ""), request.GET.get("after", "")
    try:
        place = Place.of(after) if after else None
    except ValueError:
        place = None
    rows: NotificationQuerySet = NotificationEvent.objects.filter(certificate_id=known)
    found = beyond(rows.with_kind(), place, newest_first=False).in_page(PER_PAGE + 1)
    shown, now = found[:PER_PAGE], timezone.now()
    held.noted(shown, now)
    later = ""
    if len(found) > PER_PAGE:
        last = Place(shown[-1].created_at, shown[-1].pk).text
        later = f"?{urlencode({'id': known, 'after': last})}"
    context = {
        "title": "Sent to whom, when",
        "certificate": known,
        "cards": _counts(console, rows, known),
        "rows": [_told(event, now) for event in shown],
        "first": f"?{urlencode({'id': known})}" if place else "",
        "later": later,
        "as_list": console.url("changelist") + f"?{urlencode({'certificate_id': known})}",
    }
    return console.respond(request, "certificate.html", context)


def _counts(
    console: Console, rows: NotificationQuerySet, certificate: str
) -> list[tuple[SafeString, str, str]]:
    """(badge, how many, their list) of each state that there is."""
    found = []
    for kind in (*KINDS, WITHDRAWN):
        if count := capped(of_status(rows, kind)):
            query = urlencode({"certificate_id": certificate, "status": kind})
            found.append((cells.badge(kind), many(count), f"{console.url('changelist')}?{query}"))
    return found


def _told(event: NotificationEvent, now: datetime) -> Told:
    badge = cells.badge_of(event)
    if event.status in (Status.PENDING, Status.FAILED):
        return Told(event, badge, None, f"not yet: {words.next_attempt(event, now)[0]}")
    kind = words.kind(event)
    at = words.sent_at(event) if kind in (Status.SENT, SEEN) else None
    return Told(event, badge, at, "not known" if kind == SEEN else "never")
