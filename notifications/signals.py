"""What a site's own code is told of, once it is committed, in the process that recorded it.

    delivered  event: a notification that was delivered
    died       event: one that is in the dead-letter queue now
    held       channel, recipient, error, until: a worker found that an endpoint is down, and nothing is sent
               there until then. Its rows' recipients begin with `recipient`; "" is the whole channel

The table is the truth, and a signal a courtesy: a process that dies after its commit sends none. While a
sweep runs, receivers are called in a thread of their own, so that one that hangs costs no delivery; what one
raises is logged. Without receivers nothing is done.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.dispatch import Signal

from . import database
from .database import said

logger = logging.getLogger(__name__)

delivered, died, held = Signal(), Signal(), Signal()

MOST_WAITING = 1_000  # transactions of which receivers have yet to be told
PATIENCE = 10.0  # seconds that the end of a sweep waits for receivers
IDLE = 1.0  # seconds after which their thread's connections are closed
TOGETHER = 100  # notifications that are read at once

Arguments = Mapping[str, Any]
Job = Callable[[], None]


def tell_of(signal: Signal, rows: Any, ids: Collection[str]) -> None:
    """Once this transaction is committed, tell the receivers of these notifications, each as it is then.

    rows  the QuerySet that they are among
    """
    if signal.receivers and ids:
        tell(signal, rows.model, partial(_events, rows, list(ids)))


def tell(signal: Signal, sender: Any, told: Callable[[], Iterable[Arguments]]) -> None:
    """Once this transaction is committed, send the signal with each of these arguments.

    told  is asked for them where the receivers are called
    """
    if signal.receivers:
        job = partial(_send, signal, sender, told)
        transaction.on_commit(partial(_in_its_place, job), using=database.alias(), robust=True)


def _events(rows: Any, ids: list[str]) -> Iterator[Arguments]:
    for start in range(0, len(ids), TOGETHER):
        found = rows.in_bulk(ids[start : start + TOGETHER])
        yield from ({"event": event} for event in found.values())


def _send(signal: Signal, sender: Any, told: Callable[[], Iterable[Arguments]]) -> None:
    for arguments in told():
        signal.send_robust(sender, **arguments)  # which logs what a receiver raises


# A thread for receivers


class Aside:
    """The thread that calls receivers while sweeps run in this process."""

    def __init__(self) -> None:
        self.sweeps = 0
        self.lost = 0  # transactions of which nobody was told
        self._lock = threading.Lock()
        self._jobs: queue.Queue[Job | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        with self._lock:
            self.sweeps += 1

    def add(self, job: Job) -> bool:
        """Whether a sweep runs, so that the job is the thread's."""
        with self._lock:
            if not self.sweeps:
                return False
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                self.lost += 1
                if self.lost == 1:
                    logger.error("receivers of signals are too slow, and are not told of everything")
            if self._thread is None:
                arguments = (self._jobs,)
                self._thread = threading.Thread(target=_work, args=arguments, name="signals", daemon=True)
                self._thread.start()
            return True

    def end(self) -> None:
        """The last sweep's end waits for receivers; one that hangs is left alone."""
        with self._lock:
            self.sweeps -= 1
            thread, jobs = self._thread, self._jobs
            if self.sweeps or thread is None:
                return
            self._thread, self._jobs = None, queue.Queue(MOST_WAITING)
            lost, self.lost = self.lost, 0
        if not _ended(thread, jobs):
            lost += jobs.qsize()
            _give_up(jobs)
            logger.error("a receiver of signals has not returned in %g s, and is left alone", PATIENCE)
        if lost:
            logger.error("receivers of signals were not told of %d transactions", lost)


def _ended(thread: threading.Thread, jobs: queue.Queue[Job | None]) -> bool:
    try:
        jobs.put(None, timeout=PATIENCE)
    except queue.Full:
        return False
    thread.join(PATIENCE)
    return not thread.is_alive()


def _give_up(jobs: queue.Queue[Job | None]) -> None:
    """Should the receiver that hangs come back, there is nothing more to do."""
    while True:
        try:
            jobs.get_nowait()
        except queue.Empty:
            jobs.put(None)
            return


def _work(jobs: queue.Queue[Job | None]) -> None:
    while True:
        try:
            job = jobs.get(timeout=IDLE)
        except queue.Empty:
            connections.close_all()
            continue
        if job is None:
            connections.close_all()
            return
        try:
            job()
        except BaseException as error:
            logger.error("receivers of signals were not told: %s", said(error), exc_info=True)
            connections.close_all()


_aside = Aside()


@contextmanager
def aside() -> Iterator[None]:
    """Around a sweep: what it records, receivers are told in their thread."""
    _aside.begin()
    try:
        yield
    finally:
        _aside.end()


def _in_its_place(job: Job) -> None:
    """At once where no sweep runs: a verb's receivers have been called when it returns."""
    if not _aside.add(job):
        job()
