"""An engine's way to the database: in a thread, bounded in time, and patient where that is asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import database
from ..database import AWAY, cut_off
from ..text import one_line

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0  # between tries to reach a database that is away

Desk = Callable[..., Awaitable[Any]]  # calls something in a thread that has a connection


class Trips:
    """limit: seconds that one trip may take; patient: a database that is away is waited for, not an error."""

    def __init__(self, *, limit: float, patient: bool) -> None:
        self.limit = limit
        self.patient = patient
        self.away_until = 0.0  # the database did not answer: nothing is asked of it before this
        self.pause = 0.0
        self.beside: Desk = callers_thread  # beside what the caller's thread does

    @property
    def away(self) -> bool:
        return time.monotonic() < self.away_until

    @contextmanager
    def two_connections(self) -> Iterator[None]:
        """For as long as this lasts `beside` is another connection, where one can be had."""
        with second_connection() as self.beside:
            yield

    async def make(self, call: Callable[..., Any], *args: Any, at: Desk | None = None) -> bool:
        """Whether it was done; False, where we are patient, while the database is away."""
        if self.away:
            return False
        desk, used = at or callers_thread, list[BaseDatabaseWrapper]()

        def trip() -> None:
            used.append(database.connection())  # that of the thread which makes the trip
            call(*args)

        timer = asyncio.get_running_loop().call_later(self.limit, cut_all, used)
        try:
            await desk(trip)
        except AWAY as error:
            await desk(self._disconnect)
            if not self.patient:
                raise
            self.pause = min(max(2 * self.pause, 1.0), LONGEST_PAUSE)
            self.away_until = time.monotonic() + self.pause
            logger.warning("the database is away, next try in %g s: %s", self.pause, one_line(str(error)))
            return False
        finally:
            timer.cancel()
        self.pause = 0.0
        return True

    def _disconnect(self) -> None:
        """A connection that broke is not usable again; the next query opens another."""
        connection = database.connection()
        if not connection.in_atomic_block:
            connection.close()


async def callers_thread(call: Callable[..., Any], *args: Any) -> Any:
    return await sync_to_async(call)(*args)


@contextmanager
def second_connection() -> Iterator[Desk]:
    """A thread with a connection of its own, where the database and the caller's transaction allow it."""
    connection = database.connection()
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield callers_thread
        return

    async def desk(call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, call, *args)

    with ThreadPoolExecutor(1, thread_name_prefix="record") as thread:
        try:
            yield desk
        finally:
            thread.submit(lambda: database.connection().close()).result()


def cut_all(used: list[BaseDatabaseWrapper]) -> None:
    """The database has not answered for too long: whoever waits for it is told so."""
    for connection in used:
        cut_off(connection.connection)
