"""Whether the alerts in an engine's hands still matter: asked of each when it is claimed, and again and again
while it waits for its turn. What was renewed since is withdrawn instead of attempted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timedelta

from ..conf import Conf
from ..endpoints.lanes import Lane, Lanes
from ..queue import ends
from ..queue.claim import Claimed
from .connection import Database
from .recorder import Recorder
from .sweep import Clock, InHand

AGAIN = timedelta(seconds=1)  # from the claim, or from the last question, to the next
SHARE = 10  # times as long as a question took, at least


class Relevance:
    """beside_certctl: whether its tables are here, as each sweep finds it."""

    def __init__(
        self, settings: Conf, clock: Clock, database: Database, lanes: Lanes[InHand], recorder: Recorder
    ) -> None:
        self.conf = settings
        self.clock = clock
        self.database = database
        self.lanes = lanes
        self.recorder = recorder
        self.beside_certctl = False
        self._refused = set[str]()  # of what waits, what cannot be withdrawn
        self._next = 0.0 if settings.withdraw_renewed else math.inf

    def withdraw(self, claimed: list[Claimed]) -> int:
        """Take out of what was claimed what was renewed since; answers how many."""
        if not self.conf.withdraw_renewed:
            return 0
        mine = [event for event in claimed if self._can_be_over(event)]
        if not mine or not (found := ends.renewed(mine)):
            return 0
        over = self._withdraw([event for event in mine if event.id in found]).over
        claimed[:] = [event for event in claimed if event.id not in over]
        return len(over)

    def is_due(self) -> bool:
        return bool(self.lanes.waiting) and time.monotonic() >= self._next

    async def ask_again(self) -> None:
        """Withdraw what has waited for a while and was renewed meanwhile. What begins its attempt in between
        goes on. Raises Away."""
        began = time.monotonic()
        if waiting := self._waiting():
            over = await self.database.call(ends.renewed, waiting)
            if over:
                await self._withdraw_of(self.lanes.take_out(lambda row: row.event.id in over))
        took = time.monotonic() - began
        self._next = began + max(AGAIN.total_seconds(), SHARE * took)

    def _waiting(self) -> list[Claimed]:
        """Those of the waiting rows that could be over, without what was claimed just now."""
        latest = self.clock() - AGAIN + self.conf.lease
        rows = [row.event for row in self.lanes.rows() if row.event.leased_until <= latest]
        self._refused.intersection_update(event.id for event in rows)
        return [event for event in rows if event.id not in self._refused and self._can_be_over(event)]

    def _can_be_over(self, event: Claimed) -> bool:
        return ends.can_be_over(event, beside_certctl=self.beside_certctl)

    async def _withdraw_of(self, taken: Sequence[tuple[Lane[InHand], InHand]]) -> None:
        """What cannot be withdrawn is put back; what nobody knows of, because the database is away, is given
        back: it may be withdrawn."""
        try:
            done = await self.database.call(self._withdraw, [row.event for _, row in taken])
        except BaseException:
            for _, row in taken:
                self.recorder.give_back(row.event, 0.0, row.sweep)
            raise
        self._refused |= done.refused
        self.lanes.put_back([(lane, row) for lane, row in taken if row.event.id not in done.over])
        for _, row in taken:
            if row.event.id in done.over:
                row.sweep.withdrew()

    def _withdraw(self, events: Sequence[Claimed]) -> ends.Withdrawn:
        return ends.withdraw(events, self.clock())
