"""Recording: what has ended is the recorder's until the table has it, and so is what is given back.

It writes in micro-batches, beside the claims where there is a second connection. What could not be written
stays, for the next try.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import attrgetter

from ..endpoints import holds
from ..endpoints.breaker import Change
from ..endpoints.lanes import Lanes
from ..models import Status
from ..queue.claim import Claimed
from ..queue.record import Outcome, Recorded, record
from ..queue.release import release
from .connection import Database
from .sweep import Clock, InHand, Sweep, worker_name

logger = logging.getLogger(__name__)

FLUSH_ROWS = 200
LAST_FLUSH_ROWS = 50
FLUSH_SECONDS = 0.1
LOCKED_SECONDS = 1.0  # between tries to record or give back what others hold locked


@dataclass(slots=True, eq=False)
class Returned:
    """A row to give back: due again in so many seconds.

    sweep  that counts it among those in its hands
    """

    event: Claimed
    seconds: float
    sweep: Sweep | None
    next_try: float = 0.0


class Recorder:
    """What is on its way to the table.

    ended     rows with their outcomes, in that order
    locked    of those the ones that another program held at the last try; the next is at unlocked_at
    returned  rows to give back
    """

    def __init__(self, database: Database, clock: Clock, lanes: Lanes[InHand], wake: asyncio.Event) -> None:
        self.database = database
        self.clock = clock
        self.lanes = lanes
        self.wake = wake
        self.worker = worker_name()
        self.ended: list[tuple[InHand, Outcome]] = []
        self.locked: list[tuple[InHand, Outcome]] = []
        self.unlocked_at = 0.0
        self.returned: list[Returned] = []
        self.writing = False
        self.written_at = time.monotonic()

    def add(self, row: InHand, outcome: Outcome) -> None:
        self.ended.append((row, outcome))
        if len(self.ended) >= self._batch() and not self.writing:
            self.wake.set()

    def give_back(self, event: Claimed, seconds: float, sweep: Sweep | None = None) -> None:
        """It was not attempted after all, and may be when so many seconds are over."""
        self.returned.append(Returned(event, seconds, sweep))

    def rows(self) -> Iterator[InHand | Returned]:
        """What is not in the table yet."""
        yield from (row for row, _ in (*self.ended, *self.locked))
        yield from self.returned

    def is_due(self, *, idle: bool) -> bool:
        """Whether there is enough to write; idle: nothing is in flight, so that no more comes."""
        if self.writing:
            return False
        if not (self.ended or self.lanes.changes):
            return bool(self.locked) and time.monotonic() >= self.unlocked_at
        late = time.monotonic() >= self.written_at + FLUSH_SECONDS
        return late or idle or len(self.ended) >= self._batch()

    def _batch(self) -> int:
        """Outcomes worth a call; fewer towards the end, where nothing else is to do meanwhile."""
        return FLUSH_ROWS if self.lanes.waiting else LAST_FLUSH_ROWS

    async def write(self) -> int:
        """Write what has ended and what was learned; answers how many outcomes that were. Raises Away."""
        self.writing, self.written_at = True, time.monotonic()
        try:
            count = await self._write_outcomes()
            if changes := self.lanes.changes[:]:
                await self.database.call_second(self._write_changes, changes)
                self.lanes.written(changes)
        finally:
            self.writing = False
        return count

    async def _write_outcomes(self) -> int:
        new = self.ended[:]
        held = self.locked if time.monotonic() >= self.unlocked_at else []
        ended = [*held, *new]
        if not ended:
            return 0
        recorded = await self.database.call_second(self._record, [current(*one) for one in ended])
        del self.ended[: len(new)]
        again = [one for one in ended if self._goes_on_trying(one[0], recorded)]
        if held or again:
            self.locked = again if held else [*self.locked, *again]
            self.unlocked_at = time.monotonic() + LOCKED_SECONDS
        for row, outcome in ended:
            self._settle(row, outcome, recorded)
        return len(new)

    def _goes_on_trying(self, row: InHand, recorded: Recorded) -> bool:
        """While its lease stands; then it is repeated, as everything that could not be recorded."""
        return row.event.id in recorded.locked and row.event.leased_until > self.clock()

    def _settle(self, row: InHand, outcome: Outcome, recorded: Recorded) -> None:
        pk = row.event.id
        if pk in recorded.written:
            row.sweep.recorded(outcome)
        elif pk in recorded.set_aside:
            row.sweep.recorded(outcome._replace(status=Status.DEAD))
        elif not self._goes_on_trying(row, recorded):
            self._overtaken(row, outcome)

    def _overtaken(self, row: InHand, outcome: Outcome) -> None:
        row.sweep.gave_back()
        logger.warning(
            "notification %s changed while its attempt ran (%s); its lease had ended or it is gone",
            row.event.id,
            outcome.kind,
        )

    async def release(self) -> None:
        """Give back what was not attempted. What others hold locked is tried again while its lease stands:
        a lease that runs out is an attempt. Raises Away."""
        started = time.monotonic()
        returned = [one for one in self.returned if one.next_try <= started]
        if not returned:
            return
        locked = await self.database.call(self._release, returned)
        for one in returned:
            if one.event.id in locked and one.event.leased_until > self.clock():
                one.next_try = time.monotonic() + LOCKED_SECONDS
            else:
                one.next_try = math.inf
                if one.sweep:
                    one.sweep.gave_back()
        self.returned = [one for one in self.returned if one.next_try < math.inf]

    # In a thread that has a connection

    def _record(self, outcomes: Sequence[Outcome]) -> Recorded:
        self.clock.ask()
        return record(outcomes, now=self.clock(), worker=self.worker)

    def _write_changes(self, changes: Sequence[Change]) -> None:
        holds.write(changes, now=self.clock())

    def _release(self, returned: Sequence[Returned]) -> set[str]:
        """The ids of those that others hold locked."""
        now, by_seconds, locked = self.clock(), attrgetter("seconds"), set[str]()
        for seconds, group in groupby(sorted(returned, key=by_seconds), by_seconds):
            locked |= release([one.event for one in group], due_at=now + timedelta(seconds=seconds)).locked
        return locked


def current(row: InHand, outcome: Outcome) -> Outcome:
    """Under the lease that the row has now: it can have been extended while the attempt ran."""
    return outcome if outcome.event is row.event else outcome._replace(event=row.event)
