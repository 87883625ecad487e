"""The always-on worker: both sweeps in one engine, woken by the database, watched from outside.

It owns no state of the queue: kill it at any moment and the leases that it held run out.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta

from .. import conf
from ..models import SweepKind
from .heartbeat import beat, farewell
from .listen import listening
from .loop import AnySender, Engine
from .source import DueRows, Schedule
from .sweep import Options, worker_name

logger = logging.getLogger(__name__)

GRACE_MARGIN = timedelta(seconds=5)


def run(
    settings: conf.Conf,
    sender: Callable[[Engine], AnySender],
    *,
    stop: Callable[[], bool],
    grace: timedelta | None = None,
) -> None:
    """Deliver until `stop` says so: then finish what is in flight within `grace`, release the rest.

    Raises ImproperlyConfigured for bad settings, and django.db's errors when the database is away at
    the start; once it runs, it waits for the database to come back.
    """
    logger.info("%s delivers; SIGTERM ends it in order", worker_name())
    allowed = grace if grace is not None else settings.send_timeout + GRACE_MARGIN
    options = Options(
        limit=settings.sweep_limit,
        stop=stop,
        grace=allowed.total_seconds(),
        beat=beat,
        alive=tell_systemd,
        patient=True,
    )
    every = {SweepKind.PENDING: settings.process_interval, SweepKind.RETRY: settings.retry_interval}
    schedules = [
        Schedule(DueRows(kind, settings, options), interval.total_seconds())
        for kind, interval in every.items()
    ]
    engine = Engine(settings, options, schedules, sender)
    beat(0)
    try:
        with listening(engine.nudge):
            tell_systemd("READY=1")
            engine.run()
    finally:
        tell_systemd("STOPPING=1")
        farewell()


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
