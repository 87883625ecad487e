"""Operations that make what is missing from a table which certctl may have made already.

On PostgreSQL everything that this project adds carries MARK as its comment, so that migrating back
takes away exactly that and nothing of certctl's. Other databases cannot hold a certctl table:
there the operations do what Django's own would.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor as Editor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

TABLE = "notification_events"
MARK = "made by certctl-notifications"


class Adopt(Operation):
    """Django's `operation` for the state and other databases; on PostgreSQL what the subclass says."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reversible = operation.reversible

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (type(self).__name__, [self.operation], {})

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        self.operation.state_forwards(app_label, state)

    def database_forwards(self, app_label: str, editor: Editor, *states: ProjectState) -> None:
        if editor.connection.vendor == "postgresql":
            self.adopt(editor)
        else:
            self.operation.database_forwards(app_label, editor, *states)

    def database_backwards(self, app_label: str, editor: Editor, *states: ProjectState) -> None:
        if editor.connection.vendor == "postgresql":
            self.abandon(editor)
        else:
            self.operation.database_backwards(app_label, editor, *states)

    def describe(self) -> str:
        return f"{self.operation.describe()}, unless it is there"

    def adopt(self, editor: Editor) -> None:
        raise NotImplementedError

    def abandon(self, editor: Editor) -> None:
        raise NotImplementedError


class AdoptTable(Adopt):
    """CREATE TABLE with the given columns; for each of `defaults` that an old table lacks, SET DEFAULT."""

    def __init__(self, operation: Operation, columns: str, defaults: dict[str, str]) -> None:
        super().__init__(operation)
        self.columns = columns
        self.defaults = defaults

    def adopt(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT to_regclass(%s)", TABLE) is None:
            editor.execute(f"CREATE TABLE {TABLE} ({self.columns})")
            editor.execute(f"COMMENT ON TABLE {TABLE} IS '{MARK}'")
        for column, default in self.defaults.items():
            _ensure_default(editor, column, default)

    def abandon(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT obj_description(to_regclass(%s), 'pg_class')", TABLE) == MARK:
            editor.execute(f"DROP TABLE {TABLE}")


class AdoptColumn(Adopt):
    """ADD COLUMN `name` `kind`, with its default."""

    def __init__(self, operation: Operation, name: str, kind: str, default: str | None = None) -> None:
        super().__init__(operation)
        self.name = name
        self.kind = kind
        self.default = default

    def adopt(self, editor: Editor) -> None:
        if _column(editor, self.name) is None:
            suffix = f" NOT NULL DEFAULT {self.default}" if self.default else ""
            editor.execute(f"ALTER TABLE {TABLE} ADD COLUMN {self.name} {self.kind}{suffix}")
            editor.execute(f"COMMENT ON COLUMN {TABLE}.{self.name} IS '{MARK}'")
        elif self.default:
            _ensure_default(editor, self.name, self.default)

    def abandon(self, editor: Editor) -> None:
        number = _column(editor, self.name)
        if number and _scalar(editor, "SELECT col_description(to_regclass(%s), %s)", TABLE, number) == MARK:
            editor.execute(f"ALTER TABLE {TABLE} DROP COLUMN {self.name}")


class AdoptIndex(Adopt):
    """CREATE INDEX `name` as `definition`: what follows the table's name."""

    def __init__(self, operation: Operation, name: str, definition: str, unique: bool = False) -> None:
        super().__init__(operation)
        self.name = name
        self.definition = definition
        self.kind = "UNIQUE INDEX" if unique else "INDEX"

    def adopt(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT to_regclass(%s)", self.name) is None:
            editor.execute(f"CREATE {self.kind} {self.name} ON {TABLE} {self.definition}")
            editor.execute(f"COMMENT ON INDEX {self.name} IS '{MARK}'")

    def abandon(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT obj_description(to_regclass(%s), 'pg_class')", self.name) == MARK:
            editor.execute(f"DROP INDEX {self.name}")


def cascade(table: str) -> migrations.RunPython:
    """Rows of `table` go with their notification, also when certctl deletes it behind Django's back."""

    def add(apps: Any, editor: Editor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(
                f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_notification FOREIGN KEY (notification_id)"
                f" REFERENCES {TABLE} (id) ON DELETE CASCADE"
            )

    def drop(apps: Any, editor: Editor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_notification")

    return migrations.RunPython(add, drop)


def _ensure_default(editor: Editor, column: str, default: str) -> None:
    has = "SELECT atthasdef FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
    if not _scalar(editor, has, TABLE, column):
        editor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {column} SET DEFAULT {default}")


def _column(editor: Editor, name: str) -> int | None:
    """The column's number in the table, None when there is no such column."""
    number: int | None = _scalar(
        editor,
        "SELECT attnum FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
        TABLE,
        name,
    )
    return number


def _scalar(editor: Editor, query: str, *params: Any) -> Any:
    with editor.connection.cursor() as cursor:
        cursor.execute(query, params)
        row = cursor.fetchone()
    return row[0] if row else None
