"""Where a sweep's rows come from: the table, where it claims what is due, or whoever claimed them for it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from ..conf import Conf
from ..models import NotificationEvent, NotificationQuerySet, SweepKind
from ..notifiers.endpoint import Endpoint, going_to
from ..queue import reap
from ..queue.claim import Claim, Claimed, claim
from .sweep import Options, Sweep, SweepResult, due


class Scope(NamedTuple):
    """Whose rows are wanted: none that goes to an endpoint in `outside`, and, where `inside` is given, only
    such as go to one of these. narrow: there are others, which can wait."""

    outside: frozenset[Endpoint]
    inside: frozenset[Endpoint] | None = None
    narrow: bool = False


class Source(Protocol):
    kind: str

    def prepare(self, now: datetime, ours: Collection[str]) -> int:
        """Begin a sweep, before anything is claimed. Answers how many notifications died of it."""

    def claim(self, rows: int, scope: Scope, now: datetime) -> list[Claimed]: ...

    def refuse(self, held: Sequence[Claimed], full: Sequence[Claimed]) -> list[Claimed]:
        """Which of the rows to give back whose endpoint is held, or has enough of them at the moment."""

    def is_exhausted(self, wanted: int, claimed: Sequence[Claimed]) -> bool:
        """Whether nothing more is to be had in that scope, when this was all that came of it."""

    def rest(self) -> list[Claimed]:
        """What was claimed and never taken, at the end."""


class DueRows:
    """The due rows of one kind, claimed from the table."""

    def __init__(self, kind: str, settings: Conf, options: Options) -> None:
        self.kind = kind
        self.conf = settings
        self.options = options

    @property
    def rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = NotificationEvent.objects.all()
        return rows.on_channel(self.options.channel) if self.options.channel else rows

    def prepare(self, now: datetime, ours: Collection[str]) -> int:
        """Put right what others left behind.

        ours  the ids of rows in this engine's own hands: their leases are nobody's to end, here least of all
        """
        limit, budget = self.options.limit, self.conf.max_attempts
        others = self.rows.exclude(pk__in=ours) if ours else self.rows
        _, dead = reap.reap(others, now=now, max_attempts=budget, limit=limit)
        if self.kind == SweepKind.RETRY:
            if self.options.include_unscheduled:
                reap.schedule_stranded(self.rows, now=now, limit=limit)
            dead += reap.bury(self.rows, now=now, max_attempts=budget, limit=limit)
        return dead

    def claim(self, rows: int, scope: Scope, now: datetime) -> list[Claimed]:
        eligible = due(self.kind, self.rows, now, self.conf.max_attempts)
        if scope.inside is not None:
            eligible = eligible.filter(going_to(scope.inside))
        elif scope.outside:
            eligible = eligible.exclude(going_to(scope.outside))
        return claim(eligible, rows, now=now, lease=self.conf.lease)

    def refuse(self, held: Sequence[Claimed], full: Sequence[Claimed]) -> list[Claimed]:
        return [*held, *full]

    def is_exhausted(self, wanted: int, claimed: Sequence[Claimed]) -> bool:
        return len(claimed) < wanted and not (isinstance(claimed, Claim) and claimed.full)

    def rest(self) -> list[Claimed]:
        return []


class GivenRows:
    """Rows under a lease that somebody else claimed: a task engine's batch, or one row sent by hand."""

    def __init__(self, kind: str, rows: Sequence[Claimed]) -> None:
        self.kind = kind
        self._rows = list(rows)

    def prepare(self, now: datetime, ours: Collection[str]) -> int:
        return 0

    def claim(self, rows: int, scope: Scope, now: datetime) -> list[Claimed]:
        chosen, self._rows = self._rows[:rows], self._rows[rows:]
        return chosen

    def refuse(self, held: Sequence[Claimed], full: Sequence[Claimed]) -> list[Claimed]:
        """They were handed over once: what finds no place waits here."""
        self._rows += full
        return list(held)

    def is_exhausted(self, wanted: int, claimed: Sequence[Claimed]) -> bool:
        return not self._rows

    def rest(self) -> list[Claimed]:
        rest, self._rows = self._rows, []
        return rest


@dataclass(slots=True)
class Schedule:
    """When a source is swept.

    interval  seconds from one sweep's start to the next; inf: there is only one
    sweep     the one under way; result: of the last one that ended
    """

    source: Source
    interval: float = math.inf
    next_tick: float = 0.0
    sweep: Sweep | None = None
    result: SweepResult | None = None
    look_again: float = 0.0  # in a narrow scope
