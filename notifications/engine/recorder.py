"""Recording: what has ended is the recorder's until the table has it, and so is what is given back.

It writes in micro-batches, beside the claims where there is a second connection. What could not be written
stays, for the next try.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter

from ..endpoints import holds
from ..endpoints.breaker import Change
from ..endpoints.lanes import Lanes
from ..queue.claim import Claimed
from ..queue.record import Outcome, record
from ..queue.release import release
from .connection import Database
from .sweep import Clock, InHand, worker_name

logger = logging.getLogger(__name__)

FLUSH_ROWS = 200
LAST_FLUSH_ROWS = 50
FLUSH_SECONDS = 0.1


class Recorder:
    """ended: rows with their outcomes, in that order; returned: rows with the seconds until they are due."""

    def __init__(self, database: Database, clock: Clock, lanes: Lanes[InHand], wake: asyncio.Event) -> None:
        self.database = database
        self.clock = clock
        self.lanes = lanes
        self.wake = wake
        self.worker = worker_name()
        self.ended: list[tuple[InHand, Outcome]] = []
        self.returned: list[tuple[InHand, float]] = []
        self.writing = False
        self.written_at = time.monotonic()

    def add(self, row: InHand, outcome: Outcome) -> None:
        self.ended.append((row, outcome))
        if len(self.ended) >= self._batch() and not self.writing:
            self.wake.set()

    def give_back(self, row: InHand, seconds: float) -> None:
        """It was not attempted after all, and may be when so many seconds are over."""
        self.returned.append((row, seconds))

    def rows(self) -> Iterator[InHand]:
        """What is not in the table yet."""
        yield from (row for row, _ in self.ended)
        yield from (row for row, _ in self.returned)

    def is_due(self, *, idle: bool) -> bool:
        """Whether there is enough to write; idle: nothing is in flight, so that no more comes."""
        if self.writing or not (self.ended or self.lanes.changes):
            return False
        late = time.monotonic() >= self.written_at + FLUSH_SECONDS
        return late or idle or len(self.ended) >= self._batch()

    def _batch(self) -> int:
        """Outcomes worth a trip; fewer towards the end, where nothing else is to do meanwhile."""
        return FLUSH_ROWS if self.lanes.waiting else LAST_FLUSH_ROWS

    async def write(self) -> int:
        """Write what has ended and what was learned; answers how many outcomes that were. Raises Away."""
        self.writing, self.written_at = True, time.monotonic()
        try:
            count = await self._write_outcomes()
            if changes := self.lanes.changes[:]:
                await self.database.call_beside(self._write_changes, changes)
                self.lanes.written(changes)
        finally:
            self.writing = False
        return count

    async def _write_outcomes(self) -> int:
        ended = self.ended[:]
        if not ended:
            return 0
        written = await self.database.call_beside(self._record, [current(*one) for one in ended])
        del self.ended[: len(ended)]
        for row, outcome in ended:
            if row.event.id in written:
                row.sweep.recorded(outcome)
            else:
                self._overtaken(row, outcome)
        return len(ended)

    def _overtaken(self, row: InHand, outcome: Outcome) -> None:
        row.sweep.gave_back()
        logger.warning(
            "notification %s changed while its attempt ran (%s); its lease had ended or it is gone",
            row.event.id,
            outcome.outcome,
        )

    async def release(self) -> None:
        """Give back what was not attempted. Raises Away."""
        returned = self.returned[:]
        if not returned:
            return
        await self.database.call(self._release, returned)
        del self.returned[: len(returned)]
        for row, _ in returned:
            row.sweep.gave_back()

    # In a thread that has a connection

    def _record(self, outcomes: Sequence[Outcome]) -> set[str]:
        self.clock.ask()
        return record(outcomes, now=self.clock(), worker=self.worker)

    def _write_changes(self, changes: Sequence[Change]) -> None:
        holds.write(changes, now=self.clock())

    def _release(self, returned: Sequence[tuple[InHand, float]]) -> None:
        now, by_seconds = self.clock(), itemgetter(1)
        for seconds, group in groupby(sorted(returned, key=by_seconds), by_seconds):
            release([row.event for row, _ in group], due_at=now + timedelta(seconds=seconds))


def current(row: InHand, outcome: Outcome) -> Outcome:
    """Under the lease that the row has now: it can have been extended while the attempt ran."""
    return outcome if outcome.event is row.event else outcome._replace(event=row.event)


def events(rows: Sequence[InHand]) -> list[Claimed]:
    return [row.event for row in rows]
