"""Being woken: LISTEN on PostgreSQL, a look every second elsewhere, and where a pooler keeps the calls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from django.db import Error

from .. import conf, database
from ..database import CHANNEL, within
from ..models import NotificationEvent
from ..text import one_line

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # where the database cannot call us
HEARING_SECONDS = 5.0  # for a call of our own to come back
DEAF = (
    "the database's calls for new rows do not come through, as behind PgBouncer in transaction mode: looking"
    " every %g s instead; to be called, name the server itself, or a pool in session mode, in DATABASE_URL"
)


@contextmanager
def listening(nudge: Callable[[], None]) -> Iterator[None]:
    """Call `nudge` when a row is created, by whatever program: LISTEN on PostgreSQL, polling elsewhere."""
    ended = threading.Event()
    wait = _listen if database.is_postgresql() else _poll
    thread = threading.Thread(target=wait, args=(nudge, ended), name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2 * POLL_SECONDS)


def _poll(nudge: Callable[[], None], ended: threading.Event) -> None:
    """Look, so that an idle worker need not write down a sweep every second."""
    patience = conf.current().database_timeout.total_seconds()
    waiting = NotificationEvent.objects.pending().filter(leased_until__isnull=True)
    while not ended.wait(POLL_SECONDS):
        connection = database.connection()
        try:
            connection.ensure_connection()
            with within(patience, connection.connection):
                found = waiting.exists()
        except Error:
            connection.close()  # one that broke would stay so; the engine says that the database is away
        else:
            if found:
                nudge()
    database.connection().close()


def _listen(nudge: Callable[[], None], ended: threading.Event) -> None:
    """A connection of its own, opened again with a growing pause whenever it breaks or falls silent."""
    import psycopg  # a site on SQLite has none

    patience, pause = conf.current().database_timeout.total_seconds(), POLL_SECONDS
    while not ended.is_set():
        try:
            with psycopg.connect(**connection_parameters(), autocommit=True) as connection:
                if not _hears(connection, patience):
                    break
                _ask(connection, f"LISTEN {CHANNEL}", patience)
                nudge()  # what was created while nobody listened
                pause, answered_at = POLL_SECONDS, time.monotonic()
                while not ended.is_set():
                    for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                        nudge()
                        answered_at = time.monotonic()
                    if time.monotonic() > answered_at + patience:
                        _ask(connection, "SELECT 1", patience)
                        answered_at = time.monotonic()
        except psycopg.Error as error:
            logger.warning("not listening for new rows, next try in %g s: %s", pause, one_line(str(error)))
            ended.wait(pause)
            pause = min(2 * pause, 30.0)
    else:
        return
    logger.warning(DEAF, POLL_SECONDS)
    _poll(nudge, ended)


def _hears(connection: Any, patience: float) -> bool:
    """Whether a call from elsewhere reaches this connection while it is idle.

    One of its own would tell nothing: a pooler passes that on with its statement's answer. The channel is one
    that nobody else calls, for a pooler leaves it with whichever connection LISTEN came to.
    """
    import psycopg

    channel = f"{CHANNEL}_{uuid4().hex}"
    _ask(connection, f"LISTEN {channel}", patience)
    with psycopg.connect(**connection_parameters(), autocommit=True) as other:
        _ask(other, f"NOTIFY {channel}", patience)
    heard = any(True for _ in connection.notifies(timeout=HEARING_SECONDS, stop_after=1))
    _ask(connection, f"UNLISTEN {channel}", patience)
    return heard


def _ask(connection: Any, statement: str, seconds: float) -> None:
    with within(seconds, connection):
        connection.execute(statement)


def connection_parameters() -> dict[str, Any]:
    """Django's own parameters for the database, for a connection outside its pool."""
    parameters = database.connection().get_connection_params()
    own = ("cursor_factory", "context", "prepare_threshold", "pool")
    return {name: value for name, value in parameters.items() if name not in own}
