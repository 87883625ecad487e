"""A sweep in a table with little history and in one with much."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connections, router

from . import world

CHUNK = 1_000_000
# Finished rows of the past years, as many sent as a real table has, the rest read or dead.
FINISHED = f"""
    INSERT INTO notification_events ({world.COLUMNS}, sent_at)
    SELECT 'past-' || lpad(n::text, 31, '0'), 'ExpirationWarning', 'mc-' || mod(n, 50000), 'Webhook',
           'https://alerts.example.com/hooks/' || mod(n, 1000), %(message)s,
           CASE mod(n, 10) WHEN 0 THEN 'dead' WHEN 1 THEN 'read' ELSE 'sent' END,
           mod(n, 5), NULL, now() - INTERVAL '3 years' + n * INTERVAL '9 seconds',
           now() - INTERVAL '3 years' + n * INTERVAL '9 seconds'
      FROM generate_series(%(first)s, %(last)s) AS n
"""


class To:
    """A router that sends everything to one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_write(self, model: type[Any], **hints: Any) -> str:
        return self.alias

    db_for_read = db_for_write


def use(alias: str) -> None:
    """From now on that is the app's database."""
    router.routers = [To(alias)]


def make(alias: str, rows: int, due: int, url: str) -> None:
    """A database of its own with `rows` of history and `due` rows to send, under `alias` in DATABASES."""
    world.execute(f"CREATE DATABASE {alias}")
    settings.DATABASES[alias] = {**connections["default"].settings_dict, "NAME": alias}
    connections.settings[alias] = settings.DATABASES[alias]
    call_command("migrate", database=alias, verbosity=0)
    with connections[alias].cursor() as cursor:
        indexes = _drop_indexes(alias)
        for first in range(1, rows + 1, CHUNK):
            last = min(first + CHUNK - 1, rows)
            cursor.execute(FINISHED, {"message": world.MESSAGE, "first": first, "last": last})
        world.add_due(due, url, using=alias)
        for index in indexes:
            cursor.execute(index)
        cursor.execute("VACUUM ANALYZE notification_events")
        cursor.execute("CHECKPOINT")


def _drop_indexes(alias: str) -> list[str]:
    """All but the primary key's; the statements that make them again."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename = 'notification_events' AND indexname NOT LIKE '%pkey'"
        )
        found = cursor.fetchall()
        for name, _ in found:
            cursor.execute(f'DROP INDEX "{name}"')
    return [definition for _, definition in found]
