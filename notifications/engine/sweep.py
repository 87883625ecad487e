"""What a sweep is: what it may do, and what it did."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..database import database_now
from ..models import AttemptOutcome, NotificationQuerySet, Status, SweepKind
from ..models.conditions import DUE, free
from ..notifiers.base import Message, Notifier
from ..notifiers.endpoint import Endpoint
from ..queue.claim import Claimed
from ..queue.record import Outcome

# CLOCK_BOOTTIME goes on while the machine is suspended.
steady = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


OCCASIONAL = ("handed_over", "adopted", "withdrawn")


@dataclass(slots=True)
class SweepResult:
    """What one sweep did. Every claimed row is in exactly one of the counts that follow `claimed`.

    Rows that died without being claimed (a lease ran out on the last attempt, or the budget was
    spent before) are in `dead` too. adopted: rows that certctl had left failed, and that are due now.
    withdrawn: rows whose certificates were renewed since; they count as never claimed.
    seconds: from the first claim to the last record.
    """

    kind: str
    claimed: int = 0
    sent: int = 0
    rescheduled: int = 0
    dead: int = 0
    no_notifier: int = 0
    released: int = 0
    handed_over: int = 0
    adopted: int = 0
    withdrawn: int = 0
    seconds: float = 0.0

    @property
    def undelivered(self) -> str:
        """What an operator must hear of, "" where there is nothing: `2 notifications died`."""
        counts = {"died": self.dead, "were not delivered: their channel has no notifier": self.no_notifier}
        return ", ".join(f"{count} notifications {what}" for what, count in counts.items() if count)

    @property
    def finished(self) -> int:
        """How many rows are done with."""
        return self.sent + self.rescheduled + self.dead + self.no_notifier + self.released + self.handed_over

    def __str__(self) -> str:
        handed_over = f", {self.handed_over} handed over" if self.handed_over else ""
        adopted = f", {self.adopted} adopted" if self.adopted else ""
        withdrawn = f", {self.withdrawn} withdrawn" if self.withdrawn else ""
        return (
            f"{self.kind} sweep: {self.claimed} claimed, {self.sent} sent, {self.rescheduled} rescheduled,"
            f" {self.dead} dead, {self.no_notifier} without a notifier, {self.released} released{handed_over}"
            f"{adopted}{withdrawn}"
            f" in {self.seconds:.1f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON for programs; handed_over where there is a task engine to hand over to, adopted
        where certctl had left something, withdrawn where something was renewed."""
        counts = {**asdict(self), "seconds": round(self.seconds, 3)}
        return {name: count for name, count in counts.items() if count or name not in OCCASIONAL}

    def count(self, outcome: Outcome) -> None:
        if outcome.kind == AttemptOutcome.NO_NOTIFIER and outcome.status == Status.SENT:
            self.no_notifier += 1
        elif outcome.status == Status.SENT:
            self.sent += 1
        elif outcome.status == Status.FAILED:
            self.rescheduled += 1
        else:
            self.dead += 1


@dataclass(slots=True)
class Sweep:
    """One pass, under way.

    begun      attempts: the limit is of these, so that rows which wait for an endpoint take nobody's place
    in_hand    rows that were claimed and not recorded or given back yet
    exhausted  the endpoints that were closed when nothing more was found outside them; None: maybe more is
    postponed  rows were put off for a moment: the next sweep is to begin soon
    """

    result: SweepResult
    limit: int
    started_at: datetime
    begun: int = 0
    in_hand: int = 0
    exhausted: frozenset[Endpoint] | None = None
    postponed: bool = False

    def took(self, rows: int) -> None:
        self.in_hand += rows
        self.result.claimed += rows

    def refused(self, rows: int) -> None:
        """There was no place for them: they count as never claimed."""
        self.in_hand -= rows
        self.result.claimed -= rows

    def withdrew(self) -> None:
        """It counts as never claimed, too."""
        self.refused(1)
        self.result.withdrawn += 1

    def gave_back(self, rows: int = 1) -> None:
        """They may be due again at once, so there is more to claim."""
        self.in_hand -= rows
        self.result.released += rows
        self.exhausted = None

    def recorded(self, outcome: Outcome) -> None:
        self.in_hand -= 1
        self.result.count(outcome)

    def handed_over(self, rows: int) -> None:
        self.in_hand -= rows
        self.result.handed_over += rows


@dataclass(slots=True, eq=False)
class InHand:
    """A claimed row in the engine's hands. notifier: None where its channel has none."""

    event: Claimed
    sweep: Sweep
    message: Message
    notifier: Notifier | None


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
    include_probably_delivered: bool = False
    stop: Callable[[], bool] = lambda: False
    grace: float = math.inf
    progress: Callable[[SweepResult], None] = lambda result: None
    beat: Callable[[int], None] | None = None
    alive: Callable[[], None] = lambda: None
    clock: Callable[[], datetime] | None = None
    patient: bool = False
    log: bool = True


class Clock:
    """The database's clock: asked with every claim and record, and carried forward by this machine's own."""

    def __init__(self, given: Callable[[], datetime] | None = None) -> None:
        self._given = given
        self.ask()

    def ask(self) -> None:
        """Raises django.db's errors when the database is away."""
        if self._given is None:
            self._base = database_now().timestamp()
        self._since = time.clock_gettime(steady)

    def __call__(self) -> datetime:
        if self._given is not None:
            return self._given()
        return datetime.fromtimestamp(self._base + self.silence, UTC)

    @property
    def silence(self) -> float:
        """Seconds since the database said what time it is."""
        return time.clock_gettime(steady) - self._since


def due(
    kind: str, rows: NotificationQuerySet, now: datetime, max_attempts: int, newest_first: bool = False
) -> NotificationQuerySet:
    """The notifications that a sweep of this kind may claim, in its order."""
    if kind == SweepKind.RETRY:
        return rows.retry_eligible(now, max_attempts)
    return rows.pending().filter(free(now)).order_by(DUE.desc() if newest_first else DUE.asc())


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
