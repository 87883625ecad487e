"""All that match, newest first and a batch at a time: for an operation, and for the count before it.

The place where a walk stands is a short list of strings, so that anybody can keep it and go on later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q
from django.http import QueryDict

from ..models import NotificationEvent, NotificationQuerySet, Status
from .errors import with_problem
from .narrowing import NEWEST, RETRYING, STRANDED, moment, narrowed
from .verbs import Verb

LOOKED_AT = 20_000  # notifications that one batch looks at to find its own


class Found(NamedTuple):
    """What a walk says of one notification."""

    created_at: datetime
    pk: str
    channel: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Walk:
    """filters: the list's query string. began: what was raised later is not looked at."""

    verb: Verb
    filters: str
    began: datetime

    @property
    def statuses(self) -> Sequence[str]:
        """Those that the verb takes, and of these the one that the filter names, one after the other."""
        wanted = QueryDict(self.filters).get("status") or ""
        wanted = Status.FAILED if wanted in (RETRYING, STRANDED) else wanted
        return (wanted,) if wanted in self.verb.statuses else self.verb.statuses

    def batch(
        self, place: Sequence[str] | None, most: int, where: Q | None = None
    ) -> tuple[list[Found], list[str] | None]:
        """The next ones, at most `most`, and the place after them: None after the last."""
        status, *after = place or [self.statuses[0]]
        ahead = _after(NotificationEvent.objects.filter(status=status), after)
        ahead = ahead.filter(created_at__lte=self.began).order_by(*NEWEST)
        end = next(iter(ahead.values_list("created_at", "pk")[LOOKED_AT - 1 : LOOKED_AT]), None)
        near = ahead.filter(_not_beyond(*end)) if end else ahead
        matching = with_problem(narrowed(near.filter(where or Q()), self.filters, self.began))
        found = [Found(*row) for row in matching.values_list(*Found._fields)[:most]]
        if len(found) == most:
            return found, [status, found[-1].created_at.isoformat(), found[-1].pk]
        if end:
            return found, [status, end[0].isoformat(), end[1]]
        return found, self._next_status(status)

    def _next_status(self, status: str) -> list[str] | None:
        later = self.statuses[self.statuses.index(status) + 1 :]
        return [later[0]] if later else None


def _after(rows: NotificationQuerySet, place: Sequence[str]) -> NotificationQuerySet:
    if not place:
        return rows
    at = moment(place[0])
    # The first condition bounds the walk along the index, which the second alone would not.
    return rows.filter(created_at__lte=at).exclude(created_at=at, pk__gte=place[1])


def _not_beyond(created_at: datetime, pk: str) -> Q:
    return Q(created_at__gte=created_at) & ~Q(created_at=created_at, pk__lt=pk)
