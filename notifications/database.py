"""The database that the app's tables are in: its clock, its wake-up call, many rows in one statement, and
what a worker does when it is out of reach.

TCP notices a peer that is gone within the keepalive times (certctl/environment.py sets them). It never
notices a peer, or something between, that takes every packet and says nothing: for that there is `cut_off`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import orjson
from django.apps import apps
from django.db import InterfaceError, InternalError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic
from django.utils import timezone

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


def atomic(*, durable: bool = False) -> Atomic:
    return transaction.atomic(using=alias(), durable=durable)


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


def wake_workers() -> None:
    """Tell the workers, when the transaction ends, that rows are pending again."""
    if is_postgresql():
        with connection().cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


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


# Out of reach


def cut_off(connection: Any) -> None:
    """End a connection of psycopg's from any thread: whoever waits for its answer gets an OperationalError.

    Anything else, or none at all, is left alone.
    """
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except Exception:  # noqa: S110  (no connection, one without a socket, one that is closed already)
        pass


@contextmanager
def within(seconds: float, connection: Any) -> Iterator[None]:
    """What waits for the connection inside does so no longer than that."""
    timer = threading.Timer(seconds, cut_off, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
