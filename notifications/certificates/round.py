"""Look at many targets at once: bounded in how many, in time and in bytes, whatever one of them does."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

from ..notifiers.http.network import Dialler, Guard
from . import files, tls, trust, verdicts
from .facts import Unreadable, facts_of
from .models import Watch
from .readings import Reading, Seen, reading_of
from .targets import BadTarget, Endpoint, parse
from .trust import TrustStore

logger = logging.getLogger(__name__)

AT_ONCE = 100
READERS, CA_READERS = 8, 32  # at once, for files, and for CA files
FILE_SECONDS = 10.0
THREAD = "certificates-file"

Value = TypeVar("Value")


class Looker:
    """Looks at targets, on an event loop: `async with Looker() as looker`.

    at_once  how many at most are looked at together
    seconds  that one may take
    """

    def __init__(self, at_once: int = AT_ONCE, seconds: float = tls.SECONDS) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def __aenter__(self) -> Looker:
        self._dialler = Dialler(Guard())
        self._reader, self._ca_reader = asyncio.Semaphore(READERS), asyncio.Semaphore(CA_READERS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._dialler.close()

    async def look_at_all(self, watches: Sequence[Watch], now: datetime) -> list[Reading]:
        """A reading for each, in their order. Raises nothing of any of them."""
        files = {watch.ca_file for watch in watches}
        trusted = {file: asyncio.ensure_future(self._trusted(file, now)) for file in files}
        try:
            return await asyncio.gather(*(self._look_at(one, trusted[one.ca_file], now) for one in watches))
        finally:
            for reading in trusted.values():
                reading.cancel()

    async def _look_at(
        self, watch: Watch, trusted: asyncio.Future[TrustStore | Unreadable], now: datetime
    ) -> Reading:
        try:
            target = parse(watch.target)
            if isinstance(target, Endpoint):
                store = await trusted
                async with self._turn:
                    return await self._endpoint(target, store, now)
            async with self._reader:
                return await _in_thread(watch.target, lambda: files.read(target, now, watch.password_file))
        except (Unreadable, BadTarget) as fault:
            return Reading(problem=str(fault))
        except TimeoutError:
            return Reading(problem=f"nothing could be read within {FILE_SECONDS:g} s")
        except Exception:
            logger.exception("%r could not be looked at", watch.target)
            return Reading(problem="it could not be looked at; the log says why")

    async def _trusted(self, ca_file: str, now: datetime) -> TrustStore | Unreadable:
        async with self._ca_reader:
            return await _trusted(ca_file, now)

    async def _endpoint(self, target: Endpoint, trusted: TrustStore | Unreadable, now: datetime) -> Reading:
        if isinstance(trusted, Unreadable):
            raise trusted
        sent = await tls.sent_by(target, self._dialler, self._seconds)
        try:
            facts = facts_of(sent.chain[0])
        except Unreadable as fault:
            raise Unreadable(f"what the server sends {fault}") from fault
        found = verdicts.of_chain(sent.chain, target.name, trusted, now, sent.staple)
        return reading_of([Seen(str(target), facts, tuple(dict.fromkeys(found)))], [])


async def _trusted(ca_file: str, now: datetime) -> TrustStore | Unreadable:
    """Read anew every hour."""
    hour = int(now.timestamp() // 3600)
    try:
        return await _in_thread(f"CA {ca_file}", lambda: trust.trust_store(ca_file, hour))
    except Unreadable as fault:
        return fault
    except TimeoutError:
        return Unreadable("the CA file could not be read")
    except Exception:
        logger.exception("the CA file %r could not be read", ca_file)
        return Unreadable("the CA file could not be read; the log says why")


async def _in_thread(what: str, work: Callable[[], Value]) -> Value:
    """In a thread that nobody waits for when the process ends: a network's disk can hang for ever. Who asks
    for what is being read waits for the same answer, so that a disk that hangs has one thread at most."""
    with _reading_lock:
        answer = _reading.get(what)
        if answer is None:
            answer = _reading[what] = Future()
            answer.set_running_or_notify_cancel()  # nobody who stops waiting ends it for the others
            threading.Thread(target=_read, args=[what, work, answer], name=THREAD, daemon=True).start()
    found: Value = await asyncio.wait_for(asyncio.wrap_future(answer), FILE_SECONDS)
    return found


_reading: dict[str, Future[Any]] = {}
_reading_lock = threading.Lock()


def _read(what: str, work: Callable[[], Any], answer: Future[Any]) -> None:
    try:
        found, error = work(), None
    except BaseException as fault:
        found, error = None, fault
    with _reading_lock:
        del _reading[what]
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)


def look_at_all(
    watches: Iterable[Watch], now: datetime, at_once: int = AT_ONCE, seconds: float = tls.SECONDS
) -> list[Reading]:
    """The same from where no event loop runs."""

    async def look() -> list[Reading]:
        async with Looker(at_once, seconds) as looker:
            return await looker.look_at_all(list(watches), now)

    return asyncio.run(look())
