"""Notifications whose errors say the same thing, together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Coalesce, Lower

from ..deaths.fingerprints import BLANK, NOTHING, fingerprint, pattern
from ..models import NotificationQuerySet


def with_problem(rows: NotificationQuerySet) -> Any:
    """problem: the error that a notification waits or died with."""
    return rows.annotate(problem=Coalesce("last_error", "error"))


def alike(rows: NotificationQuerySet, print_: str) -> NotificationQuerySet:
    """The rows whose error has this fingerprint."""
    if print_ == NOTHING:
        same = Q(problem__isnull=True) | Q(problem__regex=rf"\A[{BLANK}]*\Z")
    else:
        same = Q(problem__regex=pattern(print_))
    found: NotificationQuerySet = with_problem(rows).filter(same)
    return found


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
    kinds: Any = with_problem(rows).annotate(folded=Lower("channel")).order_by().values("folded", "problem")
    kinds = kinds.annotate(
        name=Max("channel"), count=Count("pk"), first=Min("created_at"), last=Max("created_at")
    )
    return merged((k["name"], k["problem"], k["count"], k["first"], k["last"]) for k in kinds)


def merged(kinds: Iterable[tuple[str, str | None, int, datetime, datetime]]) -> list[Group]:
    """(channel, error, how many, oldest, newest) of each kind, the alike ones together."""
    groups: dict[tuple[str, str], Group] = {}
    for channel, text, count, first, last in kinds:
        print_ = fingerprint(text)
        key = (channel.casefold(), print_)
        if group := groups.get(key):
            group.add(count, first, last)
        else:
            groups[key] = Group(channel, print_, count, first, last)
    return sorted(groups.values(), key=lambda group: (-group.count, group.channel, group.error))
