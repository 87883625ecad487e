"""The operations on tables of our own: done once, however often they are run, there and back."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.migrations._adopt import AddColumn, AddOnce, ConstrainOnce, RemoveOnce, UnconstrainOnce
from notifications.models import Worker

APP = "notifications"
INDEX = models.Index(fields=["in_flight"], name="idx_workers_in_flight")
UNIQUE = models.UniqueConstraint(fields=["started_at"], name="uniq_workers_started")
COLUMN = AddColumn("worker", "more", models.IntegerField(db_default=0, default=0))
THERE = {
    "index": AddOnce("worker", INDEX),
    "constraint": ConstrainOnce("worker", UNIQUE),
    "column": COLUMN,
}
AWAY = {
    "index": RemoveOnce("worker", INDEX.name),
    "constraint": UnconstrainOnce("worker", UNIQUE.name),
}


@pytest.fixture
def table(empty_database: BaseDatabaseWrapper) -> None:
    """A table of ours with a row, which a live worker may write at any time."""
    call_command("migrate", verbosity=0)
    Worker.objects.create(name="w", started_at=timezone.now(), seen_at=timezone.now())


def look() -> set[str]:
    """The names of the table's columns, indexes and constraints, without what NOT NULL is called."""
    table = Worker._meta.db_table
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, table)
        names = {*connection.introspection.get_constraints(cursor, table), *(c.name for c in columns)}
    return {name for name in names if not name.endswith("_not_null")}


def carry_out(operation: Any, state: Any, *, back: bool = False) -> Any:
    """Twice, as if its record had been lost; answers the state after it."""
    after = state.clone()
    operation.state_forwards(APP, after)
    for _ in range(2):
        with connection.schema_editor(atomic=False) as editor:
            if back:
                operation.database_backwards(APP, editor, after, state)
            else:
                operation.database_forwards(APP, editor, state, after)
    return after


@pytest.mark.parametrize("what", THERE)
def test_made_once_and_taken_back_once(what: str, table: None) -> None:
    state, before = MigrationLoader(connection).project_state(), look()
    carry_out(THERE[what], state)
    assert len(look() - before) == 1
    carry_out(THERE[what], state, back=True)
    assert look() == before


@pytest.mark.parametrize("what", AWAY)
def test_dropped_once_and_made_again_once(what: str, table: None) -> None:
    state, before = MigrationLoader(connection).project_state(), look()
    made = carry_out(THERE[what], state)
    with_it = look()
    carry_out(AWAY[what], made)
    assert look() == before
    carry_out(AWAY[what], made, back=True)
    assert look() == with_it


def test_on_postgresql_workers_write_meanwhile(table: None) -> None:
    state = MigrationLoader(connection).project_state()
    with CaptureQueriesContext(connection) as queries:
        made = carry_out(THERE["index"], state)
        carry_out(AWAY["index"], made)
    said = [query["sql"] for query in queries.captured_queries if INDEX.name in query["sql"]]
    changed = [sql.split(" INDEX ")[1].split()[0] for sql in said if sql.startswith(("CREATE", "DROP"))]
    expected = "CONCURRENTLY" if connection.vendor == "postgresql" else ("IF", f'"{INDEX.name}"')
    assert len(changed) == 2
    assert all(word in expected for word in changed)
