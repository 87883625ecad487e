"""What a worker does when its database is out of reach, or will not do its work for now.

TCP notices a peer that is gone within the keepalive times (certctl/environment.py sets them). It never
notices a peer, or something between, that takes every packet and says nothing: for that there is `cut`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError

# The last is what PostgreSQL calls it to be read-only, as a server is that was failed over from.
AWAY = (OperationalError, InterfaceError, InternalError)


def cut(connection: Any) -> None:
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
    timer = threading.Timer(seconds, cut, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
