"""Errors that say the same thing, told apart from what changes from one to the next.

A fingerprint is an error's text with numbers, ids, addresses and long words folded into FOLD. It is
also a filter: `pattern` matches exactly the texts that have the fingerprint, on every database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Coalesce, Lower

from ..queryset import NotificationQuerySet

FOLD = "…"
NOTHING = "(no error)"
WORDS = 16  # of a text that count; the rest is detail
LONG = 40  # characters; a longer word is an id of some kind

# Spelled out, so that Python and PostgreSQL mean the same characters.
BLANK, INK = " \t\n\r\f\v", "[^ \t\n\r\f\v]"
SIGN = "[0-9@/]|[A-Za-z0-9_][.][A-Za-z0-9_]"  # what a word that changes has in it
CHANGING = f"{INK}{{{LONG + 1},}}|{INK}*(?:{SIGN}){INK}*|{FOLD}"
has_sign = re.compile(SIGN).search
blanks = re.compile(f"[{BLANK}]+")
# "HTTP 503" and "HTTP 404" are different errors: a status stays where one of these words announces it.
ANNOUNCES = frozenset({"HTTP", "SMTP", "[Errno", "status"})
STATUS = r"[0-9]{1,3}[\]:;,.)]*"
STAYS = re.compile(STATUS)


def fingerprint(text: str | None) -> str:
    words = blanks.split((text or "").strip(BLANK), WORDS)[:WORDS]
    folded: list[str] = []
    for word in words:
        changes = len(word) > LONG or has_sign(word)
        announced = changes and folded and folded[-1] in ANNOUNCES and STAYS.fullmatch(word)
        folded.append(FOLD if changes and not announced else word)
    return " ".join(folded) or NOTHING


@lru_cache(maxsize=256)
def pattern(print_: str) -> str:
    """The regular expression of a fingerprint, for PostgreSQL and for Python."""
    words = print_.split(" ")
    parts, before = [], ""
    for word in words:
        stays = rf"(?!{STATUS}(?:[{BLANK}]|\Z))" if before in ANNOUNCES else ""
        parts.append(f"{stays}(?:{CHANGING})" if word == FOLD else re.escape(word))
        before = word
    end = rf"(?:[{BLANK}]|\Z)" if len(words) == WORDS else rf"[{BLANK}]*\Z"
    return rf"\A[{BLANK}]*" + f"[{BLANK}]+".join(parts) + end


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
