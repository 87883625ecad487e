"""A database that refuses certain rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

FULL = "RAISE EXCEPTION 'full'"
ON_POSTGRESQL = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF {when} THEN {do}; END IF; RETURN NEW; END$$;
    CREATE TRIGGER refuse BEFORE {event} ON notification_events FOR EACH ROW EXECUTE FUNCTION refuse();
"""
ON_SQLITE = """
    CREATE TRIGGER refuse BEFORE {event} ON notification_events WHEN {when}
        BEGIN SELECT RAISE(ABORT, 'full'); END
"""


@contextmanager
def refused_rows(when: str, do: str = FULL, event: str = "INSERT") -> Iterator[None]:
    """No row of notification_events for which `when` holds; the error says that it is full.

    do     what PostgreSQL does instead of raising it
    event  what is refused
    """
    ours = connection.vendor == "postgresql"
    execute((ON_POSTGRESQL if ours else ON_SQLITE).format(when=when, do=do, event=event))
    try:
        yield
    finally:
        execute(
            "DROP TRIGGER refuse ON notification_events; DROP FUNCTION refuse()"
            if ours
            else "DROP TRIGGER refuse"
        )


def execute(script: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(script)
