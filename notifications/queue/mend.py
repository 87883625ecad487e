"""SQLite keeps whatever a program gives it. What no statement of ours could address or compare is put into
the form that PostgreSQL would have asked for, in the rows that wait for delivery: then they are delivered."""

from __future__ import annotations

from datetime import datetime

from .. import database

LINES = ("type", "certificate_id", "channel", "recipient", "message", "error", "last_error", "dedup_key")
NO_ID = """(typeof(id) <> 'text' OR instr(id, char(0))
            OR (id GLOB '*[^ -~]*' AND is_unicode(CAST(id AS BLOB)) IS NOT 1))"""
A_TIME = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]*"


def _no_time(column: str) -> str:
    return f"({column} IS NOT NULL AND (typeof({column}) <> 'text' OR {column} NOT GLOB '{A_TIME}'))"


def _time(column: str, otherwise: str) -> str:
    mended = f"COALESCE(strftime('%%Y-%%m-%%d %%H:%%M:%%f', CAST({column} AS TEXT)), {otherwise})"
    return f"{column} = CASE WHEN {_no_time(column)} THEN {mended} ELSE {column} END"


FAULTS = " OR ".join(
    [
        NO_ID,
        *(f"typeof({name}) NOT IN ('text', 'null')" for name in LINES),
        "typeof(retry_count) <> 'integer' OR retry_count NOT BETWEEN -2147483648 AND 2147483647",
        *(_no_time(name) for name in ("created_at", "next_retry_at", "leased_until")),
    ]
)
MEND = f"""
    UPDATE notification_events SET
           id = CASE WHEN {NO_ID} THEN 'x' || lower(hex(id)) ELSE id END,
           {", ".join(f"{name} = CAST({name} AS TEXT)" for name in LINES)},
           retry_count = MIN(MAX(CAST(retry_count AS INTEGER), -2147483648), 2147483647),
           {_time("created_at", "'0001-01-01 00:00:00'")},
           {_time("next_retry_at", "%s")},
           {_time("leased_until", "NULL")}
     WHERE status IN ('pending', 'failed') AND ({FAULTS})
"""  # noqa: S608  (constants and a placeholder only)


def mend(*, now: datetime) -> None:
    """Put right the undelivered rows that need it; an id that is none becomes x and its bytes in hex."""
    connection = database.connection()
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(MEND, [connection.ops.adapt_datetimefield_value(now)])
