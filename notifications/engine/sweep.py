"""What a sweep is: where its rows come from, what it may do, and what it did."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..database import database_now
from ..models import AttemptOutcome, NotificationQuerySet, Status, SweepKind
from ..models.queryset import free
from ..notifiers.base import Endpoint
from ..queue.claim import Claimed
from ..queue.record import Outcome


@dataclass(slots=True)
class SweepResult:
    """What one sweep did. Every claimed row is in exactly one of the counts that follow `claimed`.

    Rows that died without being claimed (a lease ran out on the last attempt, or the budget was
    spent before) are in `dead` too. seconds: from the first claim to the last record.
    """

    kind: str
    claimed: int = 0
    sent: int = 0
    rescheduled: int = 0
    dead: int = 0
    no_notifier: int = 0
    released: int = 0
    seconds: float = 0.0

    @property
    def finished(self) -> int:
        """How many rows are done with."""
        return self.sent + self.rescheduled + self.dead + self.no_notifier + self.released

    def __str__(self) -> str:
        return (
            f"{self.kind} sweep: {self.claimed} claimed, {self.sent} sent, {self.rescheduled} rescheduled,"
            f" {self.dead} dead, {self.no_notifier} without a notifier, {self.released} released"
            f" in {self.seconds:.1f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def count(self, outcome: Outcome) -> None:
        if outcome.outcome == AttemptOutcome.NO_NOTIFIER and outcome.status == Status.SENT:
            self.no_notifier += 1
        elif outcome.status == Status.SENT:
            self.sent += 1
        elif outcome.status == Status.FAILED:
            self.rescheduled += 1
        else:
            self.dead += 1


@dataclass(frozen=True, slots=True)
class Options:
    """What one run may say beyond the settings.

    stop      asked all the time: True means claim no more, finish what runs, release the rest
    grace     seconds that what runs may take once `stop` said so
    progress  called with the result so far, about ten times a second
    beat      called every ten seconds in the caller's thread, with the attempts in flight
    alive     called every ten seconds on the event loop: as long as it is, the engine turns
    clock     what time it is; the database's own clock unless given
    log       write the finished sweep into notification_sweeps
    patient   an unreachable database is waited for, and nothing is sent meanwhile; else it is an error
    """

    limit: int
    channel: str | None = None
    include_unscheduled: bool = False
    stop: Callable[[], bool] = lambda: False
    grace: float = math.inf
    progress: Callable[[SweepResult], None] = lambda result: None
    beat: Callable[[int], None] | None = None
    alive: Callable[[], None] = lambda: None
    clock: Callable[[], datetime] | None = None
    patient: bool = False
    log: bool = True


@dataclass(slots=True)
class Source:
    """Where rows come from: the due rows of one kind, a sweep at a time.

    interval  seconds from one sweep's start to the next; inf: there is only one
    rows      claimed already by somebody else and handed over; None: claim what is due
    dry       the endpoints that were closed when nothing more was found outside them
    """

    kind: str
    interval: float = math.inf
    rows: list[Claimed] | None = None
    result: SweepResult = field(default_factory=lambda: SweepResult(""))
    active: bool = False
    started_at: datetime | None = None
    next_tick: float = 0.0
    in_hand: int = 0
    dry: frozenset[Endpoint] | None = None

    def start(self, now: datetime, tick: float) -> None:
        self.result = SweepResult(kind=str(self.kind))
        self.active, self.started_at, self.dry = True, now, None
        self.next_tick = tick + self.interval


class Clock:
    """The database's clock, asked now and then and carried forward by this machine's monotonic one."""

    def __init__(self) -> None:
        self.ask()

    def ask(self) -> None:
        self._base = database_now()
        self._since = time.monotonic()

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=time.monotonic() - self._since)


def due(kind: str, rows: NotificationQuerySet, now: datetime, max_attempts: int) -> NotificationQuerySet:
    """The notifications that a sweep of this kind may claim, in its order."""
    if kind == SweepKind.RETRY:
        return rows.retry_eligible(now, max_attempts)
    return rows.pending().filter(free(now)).order_by("created_at")


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
