"""The always-on worker: both sweeps in one engine, woken by the database, watched from outside.

It owns three threads' worth of work and no state of the queue: kill it at any moment and the leases
that it held run out.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import conf, database
from ..models import SweepKind
from ..text import one_line
from .heartbeat import BEAT_SECONDS, beat, farewell
from .listen import POLL_SECONDS, listening
from .loop import Engine
from .sweep import Options, Source, worker_name

logger = logging.getLogger(__name__)

GRACE_MARGIN = timedelta(seconds=5)


def run(*, stop: Callable[[], bool], grace: timedelta | None = None) -> None:
    """Deliver until `stop` says so: then finish what is in flight within `grace`, release the rest.

    Raises ImproperlyConfigured for bad settings, and django.db's errors when the database is away at
    the start; once it runs, it waits for the database to come back.
    """
    settings = conf.current()
    logger.info("%s delivers; SIGTERM ends it in order", worker_name())
    if settings.dispatch == "tasks":
        return _dispatch(settings, stop)
    allowed = grace if grace is not None else settings.send_timeout + GRACE_MARGIN
    options = Options(
        limit=settings.sweep_limit,
        stop=stop,
        grace=allowed.total_seconds(),
        beat=lambda in_flight: beat(in_flight),
        alive=tell_systemd,
        patient=True,
    )
    sources = [
        Source(SweepKind.PENDING, interval=settings.process_interval.total_seconds()),
        Source(SweepKind.RETRY, interval=settings.retry_interval.total_seconds()),
    ]
    engine = Engine(settings, options, sources)
    beat(0)
    try:
        with listening(engine.nudge):
            tell_systemd("READY=1")
            engine.run()
    finally:
        tell_systemd("STOPPING=1")
        farewell()


def _dispatch(settings: conf.Conf, stop: Callable[[], bool]) -> None:
    """Hand over what is due to the task engine, at the same intervals and as soon as a row is created."""
    from .tasks import dispatch  # where there is no task engine, nothing of it is needed

    created, options = threading.Event(), Options(limit=settings.sweep_limit, stop=stop)
    every = {
        SweepKind.PENDING: settings.process_interval.total_seconds(),
        SweepKind.RETRY: settings.retry_interval.total_seconds(),
    }
    due = dict.fromkeys(every, 0.0)
    beat(0)
    beaten = time.monotonic()
    try:
        with listening(created.set):
            tell_systemd("READY=1")
            while not stop():
                if created.is_set():
                    created.clear()
                    due[SweepKind.PENDING] = 0.0
                for kind in (kind for kind, at in due.items() if time.monotonic() >= at):
                    due[kind] = time.monotonic() + every[kind]
                    _attempted(f"the {kind} sweep", partial(dispatch, kind, settings, options))
                if time.monotonic() >= beaten + BEAT_SECONDS:
                    beaten = time.monotonic()
                    tell_systemd()
                    _attempted("the heartbeat", partial(beat, 0))
                created.wait(POLL_SECONDS)
    finally:
        tell_systemd("STOPPING=1")
        farewell()


def _attempted(what: str, call: Callable[[], Any]) -> None:
    """What cannot be done now is done the next time: a broker or a database that is away comes back."""
    try:
        call()
    except ImproperlyConfigured:
        raise
    except Exception as error:
        logger.warning("%s did not happen: %s", what, one_line(str(error)))
        database.connection().close()


def tell_systemd(state: str = "WATCHDOG=1") -> None:
    """sd_notify(3): one datagram to the socket that systemd named; nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError as error:
            logger.warning("systemd does not take notice: %s", error)
