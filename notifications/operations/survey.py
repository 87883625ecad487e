"""What some notifications have in common, by channel and error: for whoever looks at many, or is about to
change them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Count, Max, Min, QuerySet
from django.utils.module_loading import import_string

from .. import conf
from ..deaths.fingerprints import fingerprint
from ..models import (
    AttemptOutcome,
    DeliveryAttempt,
    NotificationQuerySet,
    relevance,
)
from ..models.fields import Folded
from ..text import fold
from .filters import with_problem

SAMPLES = 3
COUNTED = 10_000  # notifications; beyond, a count says "10,000+"
PART = 1_000
ABOUT_RENEWED = "are about certificates renewed since"  # behind `17 of 142`
UNSURE = (AttemptOutcome.UNKNOWN, AttemptOutcome.INTERRUPTED)


def capped(rows: QuerySet[Any], most: int = COUNTED) -> int:
    """How many there are; most + 1 when there are more."""
    return rows.order_by().values("pk")[: most + 1].count()


def many(count: int, most: int = COUNTED) -> str:
    """A capped count in words: 10,000+."""
    return f"{most:,}+" if count > most else f"{count:,}"


def renewed_among(rows: NotificationQuerySet, most: int = COUNTED) -> int:
    """How many of the first so many are about certificates that were renewed since: a requeue leaves them,
    unless it is told."""
    if not relevance.wanted():
        return 0
    warnings = rows.filter(type__in=relevance.EXPIRY).order_by().only("type", "certificate_id", "created_at")
    return _renewed(list(warnings[:most]))


def _renewed(events: Sequence[Any]) -> int:
    parts = (events[start : start + PART] for start in range(0, len(events), PART))
    return sum(len(relevance.renewed(part)) for part in parts)


class Found(NamedTuple):
    """What a survey needs of one notification."""

    created_at: datetime
    pk: str
    channel: str
    problem: str | None
    recipient: str
    type: str
    certificate_id: str | None


@dataclass(slots=True)
class Group:
    """Notifications of one channel that failed alike; first, last: when the oldest and newest were raised."""

    channel: str
    error: str
    count: int
    first: datetime
    last: datetime

    @property
    def count_text(self) -> str:
        return f"{self.count:,}"

    def add(self, count: int, first: datetime, last: datetime) -> None:
        self.count += count
        self.first, self.last = min(self.first, first), max(self.last, last)


def grouped(rows: NotificationQuerySet) -> list[Group]:
    """The groups, greatest first. Reads every one of `rows`: bound them."""
    kinds: Any = with_problem(rows).annotate(folded=Folded("channel")).order_by().values("folded", "problem")
    kinds = kinds.annotate(
        name=Max("channel"), count=Count("pk"), first=Min("created_at"), last=Max("created_at")
    )
    return merged((k["name"], fingerprint(k["problem"]), k["count"], k["first"], k["last"]) for k in kinds)


def merged(kinds: Iterable[tuple[str, str, int, datetime, datetime]]) -> list[Group]:
    """(channel, fingerprint, how many, oldest, newest) of each kind, the alike ones together."""
    groups: dict[tuple[str, str], Group] = {}
    for channel, print_, count, first, last in kinds:
        key = (fold(channel), print_)
        if group := groups.get(key):
            group.add(count, first, last)
        else:
            groups[key] = Group(spelled(channel), print_, count, first, last)
    return sorted(groups.values(), key=lambda group: (-group.count, group.channel, group.error))


def spelled(channel: str) -> str:
    """As the settings have it, which is how people know it; as the rows do, where it is not configured."""
    try:
        return conf.current().channel(channel) or channel
    except ImproperlyConfigured:
        return channel


@dataclass
class Survey:
    """found: newest first."""

    found: Sequence[Found]

    @cached_property
    def channels(self) -> list[tuple[str, int]]:
        """Old rows say `email`, new ones `Email`: one channel."""
        names = {fold(row.channel): row.channel for row in reversed(self.found)}
        counts = Counter(fold(row.channel) for row in self.found)
        return [(spelled(names[folded]), count) for folded, count in counts.most_common()]

    @cached_property
    def prints(self) -> list[str]:
        """The fingerprint of each."""
        return [fingerprint(row.problem) for row in self.found]

    @cached_property
    def groups(self) -> list[Group]:
        rows = zip(self.found, self.prints, strict=True)
        return merged((row.channel, print_, 1, row.created_at, row.created_at) for row, print_ in rows)

    @cached_property
    def oldest(self) -> datetime | None:
        return min((row.created_at for row in self.found), default=None)

    def raised_before(self, when: datetime) -> int:
        """How many were raised before that."""
        return sum(row.created_at < when for row in self.found)

    @cached_property
    def samples(self) -> list[str]:
        """The ids of some to look at: the newest of each of the greatest groups, and the oldest."""
        newest: dict[tuple[str, str], str] = {}
        for row, print_ in zip(self.found, self.prints, strict=True):
            newest.setdefault((fold(row.channel), print_), row.pk)
        greatest = [newest[fold(group.channel), group.error] for group in self.groups[: SAMPLES - 1]]
        oldest = [row.pk for row in self.found[::-1] if row.created_at == self.oldest][:1]
        return list(dict.fromkeys([*greatest, *oldest]))

    @cached_property
    def renewed(self) -> int:
        """How many are about certificates that were renewed since."""
        return _renewed(self.found)

    @cached_property
    def arrived(self) -> int:
        """How many may have arrived already, where a repeat would be seen twice."""
        repeats = {fold(channel) for channel in repeating()}
        ids = [row.pk for row in self.found if fold(row.channel) in repeats]
        attempts = DeliveryAttempt.objects.filter(notification_id__in=ids, outcome__in=UNSURE)
        found = attempts.aggregate(count=Count("notification_id", distinct=True)) if ids else {"count": 0}
        return int(found["count"])


def repeating() -> list[str]:
    """The channels whose provider shows a repeated message again."""
    found = []
    for name, options in conf.current().channels.items():
        notifier = import_string(str(options["NOTIFIER"]))
        if not getattr(notifier, "folds_repeats", False):
            found.append(name)
    return found
