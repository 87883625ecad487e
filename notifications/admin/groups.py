"""Dead letters that failed alike, as the list shows them: what the newest said, where they went, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from ..database.values import UnknownTime
from ..deaths.fingerprints import NOTHING, Part, fingerprint, parts
from ..models import GroupNote, NotificationQuerySet
from ..operations.filters import with_problem
from ..operations.survey import spelled
from ..operations.triage import Standing, standings
from ..operations.walk import NEWEST
from ..reporting.words import problem
from ..text import fold
from .charts import spark

HOURS = 24  # of a sparkline, and how long a group is new
HOUR, DAY = timedelta(hours=1), timedelta(hours=HOURS)
TITLE = 400  # characters of an error that a title has room for
SEEN, COUNT = "seen", "count"  # what groups can be sorted by


@dataclass(slots=True)
class ErrorGroup:
    """Dead letters of one channel whose errors say the same.

    error   their fingerprint, by which a filter finds them
    newest  the newest one's error, as it is
    first   when the oldest was raised; last: the newest
    places  how many went to which host, or recipient
    hours   how many were raised in each of the last hours, the oldest first
    standing  what people said of it
    """

    channel: str
    error: str
    newest: str
    first: datetime
    last: datetime
    count: int = 0
    places: Counter[str] = field(default_factory=Counter)
    hours: list[int] = field(default_factory=lambda: [0] * HOURS)
    standing: Standing | None = None

    @property
    def snoozed(self) -> bool:
        return self.standing is not None and self.standing.snoozed

    def add(self, at: datetime, place: str, now: datetime) -> None:
        self.count += 1
        self.first = at
        self.places[place] += 1
        if not isinstance(at, UnknownTime) and now - at < DAY:
            self.hours[HOURS - 1 - max(0, (now - at) // HOUR)] += 1

    @property
    def count_text(self) -> str:
        return f"{self.count:,}"

    @property
    def title(self) -> list[Part]:
        """The newest error in one line, what changes from one to the next told apart."""
        return title(self.newest)

    @property
    def top(self) -> tuple[str, str]:
        """Where most went: (`37 of 40`, or `all 40`; the host or the recipient)."""
        [(place, number)] = self.places.most_common(1)
        if self.count == 1:
            return "", place
        return f"all {number:,}" if number == self.count else f"{number:,} of {self.count_text}", place

    @property
    def spark(self) -> str:
        return spark(self.hours)

    @property
    def spark_text(self) -> str:
        total = sum(self.hours)
        if not total:
            return f"none raised in the last {HOURS} hours"
        return f"{total:,} raised in the last {HOURS} hours, at most {max(self.hours):,} in an hour"


def title(error: str) -> list[Part]:
    """An error in one line, what changes from one to the next told apart."""
    return parts(problem(error)[:TITLE]) or [Part(NOTHING, False)]


def error_groups(rows: NotificationQuerySet, now: datetime, order: str = SEEN) -> list[ErrorGroup]:
    """Reads every one of `rows`: bound them."""
    found: dict[tuple[str, str], ErrorGroup] = {}
    prints: dict[str | None, str] = {}
    for at, channel, error, recipient in _facts(rows):
        if error not in prints:
            prints[error] = fingerprint(error)
        key = fold(channel), prints[error]
        if key not in found:
            found[key] = ErrorGroup(spelled(channel), key[1], error or "", at, at)
        found[key].add(at, place_of(recipient), now)
    if order == COUNT:
        return sorted(found.values(), key=lambda group: -group.count)
    return list(found.values())  # as they were met, the newest first


def with_standing(groups: Sequence[ErrorGroup], now: datetime) -> Sequence[ErrorGroup]:
    """The same groups, where each knows what people said of it."""
    known = standings([(group.channel, group.error) for group in groups], now)
    for group in groups:
        group.standing = known.get(GroupNote.key_of(group.channel, group.error))
    return groups


def _facts(rows: NotificationQuerySet) -> Iterable[tuple[datetime, str, str | None, str]]:
    found: Iterable[tuple[datetime, str, str | None, str]] = (
        with_problem(rows).order_by(*NEWEST).values_list("created_at", "channel", "problem", "recipient")
    )
    return found


@lru_cache(maxsize=8192)
def place_of(recipient: str) -> str:
    """The host of a URL; what is no URL is a place of its own."""
    if "://" not in recipient:
        return recipient
    try:
        return urlsplit(recipient).hostname or recipient
    except ValueError:
        return recipient
