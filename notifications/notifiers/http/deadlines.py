"""One timer for many deadlines: a timer for each attempt would take a tenth of its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)

TICK = 0.05  # seconds


class Deadlines(Generic[Thing]):
    """Calls `late` with each thing that is not done within `seconds`, at most TICK after it should be."""

    def __init__(self, seconds: float, late: Callable[[Thing], None]) -> None:
        self.seconds = seconds
        self._late = late
        self._ends: dict[Thing, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, thing: Thing, spent: float = 0.0) -> None:
        """spent: seconds of its time that have passed already."""
        self._ends[thing] = time.monotonic() + self.seconds - spent
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(min(TICK, self.seconds), self._tick)

    def done(self, thing: Thing) -> None:
        self._ends.pop(thing, None)

    def close(self) -> None:
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = time.monotonic()
        for thing in [thing for thing, end in self._ends.items() if end <= now]:
            del self._ends[thing]
            self._late(thing)
        later = asyncio.get_running_loop().call_later
        self._timer = later(TICK, self._tick) if self._ends else None
