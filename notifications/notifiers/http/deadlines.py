"""One timer for many deadlines: a timer for each attempt would take a tenth of its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)

TICK = 0.05  # seconds
STILL = 1.0  # a tick so late means that the loop stood still, or the machine
MOMENT = 0.5  # and for so long it then reads what came meanwhile, before anything is called late


class Deadlines(Generic[Thing]):
    """Calls `late` with each thing that is not done within `seconds`, at most TICK after it should be.

    After the loop stood still it is MOMENT: an answer that waits to be read is no missing answer.
    """

    def __init__(self, seconds: float, late: Callable[[Thing], None]) -> None:
        self.seconds = seconds
        self._late = late
        self._ends: dict[Thing, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0

    def begin(self, thing: Thing, spent: float = 0.0) -> None:
        """spent: seconds of its time that have passed already."""
        self._ends[thing] = time.monotonic() + self.seconds - spent
        if self._timer is None:
            self._tick_after(min(TICK, self.seconds), self._tick)

    def done(self, thing: Thing) -> None:
        self._ends.pop(thing, None)

    def close(self) -> None:
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick_after(self, seconds: float, tick: Callable[[], None]) -> None:
        self._next_tick = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, tick)

    def _tick(self) -> None:
        if time.monotonic() > self._next_tick + STILL:
            self._tick_after(MOMENT, self._judge)
        else:
            self._judge()

    def _judge(self) -> None:
        now, self._timer = time.monotonic(), None
        for thing in [thing for thing, end in self._ends.items() if end <= now]:
            del self._ends[thing]
            self._late(thing)
        if self._ends and self._timer is None:
            self._tick_after(TICK, self._tick)
