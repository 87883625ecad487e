"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
import socket
import time

from notifications.notifiers.http.deadlines import STILL, Deadlines


async def next_of(late: asyncio.Queue[str]) -> str:
    return await asyncio.wait_for(late.get(), 10)


def test_what_is_not_done_in_time_is_late_once_and_in_order() -> None:
    async def run() -> list[str]:
        late = asyncio.Queue[str]()
        deadlines = Deadlines[str](0.02, late.put_nowait)
        for name in ("first", "done", "second"):
            deadlines.begin(name)
        deadlines.done("done")
        deadlines.done("never begun")
        found = [await next_of(late), await next_of(late)]
        deadlines.begin("third")
        return [*found, await next_of(late)]

    assert asyncio.run(run()) == ["first", "second", "third"]


def test_no_timer_runs_while_nothing_is_waited_for() -> None:
    async def run() -> None:
        late = asyncio.Queue[str]()
        deadlines = Deadlines[str](0.02, late.put_nowait)
        deadlines.begin("one")
        assert deadlines._timer is not None
        assert await next_of(late) == "one"
        await asyncio.sleep(0)
        assert deadlines._timer is None
        deadlines.begin("closed")
        deadlines.close()
        assert (deadlines._timer, deadlines._ends) == (None, {})

    asyncio.run(run())


def test_an_answer_that_waits_to_be_read_when_the_loop_goes_on_is_not_late() -> None:
    """The machine was paused, or something held the loop: what came meanwhile is read first."""

    async def run() -> list[str]:
        late = asyncio.Queue[str]()
        deadlines = Deadlines[str](0.02, late.put_nowait)
        here, there = socket.socketpair()
        with here, there:
            asyncio.get_running_loop().add_reader(here, lambda: (here.recv(1), deadlines.done("answered")))
            deadlines.begin("answered")
            deadlines.begin("unanswered")
            there.send(b"!")
            time.sleep(STILL + 0.2)  # noqa: ASYNC251  (what is tested)
            found = [await next_of(late)]
            asyncio.get_running_loop().remove_reader(here)
        return [*found, *(late.get_nowait() for _ in range(late.qsize()))]

    assert asyncio.run(run()) == ["unanswered"]
