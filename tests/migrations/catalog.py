"""What is really in the database: read from PostgreSQL's catalog, not through Django's models."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connection

Row = dict[str, Any]


class Column(NamedTuple):
    type: str
    not_null: bool
    default: str | None = None


def query(sql: str, *params: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def execute(script: str) -> None:
    """Run statements, or none, as a hand in psql would."""
    if script:
        with connection.cursor() as cursor:
            cursor.execute(script)


def columns(table: str = "notification_events") -> dict[str, Column]:
    found = query(
        """
        SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
          FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
        """,
        table,
    )
    return {name: Column(*definition) for name, *definition in found}


def indexes(table: str = "notification_events") -> dict[str, str]:
    """What follows the table's name in each index's definition, with UNIQUE before it where it is."""
    found = query("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s", table)
    return {
        name: ("UNIQUE " if " UNIQUE " in definition else "") + definition.split(" USING btree ")[1]
        for name, definition in found
    }


def constraints(table: str = "notification_events") -> dict[str, str]:
    """Keys and checks. NOT NULL is the columns' business; PostgreSQL lists it here since 18."""
    return dict(
        query(
            """
            SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
             WHERE conrelid = to_regclass(%s) AND contype <> 'n'
            """,
            table,
        )
    )


def triggers(table: str = "notification_events") -> set[str]:
    """By name; without those that stand behind foreign keys."""
    sql = "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal"
    return {name for (name,) in query(sql, table)}


def functions() -> set[str]:
    sql = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    return {name for (name,) in query(sql)}


def tables() -> set[str]:
    return {name for (name,) in query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def everything() -> dict[str, object]:
    """The definition of every table and function there is."""
    by_table = {name: (columns(name), indexes(name), constraints(name), triggers(name)) for name in tables()}
    return by_table | {f"{name}()": None for name in functions()}


def rows() -> dict[str, Row]:
    """Every notification by its id, as it is stored."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM notification_events")
        names = [column.name for column in cursor.description]
        return {row["id"]: row for row in (dict(zip(names, values, strict=True)) for values in cursor)}
