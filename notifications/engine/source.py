"""Where a sweep's rows come from: the table, where it claims what is due, or whoever claimed them for it."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from django.db.models import Q

from ..conf import Conf
from ..models import NotificationEvent, NotificationQuerySet, SweepKind
from ..models.conditions import past
from ..notifiers.endpoint import Endpoint, going_to
from ..operations.redrive import redrive, requeue_probes
from ..queue import reap
from ..queue.beside import Terms, settled
from ..queue.claim import Claim, Claimed, claim
from .sweep import Options, Sweep, SweepResult, due

URGENT_SECONDS = 1.0  # between two looks for what passes all backlogs
# How long a channel that has no notifier here is left to other workers, which may have one.
LEFT_TO_OTHERS = timedelta(minutes=10)


class Scope(NamedTuple):
    """Whose rows are wanted: none that goes to an endpoint in `outside`, and, where `inside` is given, only
    such as go to one of these.

    narrow        there are others, which can wait; first: but not for long
    newest_first  of the pending: what was raised just now need not wait behind a backlog
    never         of what is urgent none that goes to these: all else passes the others, whatever the scope
    """

    outside: frozenset[Endpoint]
    inside: frozenset[Endpoint] | None = None
    narrow: bool = False
    first: bool = False
    newest_first: bool = False
    never: frozenset[Endpoint] = frozenset()


class Prepared(NamedTuple):
    """What was done before anything was claimed: how many died, and how many that certctl had left failed
    were taken up."""

    dead: int = 0
    adopted: int = 0


class Source(Protocol):
    kind: str

    def revive(self, now: datetime) -> None:
        """Before it is read which endpoints are open: requeue what died of those that recovered."""

    def prepare(self, now: datetime, ours: Collection[str]) -> Prepared:
        """Begin a sweep, before anything is claimed."""

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
        self.terms = Terms()  # how we live with certctl, as each sweep finds it
        self._urgent_from = -math.inf  # when it is looked for again

    @property
    def rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = NotificationEvent.objects.all()
        return rows.on_channel(self.options.channel) if self.options.channel else rows

    def revive(self, now: datetime) -> None:
        if self.conf.redrive_on_recovery:
            redrive(now=now)
            requeue_probes(now=now)

    def prepare(self, now: datetime, ours: Collection[str]) -> Prepared:
        """Put right what others left behind.

        ours  the ids of rows in this engine's own hands: their leases are nobody's to end, here least of all
        """
        limit, budget, adopted = self.options.limit, self.conf.max_attempts, 0
        self.terms = settled(self.conf, now)
        others = self.rows.exclude(pk__in=ours) if ours else self.rows
        _, dead = reap.reap(others, now=now, max_attempts=budget, limit=limit)
        if self.kind == SweepKind.RETRY:
            left_failed = self.terms.left_failed(
                self.rows,
                now,
                unscheduled=self.options.include_unscheduled,
                probably_delivered=self.options.include_probably_delivered,
            )
            adopted = sum(reap.schedule_stranded(rows, now=now, limit=limit) for rows in left_failed)
            dead += reap.bury(self.rows, now=now, max_attempts=budget, limit=limit)
        return Prepared(dead, adopted)

    def claim(self, rows: int, scope: Scope, now: datetime) -> list[Claimed]:
        if urgent := self._claim_urgent(rows, scope, now):
            return urgent
        eligible = self._eligible(now, scope.newest_first)
        if scope.inside is not None:
            eligible = eligible.filter(going_to(scope.inside))
        elif scope.outside:
            eligible = eligible.exclude(going_to(scope.outside))
        return claim(eligible, rows, now=now, lease=self.conf.lease)

    def _eligible(self, now: datetime, newest_first: bool = False) -> NotificationQuerySet:
        mine = self.rows.filter(self._ours(now))
        eligible = due(self.kind, mine, now, self.conf.max_attempts, newest_first)
        return self.terms.claimable(eligible, now) if self.kind == SweepKind.PENDING else eligible

    def _claim_urgent(self, rows: int, scope: Scope, now: datetime) -> Claim:
        """Before all others what has less than a day left, once in a while: the others pay nothing for it."""
        if time.monotonic() < self._urgent_from:
            return Claim()
        found = self._eligible(now).urgent(now)
        if scope.never:
            found = found.exclude(going_to(scope.never))
        claimed = claim(found, rows, now=now, lease=self.conf.lease)
        if len(claimed) < rows and not claimed.full:
            self._urgent_from = time.monotonic() + URGENT_SECONDS
        claimed.full = bool(claimed)  # the others are still to be claimed
        return claimed

    def _ours(self, now: datetime) -> Q:
        """On a channel that is configured here, or due for so long that nobody else has one either."""
        is_retry = self.kind == SweepKind.RETRY
        late = Q(next_retry_at__lte=now - LEFT_TO_OTHERS) if is_retry else past(now, LEFT_TO_OTHERS)
        return Q(going_to([Endpoint("", name) for name in self.conf.channels])) | late

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

    def revive(self, now: datetime) -> None:
        pass

    def prepare(self, now: datetime, ours: Collection[str]) -> Prepared:
        return Prepared()

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
    has_backlog: bool = False  # more is due than the last claim brought, and goes out at a pace
    newest_first: bool = False
