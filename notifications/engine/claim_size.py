"""How many rows to claim at once, and how many in hand are plenty. Pure: the time is an argument."""

from __future__ import annotations

FIRST = 20  # rows; the size grows from here while endpoints keep up
GROWTH = 4
MOST = 10  # rows claimed at once for each attempt that may be in flight
MOST_SILENT = 3  # rows in hand, likewise, for endpoints that do not answer: they may never start
DATABASE_SECONDS = 0.1  # that a call of the database takes, on a busy day


class ClaimSize:
    """concurrency: attempts that may be in flight.

    since  when what is counted at the moment began to be, in seconds of one clock
    most   rows to claim at once: at most what starts within about a second, so that a lease outlasts the wait
    """

    def __init__(self, concurrency: int, now: float) -> None:
        self.concurrency = concurrency
        self.since = now
        self._size = FIRST
        self._pace = 0.0  # attempts that ended within a second, of late
        self._plan()

    def begin(self, now: float) -> None:
        """Nothing was in hand: the pace is that of work, not of waiting for it."""
        self.since = now

    def ended(self, attempts: int, now: float) -> None:
        """So many since the last call."""
        self._pace, self.since = attempts / max(now - self.since, 0.001), now
        self._plan()

    def claimed(self, *, refused: bool) -> None:
        """A claim came in. Rows refused by their lanes mean that few endpoints own what is next: the others
        are looked for in small steps."""
        grown = self._size // 2 if refused else self._size * GROWTH
        self._size = max(FIRST, min(grown, MOST * self.concurrency))
        self._plan()

    def _plan(self) -> None:
        quick = max(2 * self.concurrency, min(round(self._pace), MOST * self.concurrency))
        self.most = min(self._size, quick)
        # They last while the database answers.
        self._plenty = max(self.most // 2, min(round(self._pace * DATABASE_SECONDS), self.most))

    def plenty(self, ready: int) -> bool:
        """Whether so many rows in hand, for endpoints that answer, are enough."""
        return ready > self._plenty
