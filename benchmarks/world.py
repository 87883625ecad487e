"""The stage of all benchmarks: a PostgreSQL of its own, the project's settings, and rows to send."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections

from tests import postgres

IN_FLIGHT = 100
SECRET = "whsec_YmVuY2htYXJrcy1zaWduLWxpa2UtYS1yZWFsLXNp"
# Commits reach the disk as in a real installation (fsync, synchronous_commit, full_page_writes and
# autovacuum are PostgreSQL's own defaults); only memory is given what a small server would get.
SERVER = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "jit": "off",
    "maintenance_work_mem": "256MB",
}
COLUMNS = (
    "id, type, certificate_id, channel, recipient, message, status, retry_count, next_retry_at, created_at"
)
MESSAGE = (
    "The certificate api.example.com (issuer: Example Issuing CA 7) expires in 7 days, on 2026-12-01."
    " Renew it, or check why the automatic renewal has not."
)


@contextlib.contextmanager
def running() -> Iterator[None]:
    with postgres.running(durable=True, settings=SERVER) as server:
        os.environ["DATABASE_URL"] = server.url
        setup()
        call_command("migrate", verbosity=0)
        yield
        connection.close()


def setup() -> None:
    """The project as a site runs it, with the Webhook channel, on the database in DATABASE_URL."""
    for name in [name for name in os.environ if name.startswith("CERTCTL_")]:
        del os.environ[name]
    os.environ["CERTCTL_SECRET_KEY"] = "for-benchmarks-only-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789"
    os.environ["CERTCTL_INSECURE_HTTP"] = "1"
    os.environ["CERTCTL_LOG_LEVEL"] = "ERROR"
    os.environ["CERTCTL_WEBHOOK_SECRET"] = SECRET
    os.environ["CERTCTL_WEBHOOK_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    os.environ["CERTCTL_NOTIFICATION_CONCURRENCY"] = str(IN_FLIGHT)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "certctl.settings")
    django.setup()
    configure(ENDPOINT_CONCURRENCY=IN_FLIGHT)


def configure(**changes: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, **changes}


def execute(statement: str, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def ask(statement: str, params: Any = None) -> Any:
    """The first value of the answer."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()[0]


def empty() -> None:
    execute("TRUNCATE notification_events, notification_attempts, notification_requeues CASCADE")
    execute("TRUNCATE notification_sweeps, notification_tallies, notification_holds")


def add_due(
    count: int, url: str, *, name: str = "due", age: str = "1 hour", using: str = DEFAULT_DB_ALIAS
) -> None:
    """Rows that failed once and are due, the oldest since `age`, ten milliseconds apart."""
    statement = f"""
        INSERT INTO notification_events ({COLUMNS})
        SELECT %(name)s || '-' || lpad(n::text, 31, '0'), 'ExpirationWarning', 'mc-' || mod(n, 500),
               'Webhook',
               %(url)s, %(message)s, 'failed', 1,
               now() - %(age)s::interval + n * INTERVAL '10 milliseconds', now() - INTERVAL '1 day'
          FROM generate_series(1, %(count)s) AS n
    """
    values: dict[str, Any] = {"name": name, "url": url, "message": MESSAGE, "age": age, "count": count}
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)


def raise_pending(count: int, url: str, name: str) -> None:
    """Rows that nobody has tried yet; a worker that listens is called."""
    execute(
        """
        INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message)
        SELECT %(name)s || '-' || n, 'ExpirationWarning', 'mc-' || mod(n, 500), 'Webhook', %(url)s,
               %(message)s
          FROM generate_series(1, %(count)s) AS n
        """,
        {"name": name, "url": url, "message": MESSAGE, "count": count},
    )


def raise_for(recipients: Sequence[str], name: str) -> None:
    """One row that nobody has tried yet for each recipient."""
    execute(
        """
        INSERT INTO notification_events (id, type, channel, recipient, message)
        SELECT %(name)s || '-' || n, 'ExpirationWarning', 'Webhook', recipient, %(message)s
          FROM unnest(%(recipients)s::text[]) WITH ORDINALITY AS given (recipient, n)
        """,
        {"name": name, "message": MESSAGE, "recipients": list(recipients)},
    )


def seconds_to_deliver(name: str) -> list[float]:
    """Of each row whose id begins so: from raised to on record as sent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXTRACT(EPOCH FROM sent_at - created_at)::float FROM notification_events"
            " WHERE starts_with(id, %s)",
            [name],
        )
        return [seconds for (seconds,) in cursor.fetchall()]


def settle() -> None:
    """Leave nothing of the preparation to do while the clock runs."""
    execute("VACUUM ANALYZE notification_events")
    execute("CHECKPOINT")


def refill(count: int, url: str) -> None:
    empty()
    add_due(count, url)
    settle()


def count(status: str) -> int:
    return int(ask("SELECT count(*) FROM notification_events WHERE status = %s", [status]))


@contextlib.contextmanager
def stopwatch() -> Iterator[list[float]]:
    """A list that holds the seconds when the block has ended."""
    seconds: list[float] = []
    start = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - start)
