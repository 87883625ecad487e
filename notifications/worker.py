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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from . import conf
from .delivery import sweep
from .engine import BEAT_SECONDS, Engine
from .models import NotificationEvent, SweepKind, Worker
from .queryset import CHANNEL, database_now
from .reach import within
from .sweeps import Options, Source, worker_name

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # where the database cannot call us
GRACE_MARGIN = timedelta(seconds=5)
LATE = timedelta(seconds=6 * BEAT_SECONDS)  # a worker that has not been heard of for so long is gone
FORGOTTEN = timedelta(days=1)  # and for so long: nobody waits for it any more


def run(*, stop: Callable[[], bool], grace: timedelta | None = None, using: str = DEFAULT_DB_ALIAS) -> None:
    """Deliver until `stop` says so: then finish what is in flight within `grace`, release the rest.

    Raises ImproperlyConfigured for bad settings, and django.db's errors when the database is away at
    the start; once it runs, it waits for the database to come back.
    """
    settings = conf.current()
    logger.info("%s delivers; SIGTERM ends it in order", worker_name())
    if settings.dispatch == "tasks":
        return _dispatch(settings, stop, using)
    allowed = grace if grace is not None else settings.send_timeout + GRACE_MARGIN
    options = Options(
        limit=settings.sweep_limit,
        stop=stop,
        grace=allowed.total_seconds(),
        beat=lambda in_flight: beat(in_flight, using),
        alive=tell_systemd,
        patient=True,
        using=using,
    )
    sources = [
        Source(SweepKind.PENDING, interval=settings.process_interval.total_seconds()),
        Source(SweepKind.RETRY, interval=settings.retry_interval.total_seconds()),
    ]
    engine = Engine(settings, options, sources)
    beat(0, using)
    try:
        with listening(engine.nudge, using):
            tell_systemd("READY=1")
            engine.run()
    finally:
        tell_systemd("STOPPING=1")
        farewell(using)


def _dispatch(settings: conf.Conf, stop: Callable[[], bool], using: str) -> None:
    """Hand over what is due to the task engine, at the same intervals and as soon as a row is created."""
    created = threading.Event()
    every = {
        SweepKind.PENDING: settings.process_interval.total_seconds(),
        SweepKind.RETRY: settings.retry_interval.total_seconds(),
    }
    due = dict.fromkeys(every, 0.0)
    beat(0, using)
    beaten = time.monotonic()
    try:
        with listening(created.set, using):
            tell_systemd("READY=1")
            while not stop():
                if created.is_set():
                    created.clear()
                    due[SweepKind.PENDING] = 0.0
                for kind in (kind for kind, at in due.items() if time.monotonic() >= at):
                    due[kind] = time.monotonic() + every[kind]
                    _attempted(f"the {kind} sweep", partial(sweep, kind, stop=stop, using=using), using)
                if time.monotonic() >= beaten + BEAT_SECONDS:
                    beaten = time.monotonic()
                    tell_systemd()
                    _attempted("the heartbeat", partial(beat, 0, using), using)
                created.wait(POLL_SECONDS)
    finally:
        tell_systemd("STOPPING=1")
        farewell(using)


def _attempted(what: str, call: Callable[[], Any], using: str) -> None:
    """What cannot be done now is done the next time: a broker or a database that is away comes back."""
    try:
        call()
    except ImproperlyConfigured:
        raise
    except Exception as error:
        logger.warning("%s did not happen: %s", what, one_line(error))
        connections[using].close()


@contextmanager
def listening(nudge: Callable[[], None], using: str) -> Iterator[None]:
    """Call `nudge` when a row is created, by whatever program: LISTEN on PostgreSQL, polling elsewhere."""
    ended = threading.Event()
    wait = _listen if connections[using].vendor == "postgresql" else _poll
    thread = threading.Thread(target=wait, args=(nudge, ended, using), name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2 * POLL_SECONDS)


def _poll(nudge: Callable[[], None], ended: threading.Event, using: str) -> None:
    """Look, so that an idle worker need not write down a sweep every second."""
    waiting = NotificationEvent.objects.using(using).pending().filter(leased_until__isnull=True)
    while not ended.wait(POLL_SECONDS):
        with suppress(DatabaseError):
            if waiting.exists():
                nudge()
    connections[using].close()


def _listen(nudge: Callable[[], None], ended: threading.Event, using: str) -> None:
    """A connection of its own, opened again with a growing pause whenever it breaks or falls silent."""
    import psycopg

    patience, pause = conf.current().database_timeout.total_seconds(), POLL_SECONDS
    while not ended.is_set():
        try:
            with psycopg.connect(**connection_parameters(using), autocommit=True) as connection:
                _ask(connection, f"LISTEN {CHANNEL}", patience)
                nudge()  # what was created while nobody listened
                pause, heard = POLL_SECONDS, time.monotonic()
                while not ended.is_set():
                    for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        nudge()
                        heard = time.monotonic()
                    if time.monotonic() > heard + patience:
                        _ask(connection, "SELECT 1", patience)
                        heard = time.monotonic()
        except psycopg.Error as error:
            logger.warning("not listening for new rows, next try in %g s: %s", pause, one_line(error))
            ended.wait(pause)
            pause = min(2 * pause, 30.0)


def _ask(connection: Any, statement: str, seconds: float) -> None:
    with within(seconds, connection):
        connection.execute(statement)


def connection_parameters(using: str) -> dict[str, Any]:
    """Django's own parameters for the database, for a connection outside its pool."""
    parameters = connections[using].get_connection_params()
    own = ("cursor_factory", "context", "prepare_threshold", "pool")
    return {name: value for name, value in parameters.items() if name not in own}


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# Heartbeats


def beat(in_flight: int, using: str) -> None:
    """Say in the table that this worker lives; its rows are the console's and /readyz's heartbeat."""
    now = database_now(using)
    Worker.objects.using(using).update_or_create(
        name=worker_name(),
        defaults={"seen_at": now, "in_flight": in_flight},
        create_defaults={"started_at": now, "seen_at": now, "in_flight": in_flight},
    )
    Worker.objects.using(using).filter(seen_at__lt=now - FORGOTTEN).delete()


def farewell(using: str) -> None:
    """A worker that ends in order is not missed."""
    try:
        Worker.objects.using(using).filter(name=worker_name()).delete()
    except Exception as error:
        logger.warning("the heartbeat could not be taken away: %s", one_line(error))


def heartbeats(now: datetime | None = None, using: str = DEFAULT_DB_ALIAS) -> list[Worker]:
    """The workers that were heard of lately, newest first."""
    since = (now or database_now(using)) - LATE
    return list(Worker.objects.using(using).filter(seen_at__gte=since).order_by("-seen_at")[:100])


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
