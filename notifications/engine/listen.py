"""Being woken: LISTEN on PostgreSQL, a look every second elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError

from .. import conf, database
from ..database import CHANNEL, within
from ..models import NotificationEvent
from ..text import one_line

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # where the database cannot call us


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
    waiting = NotificationEvent.objects.pending().filter(leased_until__isnull=True)
    while not ended.wait(POLL_SECONDS):
        with suppress(DatabaseError):
            if waiting.exists():
                nudge()
    database.connection().close()


def _listen(nudge: Callable[[], None], ended: threading.Event) -> None:
    """A connection of its own, opened again with a growing pause whenever it breaks or falls silent."""
    import psycopg  # a site on SQLite has none

    patience, pause = conf.current().database_timeout.total_seconds(), POLL_SECONDS
    while not ended.is_set():
        try:
            with psycopg.connect(**connection_parameters(), autocommit=True) as connection:
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


def _ask(connection: Any, statement: str, seconds: float) -> None:
    with within(seconds, connection):
        connection.execute(statement)


def connection_parameters() -> dict[str, Any]:
    """Django's own parameters for the database, for a connection outside its pool."""
    parameters = database.connection().get_connection_params()
    own = ("cursor_factory", "context", "prepare_threshold", "pool")
    return {name: value for name, value in parameters.items() if name not in own}
