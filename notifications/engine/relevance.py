"""Whether the alerts in an engine's hands still matter: asked of each when it is claimed, and again and again
while it waits for its turn. What was renewed since is withdrawn instead of attempted."""

from __future__ import annotations

import math
import time
from datetime import timedelta

from ..conf import Conf
from ..endpoints.lanes import Lanes
from ..models import relevance
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
        self._next = 0.0 if settings.withdraw_renewed else math.inf

    def withdraw(self, claimed: list[Claimed]) -> int:
        """Take out those that were renewed since; answers how many."""
        if not self.conf.withdraw_renewed:
            return 0
        return ends.withdraw(claimed, self.clock(), beside_certctl=self.beside_certctl)

    def is_due(self) -> bool:
        return bool(self.lanes.waiting) and time.monotonic() >= self._next

    async def ask_again(self) -> None:
        """Withdraw what has waited for a while and was renewed meanwhile. What begins its attempt in between
        goes on. Raises Away."""
        began = time.monotonic()
        if waiting := self._waiting():
            over = await self.database.call(relevance.renewed, waiting)
            if over:
                await self._withdraw(self.lanes.take_out(lambda row: row.event.id in over))
        took = time.monotonic() - began
        self._next = began + max(AGAIN.total_seconds(), SHARE * took)

    def _waiting(self) -> list[Claimed]:
        """Those of the waiting rows that could be over, without what was claimed just now."""
        latest = self.clock() - AGAIN + self.conf.lease
        return [
            row.event
            for row in self.lanes.rows()
            if row.event.leased_until <= latest
            and ends.can_be_over(row.event, beside_certctl=self.beside_certctl)
        ]

    async def _withdraw(self, rows: list[InHand]) -> None:
        left = [row.event for row in rows]
        try:
            await self.database.call(self.withdraw, left)
        finally:
            kept = {event.id for event in left}
            for row in rows:
                if row.event.id in kept:
                    self.recorder.give_back(row.event, 0.0, row.sweep)
                else:
                    row.sweep.withdrew()
