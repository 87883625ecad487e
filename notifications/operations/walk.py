"""One notification after another, along (created_at, id): the one order, and the one cursor, of whatever
goes through many of them.

A walk reads a bounded stretch of an index at a time, however few of its rows are meant. Where it stands is
a short list of strings, so that anybody can keep it and go on later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from .. import database
from ..database.values import UnknownTime
from ..models import NotificationQuerySet

NEWEST, OLDEST = ("-created_at", "-id"), ("created_at", "id")
LOOKED_AT = 20_000  # notifications that one batch looks at to find its own
# Microseconds since 1970, or never; and an id.
CURSOR = r"(-?\d{1,19}|-?infinity)\.([^\x00]+)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Met = tuple[Any, ...]  # created_at, pk, and the fields that were asked for


class Place(NamedTuple):
    """Just behind one notification, which may be gone by now."""

    created_at: datetime
    pk: str

    @property
    def text(self) -> str:
        at = self.created_at
        if isinstance(at, UnknownTime) and at.as_stored:
            number = at.microseconds
            return f"{at.as_stored if number is None else number}.{self.pk}"
        return f"{(at - EPOCH) // timedelta(microseconds=1)}.{self.pk}"

    @classmethod
    def of(cls, text: str) -> Place:
        """What `text` wrote. Raises ValueError for anything else."""
        found = re.fullmatch(CURSOR, text, re.ASCII)
        if not found:
            raise ValueError(f"not a cursor: {text!r}")
        return cls(_time_of(found[1]), found[2])


def _time_of(text: str) -> datetime:
    if text.endswith("infinity"):
        return UnknownTime.of(text)
    try:
        return EPOCH + timedelta(microseconds=int(text))
    except OverflowError:
        return UnknownTime.of_microseconds(int(text))


def beyond(
    rows: NotificationQuerySet, place: Place | None, *, newest_first: bool = True
) -> NotificationQuerySet:
    """The rows behind the place, in order: new ones are met by nobody who reads the newest first."""
    rows = rows.order_by(*(NEWEST if newest_first else OLDEST))
    if place is None:
        return rows
    further, passed = ("lte", "gte") if newest_first else ("gte", "lte")
    # The first condition bounds the walk along the index, which the second alone would not.
    rows = rows.filter(**{f"created_at__{further}": place.created_at})
    return rows.exclude(**{"created_at": place.created_at, f"pk__{passed}": place.pk})


def up_to(rows: NotificationQuerySet, place: Place, *, newest_first: bool = True) -> NotificationQuerySet:
    """The rows before the place, its own notification included."""
    before, later = ("gte", "lt") if newest_first else ("lte", "gt")
    rows = rows.filter(**{f"created_at__{before}": place.created_at})
    return rows.exclude(**{"created_at": place.created_at, f"pk__{later}": place.pk})


@dataclass(frozen=True, slots=True)
class Walk:
    """Through some parts of the table, one after the other, meeting what is meant.

    parts     by name; each is read in order, so an index must have it so
    matching  of some of a part's rows, those that are meant
    fields    what is said of each, beside created_at and pk
    looks_at  how many rows a batch reads at most, LOOKED_AT unless given
    """

    parts: Mapping[str, NotificationQuerySet]
    matching: Callable[[NotificationQuerySet], NotificationQuerySet]
    fields: Sequence[str] = ()
    newest_first: bool = True
    looks_at: int | None = None

    def batch(self, cursor: Sequence[str] | None, most: int) -> tuple[list[Met], list[str] | None]:
        """(the next ones, at most `most`; where the walk stands after them: None at the end)."""
        if not self.parts:
            return [], None
        names = list(self.parts)
        first, *after = cursor or names[:1]
        place = Place(_read(after[0]), after[1]) if after else None
        met: list[Met] = []
        for name in names[names.index(first) :]:
            some, place = self._stretch(self.parts[name], place, most - len(met))
            met += some
            if place:
                return met, [name, _written(place.created_at), place.pk]
        return met, None

    def _stretch(
        self, rows: NotificationQuerySet, place: Place | None, most: int
    ) -> tuple[list[Met], Place | None]:
        ahead = beyond(_with_a_time(rows), place, newest_first=self.newest_first)
        last = self.looks_at or LOOKED_AT
        places = ahead.values_list("created_at", "pk")[last - 1 : last]
        end = next((Place(*found) for found in places), None)
        near = up_to(ahead, end, newest_first=self.newest_first) if end else ahead
        met = list(self.matching(near).values_list("created_at", "pk", *self.fields)[:most])
        return met, Place(*met[-1][:2]) if len(met) == most else end


def _written(at: datetime) -> str:
    return getattr(at, "as_stored", "") or at.isoformat()


def _read(text: str) -> datetime:
    """What `_written` wrote."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return UnknownTime.of(text)


def _with_a_time(rows: NotificationQuerySet) -> NotificationQuerySet:
    """SQLite keeps words and numbers in the place of a time: there is no way on from those."""
    return rows if database.is_postgresql() else rows.filter(created_at__range=WRITTEN)


WRITTEN = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
