"""An engine's way to the database: in a thread, bounded in time, and patient where that is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

from asgiref.sync import sync_to_async
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import database
from ..database import bound_session, cut_off, kind_of

LONGEST_PAUSE = 30.0  # between tries to reach a database that is away

Value = TypeVar("Value")


class Away(Exception):
    """The database is out of reach, or others are in the way there. Its own error is the cause, where it was
    asked."""


class Database:
    """limit: seconds that one call may take.

    bound  have the server end what a connection of ours that was cut has left there: for a worker's process,
           whose connections nobody else uses
    """

    def __init__(self, limit: float, *, bound: bool = False) -> None:
        self.limit = limit
        self.bound = bound
        self.away_until = 0.0  # it did not answer: nothing is asked of it before this
        self.pause = 0.0
        self.in_doubt = False  # it was away: it may answer by now, and take no change yet
        self._sessions: WeakSet[Any] = WeakSet()  # whose limits are set
        self._thread: ThreadPoolExecutor | None = None

    @property
    def away(self) -> bool:
        return time.monotonic() < self.away_until

    @contextmanager
    def two_connections(self) -> Iterator[None]:
        """For as long as this lasts `call_second` has a thread and a connection of its own, where the
        database and the caller's transaction allow it."""
        if not database.is_postgresql() or database.connection().in_atomic_block:
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="record") as self._thread:
            try:
                yield
            finally:
                self._thread.submit(lambda: database.connection().close()).result()
                self._thread = None

    async def call(self, function: Callable[..., Value], *args: Any) -> Value:
        """What the function answers in the caller's thread. Raises Away while the database is."""
        return await self._bounded(None, function, *args)

    async def call_second(self, function: Callable[..., Value], *args: Any) -> Value:
        """The same beside what the caller's thread does."""
        return await self._bounded(self._thread, function, *args)

    async def _bounded(
        self, thread: ThreadPoolExecutor | None, function: Callable[..., Value], *args: Any
    ) -> Value:
        if self.away:
            raise Away("the database is away")
        used = list[BaseDatabaseWrapper]()

        def work() -> Value:
            connection = database.connection()  # that of the thread which does the work
            used.append(connection)
            if self.bound and database.is_postgresql():
                self._bound(connection)
            return function(*args)

        timer = asyncio.get_running_loop().call_later(self.limit, _cut_off_all, used)
        try:
            answer = await _in(thread, work)
        except Exception as error:
            if (kind := kind_of(error)) not in ("away", "contended"):
                raise
            if kind == "away":
                await _in(thread, _disconnect)
            self._set_away()
            raise Away(kind) from error
        finally:
            timer.cancel()
        self.pause = 0.0
        return answer

    def _bound(self, connection: BaseDatabaseWrapper) -> None:
        connection.ensure_connection()
        if connection.connection not in self._sessions:
            bound_session(connection, self.limit)
            self._sessions.add(connection.connection)

    def _set_away(self) -> None:
        self.in_doubt = True
        self.pause = min(max(2 * self.pause, 1.0), LONGEST_PAUSE)
        self.away_until = time.monotonic() + self.pause


async def _in(thread: ThreadPoolExecutor | None, work: Callable[[], Value]) -> Value:
    if thread is None:
        return await sync_to_async(work)()
    return await asyncio.get_running_loop().run_in_executor(thread, work)


def _disconnect() -> None:
    """A connection that broke is not usable again; the next query opens another."""
    connection = database.connection()
    if not connection.in_atomic_block:
        connection.close()


def _cut_off_all(used: list[BaseDatabaseWrapper]) -> None:
    """The database has not answered for too long: whoever waits for it is told so."""
    for connection in used:
        cut_off(connection.connection)
