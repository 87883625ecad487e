"""Ways to deliver what is due, in this process: the engine, and aiohttp with nothing around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any

import aiohttp

from notifications import delivery
from notifications.models import NotificationEvent
from notifications.notifiers.webhook import payload
from notifications.queue.messages import linker, message_of
from notifications.text import to_json

from . import world
from .world import IN_FLIGHT


def sweep(count: int, **options: Any) -> float:
    """One retry sweep over what is due: its seconds."""
    with world.stopwatch() as seconds:
        result = delivery.retry_failed(limit=count, **options)
    if result.sent != count:
        raise RuntimeError(f"not everything was sent: {result}")
    return seconds[0]


def first_sweep(count: int) -> None:
    """One sweep of the pending rows."""
    result = delivery.send_pending(limit=count)
    if result.sent != count:
        raise RuntimeError(f"not everything was sent: {result}")


def sweep_of(count: int, url: str) -> float:
    world.refill(count, url)
    return sweep(count)


def sweep_until(sent: int, limit: int) -> float:
    """Seconds until `sent` rows are on record as sent; what else runs is then stopped."""
    done: list[float] = []
    start = time.perf_counter()

    def watch(result: delivery.SweepResult) -> None:
        if result.sent >= sent and not done:
            done.append(time.perf_counter() - start)

    delivery.retry_failed(limit=limit, progress=watch, stop=lambda: bool(done), grace=0.0)
    return done[0]


def bodies() -> list[bytes]:
    """The very bytes that a sweep posts for the rows in the table."""
    events = NotificationEvent.objects.order_by("next_retry_at")
    messages = (message_of(event, linker("")) for event in events.iterator())
    return [to_json(payload(message, message.message)) for message in messages]


def bare(url: str, posts: Iterable[bytes]) -> float:
    """Post all, as many at once as the engine, with nothing around it: its seconds."""
    with world.stopwatch() as seconds:
        asyncio.run(_post_all(url, iter(posts)))
    return seconds[0]


async def _post_all(url: str, posts: Iterator[bytes]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(_post_some(session, url, posts) for _ in range(IN_FLIGHT)))


async def _post_some(session: aiohttp.ClientSession, url: str, posts: Iterator[bytes]) -> None:
    headers = {"Content-Type": "application/json"}
    for body in posts:
        async with session.post(url, data=body, headers=headers) as response:
            if response.status != 200:
                raise RuntimeError(f"the sink answered {response.status}")
            await response.read()
