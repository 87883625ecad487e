"""Watching: all that is due, once or for as long as a worker lives, beside its delivering.

    claim ──► look (round.py) ──► record (record.py) ──► alerts

The next claim and the last record are made, in one thread, while the servers are looked at.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from asgiref.sync import async_to_sync, sync_to_async

from .. import database
from ..database import bound_session, database_now, said
from . import tls
from .claims import BATCH, claim, release
from .models import Watch
from .record import Recorded, forget, record
from .round import Looker
from .settling import settle_again
from .sightings import Looked

logger = logging.getLogger(__name__)

AT_ONCE = 100
BESIDE = 20  # at once beside deliveries, whose processor time it shares
TICK = 15.0  # seconds between looks at what is due
PAUSE = 60.0  # after a failure
LIMIT = 60.0  # seconds that its session waits in the database for anything, at most; see bound_session
ENDS_WITHIN = 10.0  # seconds; what it has in hand then is due again when its claim ends
STOPS_WITHIN = 0.5
FORGETS = timedelta(days=1)


class Round(NamedTuple):
    """What one round came to; see Recorded."""

    watches: int = 0
    certificates: int = 0
    problems: int = 0
    raised: tuple[str, ...] = ()

    def __str__(self) -> str:
        certificates = f"{self.certificates} certificate{'' if self.certificates == 1 else 's'}"
        alerts = f"{len(self.raised)} alert{'' if len(self.raised) == 1 else 's'} raised"
        return f"{self.watches} looked at, {certificates}, {alerts}" + (
            f", {self.problems} could not be read" if self.problems else ""
        )

    def as_dict(self) -> dict[str, int]:
        return {**self._asdict(), "raised": len(self.raised)}

    def and_more(self, more: Recorded) -> Round:
        return Round(
            self.watches + more.watches,
            self.certificates + more.certificates,
            self.problems + more.problems,
            self.raised + more.raised,
        )


def host() -> str:
    """This machine's name, as watches of files may have it."""
    return socket.gethostname()


def check_due(
    *,
    stop: Callable[[], bool] = lambda: False,
    at_once: int = AT_ONCE,
    seconds: float = tls.SECONDS,
    progress: Callable[[Round], None] = lambda _: None,
) -> Round:
    """Look at all that is due, raise what follows, and settle what was renewed.

    seconds  that one server may take

    Raises django.db's errors when the database is away.
    """
    claimed = partial(claim, host=host(), count=BATCH)
    done = async_to_sync(_check)(lambda: claimed(database_now()), stop, at_once, seconds, progress)
    settle_again(database_now())
    return done


def check(watches: Sequence[Watch], *, at_once: int = AT_ONCE, seconds: float = tls.SECONDS) -> Round:
    """The same of these, which are claimed."""
    parts = [list(watches[start : start + BATCH]) for start in range(0, len(watches), BATCH)][::-1]
    return async_to_sync(_check)(
        lambda: parts.pop() if parts else [], lambda: False, at_once, seconds, lambda _: None
    )


async def _check(
    claim_next: Callable[[], list[Watch]],
    stop: Callable[[], bool],
    at_once: int,
    seconds: float,
    progress: Callable[[Round], None],
) -> Round:
    """The table is spoken to in the caller's thread."""
    done, recording = Round(), asyncio.ensure_future(_nothing())
    claimed = await sync_to_async(claim_next)()
    async with Looker(at_once, seconds) as looker:
        try:
            while claimed:
                following = asyncio.ensure_future(sync_to_async(claim_next)())
                looked = await _look(looker, claimed, stop)
                done = done.and_more(await recording)
                progress(done)
                recording = asyncio.ensure_future(sync_to_async(_record)(looked))
                left, claimed = claimed[len(looked) :], await following
                if stop():
                    await sync_to_async(release)([*left, *claimed])
                    break
        finally:
            await asyncio.wait([recording])
        return done.and_more(recording.result())


async def _look(looker: Looker, watches: Sequence[Watch], stop: Callable[[], bool]) -> list[Looked]:
    """What was seen; nothing where it was told to stop before all was."""
    looking = asyncio.ensure_future(looker.look_at_all(watches, await sync_to_async(database_now)()))
    while not looking.done() and not stop():
        await asyncio.wait([looking], timeout=STOPS_WITHIN)
    if not looking.done():
        looking.cancel()
        await asyncio.wait([looking])
        return []
    return list(zip(watches, looking.result(), strict=True))


async def _nothing() -> Recorded:
    return Recorded(0, 0, 0, ())


def _record(looked: Sequence[Looked]) -> Recorded:
    return record(looked, database_now())


# Beside a worker


@contextmanager
def watching(stop: threading.Event | None = None) -> Iterator[None]:
    """Look at what is due for as long as this lasts, in a thread of its own. Nothing that goes wrong there
    comes out of it, and it keeps nobody from ending."""
    stop = stop or threading.Event()
    thread = threading.Thread(target=_watch, args=[stop], name="certificates", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(ENDS_WITHIN)


def _watch(stop: threading.Event) -> None:
    forgotten, pause = -math.inf, 0.0
    while not stop.wait(pause):
        pause = TICK
        try:
            _connect()
            done = check_due(stop=stop.is_set, at_once=BESIDE)
            if done.watches:
                logger.info("%s", done, extra=done.as_dict())
            if time.monotonic() > forgotten + FORGETS.total_seconds():
                forget(database_now())
                forgotten = time.monotonic()
        except Exception as error:
            pause = PAUSE
            logger.warning("certificates are not watched, next try in %g s: %s", pause, said(error))
        _disconnect()


def _connect() -> None:
    """One session for each look, which waits for nothing without an end."""
    connection = database.connection()
    connection.ensure_connection()
    bound_session(connection, LIMIT)


def _disconnect() -> None:
    """One that broke is not usable again; and none is held between two looks."""
    with suppress(Exception):
        database.connection().close()
