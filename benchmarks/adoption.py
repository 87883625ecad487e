"""How long others wait while `certctl migrate` adopts certctl's table: a writer and a reader every 20 ms."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.migrations import certctl_tables as certctl

from . import world
from .figures import note

EVERY = 0.02
SECONDS_BEFORE = 5  # in which nothing is migrated: how long the machine itself makes them wait
NAME = "adoption"
FILL = """
    INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, sent_at, status)
    SELECT 'notif-' || n, 'ExpirationWarning', 'mc-' || n % 10, 'Webhook',
           'https://alerts.example.com/hooks/' || n % 1000, repeat('its certificate expires soon. ', 8),
           now() - n * INTERVAL '9 seconds',
           CASE WHEN n % 50 = 0 THEN 'dead' WHEN n % 250 = 1 THEN 'failed' ELSE 'sent' END
      FROM generate_series(1, {rows}) AS n
"""
SHAPES = {
    "certctl's table": certctl.RETRY_COLUMNS + certctl.RETRY_INDEX,
    "a table whose columns are nullable and have no default": (
        "ALTER TABLE notification_events ADD COLUMN retry_count INTEGER, ADD COLUMN created_at TIMESTAMPTZ"
    ),
}


@dataclass
class Stalls:
    """Somebody who does one thing every 20 ms, and how long it took at most."""

    act: Callable[[psycopg.Connection[Any], int], object]
    url: str
    longest: float = 0
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stop.wait(EVERY):
                start = time.perf_counter()
                self.act(connection, self.done)
                self.longest = max(self.longest, time.perf_counter() - start)
                self.done += 1


def write(connection: psycopg.Connection[Any], number: int) -> None:
    """An alert of certctl's: raised, and marked in the same breath."""
    key = f"new-{time.time_ns()}"
    values = (key, "Revocation", None, "Slack", "#pki", "revoked", None, "pending", None)
    connection.execute(certctl.INSERT, values)
    connection.execute(certctl.UPDATE_STATUS, ("sent", None, key))


def read(connection: psycopg.Connection[Any], number: int) -> None:
    connection.execute(
        "SELECT status, message FROM notification_events WHERE id = %s", [f"notif-{1 + number}"]
    )


@contextmanager
def others(url: str) -> Iterator[tuple[Stalls, Stalls]]:
    """A writer and a reader, at work."""
    both = (Stalls(write, url), Stalls(read, url))
    with ThreadPoolExecutor() as threads:
        at_work = [threads.submit(each.run) for each in both]
        try:
            yield both
        finally:
            for each in both:
                each.stop.set()
        for work in at_work:
            work.result()


def stalls(shape: str, rows: int) -> tuple[float, float]:
    """The seconds that the writer and the reader waited at most while a table of `rows` was adopted."""
    world.execute(f"DROP DATABASE IF EXISTS {NAME}")
    world.execute(f"CREATE DATABASE {NAME}")
    url = os.environ["DATABASE_URL"].replace("/postgres?", f"/{NAME}?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(certctl.REFERENCING)
        connection.execute(FILL.format(rows=rows))
        connection.execute(SHAPES[shape])
        connection.execute("VACUUM ANALYZE notification_events")
        connection.execute("CHECKPOINT")
    with others(url) as (writer, reader):
        time.sleep(SECONDS_BEFORE)
    note(f"{shape}: before, the writer waits {writer.longest:.3f} s at most, the reader {reader.longest:.3f}")
    with others(url) as (writer, reader), world.stopwatch() as seconds:
        command = [sys.executable, "-m", "certctl", "migrate", "--verbosity", "0"]
        subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, check=True)
    note(
        f"{shape}: {rows:,} rows in {seconds[0]:.0f} s; the writer ({writer.done:,} times) waits"
        f" {writer.longest:.3f} s at most, the reader ({reader.done:,} times) {reader.longest:.3f}"
    )
    return writer.longest, reader.longest
