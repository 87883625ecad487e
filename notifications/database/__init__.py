"""The database that the app's tables are in: its clock, its wake-up call, many rows in one statement, what
its errors mean, and what a worker does when it is out of reach.

TCP notices a peer that is gone within the keepalive times (certctl/environment.py sets them). It never
notices a peer, or something between, that takes every packet and says nothing: for that there is `cut_off`.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Literal, TypeVar

import orjson
from django.apps import apps
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.transaction import Atomic
from django.utils import timezone

from ..text import one_line
from .values import read_anything

logger = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., Any])
Rows = TypeVar("Rows", bound=QuerySet[Any])

# The last is what PostgreSQL calls it to be read-only, as a server is that was failed over from.
AWAY = (OperationalError, InterfaceError, InternalError)
CHANNEL = "notification_events"  # what workers LISTEN on


def alias() -> str:
    """The database that the app's tables are in, as the site's router says: all of the app reads and writes
    there, so that nothing it decides is read from a replica."""
    return router.db_for_write(apps.get_model("notifications", "NotificationEvent"))


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to it."""
    return connections[alias()]


def is_postgresql() -> bool:
    return connection().vendor == "postgresql"


def opened(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Django has opened a connection."""
    if connection.alias == alias():
        read_anything(connection)


def atomic(*, durable: bool = False) -> Atomic:
    return transaction.atomic(using=alias(), durable=durable)


def without_transaction(view: View) -> View:
    """A view that is run in no transaction, whatever a site's ATOMIC_REQUESTS say: it makes its own."""
    for name in connections:
        transaction.non_atomic_requests(using=name)(view)
    return view


@contextmanager
def our_word(*, durable: bool = False) -> Iterator[None]:
    """A transaction whose changes of status are ours, also of a row that no worker has leased: what claims,
    records and requeues the guard knows by itself (migration 0016)."""
    with atomic(durable=durable):
        if is_postgresql():
            with connection().cursor() as cursor:
                cursor.execute("SELECT set_config(%s, 'on', true)", [OUR_WORD])
        yield


OUR_WORD = "certctl_notifications.ours"  # a setting of the transaction


LOCK_PATIENCE = "100ms"


@contextmanager
def no_long_wait(seconds: float | None = None, patience: str = LOCK_PATIENCE) -> Iterator[None]:
    """Within a transaction: who deletes a certificate waits for the notification that we hold, and we would
    wait for the certificate. We give up before PostgreSQL, after a second, ends one of us.

    seconds   that a statement may take, where that matters too
    patience  that it has with a lock
    """
    limits = {"lock_timeout": patience}
    if seconds is not None:
        limits["statement_timeout"] = f"{round(seconds * 1000)}ms"
    if not is_postgresql():
        yield
        return
    with connection().cursor() as cursor:
        before = {}
        for name in limits:
            cursor.execute("SELECT current_setting(%s)", [name])
            [before[name]] = cursor.fetchone()
        for name, limit in limits.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, limit])
        yield
        for name, limit in before.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, limit])


def check_now() -> None:
    """Within `no_long_wait`: what would be checked when the transaction ends, which may wait, too."""
    if is_postgresql():
        connection().check_constraints()


def unlocked(rows: Rows) -> Rows:
    """Those that nobody else holds, and hold them until the transaction ends: nobody waits. SQLite, with its
    one writer, ignores it."""
    return rows.select_for_update(skip_locked=True, no_key=True) if is_postgresql() else rows


def database_now() -> datetime:
    """The database's clock: workers on several hosts compare leases by it, never by their own.

    SQLite has no server, so there the one machine's clock is the database's.
    """
    if not is_postgresql():
        return timezone.now()
    with connection().cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def is_read_only() -> bool:
    """Whether the server takes no change, as a standby, or one that was failed over from."""
    with connection().cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only')" if is_postgresql() else "SELECT 1")
        return bool(cursor.fetchone()[0] == "on")


def wake_workers() -> None:
    """Tell the workers, when the transaction ends, that rows are pending again."""
    if is_postgresql():
        with connection().cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


SLOTS = 32
SLOT_LOCKS = 0x6E6F7466  # the first key of their advisory locks


def free_slot() -> str:
    """SQL for a number that nobody else has until this transaction ends: what all workers count, each counts
    in rows of its own number, so that none waits for another to commit."""
    if not is_postgresql():
        return "0"
    return f"""COALESCE((SELECT n FROM generate_series(0, {SLOTS - 1}) AS n
                          WHERE pg_try_advisory_xact_lock({SLOT_LOCKS}, n) LIMIT 1),
                        {SLOTS} + pg_backend_pid())"""  # noqa: S608  (constants only)


# Many rows travel as one JSON text: one parameter costs a fraction of eight for every row.


def carried(*columns: tuple[str, str]) -> str:
    """SQL for the rows that a JSON text, the statement's next parameter, carries: a table named o.

    columns  with the types that they have in PostgreSQL's eyes; what a row leaves out is NULL
    """
    if is_postgresql():
        return f"json_to_recordset(%s) AS o({', '.join(f'{name} {kind}' for name, kind in columns)})"
    values = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name, _ in columns)
    return f"(SELECT {values} FROM json_each(%s)) AS o"  # noqa: S608  (constants and a placeholder only)


