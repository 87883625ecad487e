"""A database that refuses certain rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

FULL = "RAISE EXCEPTION 'full'"
ON_POSTGRESQL = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF {when} THEN {do}; END IF; RETURN NEW; END$$;
    CREATE TRIGGER refuse BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse();
"""
ON_SQLITE = """
    CREATE TRIGGER refuse BEFORE {event} ON {table} WHEN {when}
        BEGIN SELECT RAISE(ABORT, 'full'); END
"""


@contextmanager
def refused_rows(
    when: str, do: str = FULL, event: str = "INSERT", table: str = "notification_events"
) -> Iterator[None]:
    """No row of the table for which `when` holds; the error says that it is full.

    do     what PostgreSQL does instead of raising it
    event  what is refused
    """
    ours = connection.vendor == "postgresql"
    execute((ON_POSTGRESQL if ours else ON_SQLITE).format(when=when, do=do, event=event, table=table))
    try:
        yield
    finally:
        execute(f"DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()" if ours else "DROP TRIGGER refuse")


def execute(script: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(script)
