"""What ends when: weeks or months, each with how many certificates, and the first of them. Bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import TruncMonth, TruncWeek
from django.utils import timezone

from .models import Certificate, Sighting

WEEKS, MONTHS = 26, 18
MOST_NAMED = 8  # certificates of one stretch


@dataclass(frozen=True, slots=True)
class Stretch:
    """One week or month, or several in which nothing ends. certificates: MOST_NAMED, what ends first."""

    start: datetime
    end: datetime
    count: int
    certificates: list[Certificate]

    @property
    def more(self) -> int:
        return self.count - len(self.certificates)

    @property
    def last(self) -> datetime:
        """Its last day."""
        return self.end - timedelta(hours=12)


def seen_now() -> QuerySet[Certificate]:
    """What is at some place now: what is gone raises no alert, and ends nobody's service."""
    there = Sighting.objects.filter(certificate=OuterRef("pk"), current=True)
    return Certificate.objects.filter(Exists(there))


def stretches(now: datetime, by: str) -> list[Stretch]:
    """From this week, or month, on; those in a row where nothing ends as one."""
    edges = list(_edges(now, by))
    truncate = TruncMonth if by == "month" else TruncWeek
    ahead = seen_now().filter(not_after__gte=edges[0], not_after__lt=edges[-1])
    grouped = ahead.annotate(of=truncate("not_after")).order_by().values("of").annotate(n=Count("pk"))
    counts = {timezone.localtime(row["of"]).date(): row["n"] for row in grouped}
    found = list[Stretch]()
    for start, end in pairwise(edges):
        count = counts.get(start.date(), 0)
        within = ahead.filter(not_after__gte=start, not_after__lt=end).order_by("not_after", "pk")
        if not count and found and not found[-1].count:
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Stretch(start, end, count, list(within[:MOST_NAMED]) if count else []))
    return found


def _edges(now: datetime, by: str) -> Iterator[datetime]:
    """Where each begins, by the site's clock, and where the last one ends."""
    day = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    zone = timezone.get_current_timezone()
    if by == "month":
        for n in range(MONTHS + 1):
            years, month = divmod(day.month - 1 + n, 12)
            yield datetime(day.year + years, month + 1, 1, tzinfo=zone)
        return
    monday = day - timedelta(days=day.weekday())
    for n in range(WEEKS + 1):
        yield (monday + timedelta(weeks=n)).replace(tzinfo=zone)


def over(now: datetime) -> int:
    """How many have ended and are shown all the same."""
    return seen_now().filter(not_after__lte=now).count()


def later(end: datetime) -> int:
    return seen_now().filter(not_after__gte=end).count()