def dump(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as `carried` takes them."""
    return orjson.dumps(list(rows)).decode()


# What an error means

Kind = Literal["away", "refused", "contended", "other"]
Answer = TypeVar("Answer")

# By SQLSTATE or its class. Away: no connection, a shutdown, no resources; 25006 is read-only, as a server is
# that was failed over from, and 25P03 ends a session that was idle too long within a transaction. Refused:
# one row's own fault, and what a trigger raises. Contended: others were in the way.
AWAY_STATES = ("08", "53", "57P", "58", "XX", "25006", "25P03", "28", "3D")
REFUSED_STATES = ("22", "23", "54", "P0")
CONTENDED_STATES = ("40001", "40P01", "55P03", "57014")
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
SQLITE_REFUSALS = ("malformed JSON", "Could not decode", "integer overflow", "too big")
PAUSES = (0.05, 0.2, 0.5)  # seconds before a contended call is made again


def kind_of(error: BaseException) -> Kind:
    """What to do about it: wait for the database; find the one row that it refuses; try again soon; or
    "other", which is a fault of the program or of the installation."""
    cause = error.__cause__ or error
    state = str(getattr(cause, "sqlstate", None) or "")
    if state:
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
            ("contended", CONTENDED_STATES),
            ("away", AWAY_STATES),
            ("refused", REFUSED_STATES),
        )
        return next((kind for kind, states in kinds if state.startswith(states)), "other")
    if isinstance(cause, sqlite3.Error) and (kind := _sqlite_kind(cause)):
        return kind
    # What the adapter or the JSON could not hold never came to the database.
    if isinstance(error, DataError | IntegrityError | ValueError | OverflowError | orjson.JSONEncodeError):
        return "refused"
    return "away" if isinstance(error, AWAY) else "other"


def _sqlite_kind(error: sqlite3.Error) -> Kind | None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    if code & 0xFF in BUSY:
        return "contended"
    if any(said in str(error) for said in SQLITE_REFUSALS):
        return "refused"
    return "other" if code == sqlite3.SQLITE_ERROR else None


def is_read_only_error(error: BaseException) -> bool:
    """Whether the server took no change because it takes none."""
    cause = error.__cause__ or error
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
    return getattr(cause, "sqlstate", None) == READ_ONLY_STATE


READ_ONLY_STATE = "25006"
READ_ONLY = (
    "The database takes no change at the moment: it is read-only, as a standby is. Nothing was changed;"
    " try again later."
)


def persistently(call: Callable[[], Answer], what: str, pauses: Sequence[float] = PAUSES) -> Answer:
    """What the call answers, made again after each of the pauses where others were in its way.

    what  is done, for the log
    """
    for pause in pauses:
        try:
            return call()
        except Exception as error:
            if kind_of(error) != "contended":
                raise
            logger.warning("%s: in the way of others, tried again in %g s: %s", what, pause, said(error))
        time.sleep(pause)
    return call()


def said(error: BaseException) -> str:
    """An error in one line; what follows in a database's error can quote the row."""
    return f"{type(error).__name__}: {one_line((str(error).splitlines() or [''])[0])}"


def bound_session(connection: BaseDatabaseWrapper, seconds: float) -> None:
    """Have the server end by itself, well within so many seconds, what this worker's session waits for or
    leaves open: a connection that was cut leaves nothing behind there.

    Nothing behind a pooler, which would give the limits to others with its connection, and which ends by
    itself what a client leaves open: there the server's process is not the one that we were told of.
    """
    if connection.vendor != "postgresql":
        return
    limits = {
        "statement_timeout": 0.8 * seconds,
        "idle_in_transaction_session_timeout": 0.8 * seconds,
        "lock_timeout": min(0.2 * seconds, LONGEST_LOCK),
    }
    with connection.cursor() as cursor:
        for name, limit in limits.items():
            cursor.execute(
                "SELECT set_config(%s, %s, false) WHERE pg_backend_pid() = %s",
                [name, f"{max(1, round(limit * 1000))}ms", connection.connection.info.backend_pid],
            )


LONGEST_LOCK = 5.0  # seconds that a worker's statement waits for another's lock


def encoding_fault() -> str | None:
    """Why the server may refuse a text: it keeps another encoding than UTF-8. None where all is well."""
    if not is_postgresql():
        return None
    with connection().cursor() as cursor:
        cursor.execute("SELECT current_setting('server_encoding')")
        [encoding] = cursor.fetchone()
    return None if encoding == "UTF8" else f"the database's encoding is {encoding}, not UTF-8"


# Out of reach

OBEYS_WITHIN = 1.0  # seconds that a server has to end a statement; then the connection is cut


def cut_off(connection: Any) -> None:
    """End a connection of psycopg's from any thread: whoever waits for its answer gets an OperationalError.

    Anything else, or none at all, is left alone.
    """
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except Exception:  # noqa: S110  (no connection, one without a socket, one that is closed already)
        pass


def cancel(connection: Any) -> None:
    """Have the server, or SQLite, end the statement that waits, from any thread; nothing where none does."""
    with suppress(Exception):
        if hasattr(connection, "cancel_safe"):
            connection.cancel_safe(timeout=OBEYS_WITHIN)
        else:
            connection.interrupt()


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """What is read and written inside takes no longer, all of it together: whoever goes on for longer gets an
    OperationalError, also where the server says nothing any more."""
    used, deadline = connection(), time.monotonic() + seconds

    def begin(execute: Callable[..., Any], *statement: Any) -> Any:
        if time.monotonic() > deadline:
            raise OperationalError(f"not done within {seconds:g} s")
        return execute(*statement)

    with (
        _unless_left(seconds, lambda: cancel(used.connection)),
        _unless_left(seconds + OBEYS_WITHIN, lambda: cut_off(used.connection)),
        used.execute_wrapper(begin),
    ):
        yield


@contextmanager
def within(seconds: float, connection: Any) -> Iterator[None]:
    """What waits for the connection inside does so no longer than that."""
    with _unless_left(seconds, lambda: cut_off(connection)):
        yield


@contextmanager
def _unless_left(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Act when the inside lasts so long, and never once it is left: the connection is another's then."""
    lock, left = threading.Lock(), False

    def ring() -> None:
        with lock:
            if not left:
                act()

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            left = True
