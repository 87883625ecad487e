"""The leases of one engine.

The database may do what it was asked although its answer is lost on the way. Until an answer is heard, both
the lease that stood and the one that was asked for can be the one in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from ..queue.claim import Claimed
from ..queue.release import renew, take_back
from .recorder import Returned
from .source import Scope, Source
from .sweep import Clock, InHand


class Leases:
    """All but `ending` speaks to the database, and raises its errors."""

    def __init__(self, length: timedelta, clock: Clock) -> None:
        self.length = length
        self.clock = clock
        # Until when the leases last that were asked for without an answer.
        self._claims: list[datetime] = []
        self._renewals: list[datetime] = []

    def claim(self, source: Source, wanted: int, scope: Scope) -> list[Claimed]:
        self.clock.ask()
        now = self.clock()
        self._claims.append(now + self.length)
        claimed = source.claim(wanted, scope, now)
        self._claims.pop()
        return claimed

    def take_back(self) -> None:
        """What a claim took without our hearing of it was not attempted, and is due."""
        while self._claims:
            take_back(self._claims[-1], due_at=self.clock())
            self._claims.pop()

    def ending(self, rows: Iterable[InHand | Returned]) -> list[InHand | Returned]:
        """Those of the rows whose lease is more than half over."""
        soon = self.clock() + self.length / 2
        return [row for row in rows if row.event.leased_until < soon]

    def renew(self, events: Sequence[Claimed]) -> tuple[datetime, set[str]]:
        """Until when the leases last that stand now, and the ids of the notifications that have them."""
        until, unheard = self.clock() + self.length, self._renewals[:]
        self._renewals.append(until)
        kept = renew(events, until, unheard)
        self._renewals.clear()
        return until, kept
