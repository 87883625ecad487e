"""Limits of time on a connection: what is late is ended, and nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import OperationalError, connection

from notifications import database

pytestmark = pytest.mark.django_db
LIMITS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "cancel": lambda: database.in_time(0.0),
    "cut_off": lambda: database.within(0.0, connection.connection),
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_a_limit_does_is_done_before_it_is_left(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is up at the very moment when the work is done: the connection is the next one's then."""
    begun, left = threading.Event(), threading.Event()
    done = list[bool]()

    def slowly(_: Any) -> None:
        begun.set()
        done.append(not left.wait(0.3))

    monkeypatch.setattr(database, what, slowly)
    with LIMITS[what]():
        assert begun.wait(20)
    left.set()
    assert done == [True]


def test_what_goes_on_for_longer_is_ended_and_the_connection_is_good() -> None:
    forever = "SELECT pg_sleep(60)" if database.is_postgresql() else ENDLESS
    started = time.monotonic()
    late = pytest.raises(OperationalError)
    with late, database.atomic(), database.in_time(0.2), connection.cursor() as cursor:
        cursor.execute(forever)
    assert time.monotonic() - started < 30
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
