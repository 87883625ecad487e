"""Operations that make what is missing from a table which certctl may have made already.

On PostgreSQL everything that this project adds carries MARK as its comment, so that migrating back
takes away exactly that and nothing of certctl's. Other databases cannot hold a certctl table: there the
operations do what Django's own would, unless an earlier run has done it.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor as Editor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

MODEL = "notificationevent"
TABLE = "notification_events"
MARK = "made by certctl-notifications"


class Adopt(Operation):
    """Django's `operation` for the state and other databases; on PostgreSQL what the subclass says."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reversible = operation.reversible  # type: ignore[misc]

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        self.operation.state_forwards(app_label, state)

    def database_forwards(self, app_label: str, editor: Editor, *states: ProjectState) -> None:
        if not router.allow_migrate(editor.connection.alias, app_label, model_name=MODEL):
            return
        if editor.connection.vendor == "postgresql":
            self.adopt(editor)
        elif not self.is_there(editor):
            self.operation.database_forwards(app_label, editor, *states)

    def database_backwards(self, app_label: str, editor: Editor, *states: ProjectState) -> None:
        if not router.allow_migrate(editor.connection.alias, app_label, model_name=MODEL):
            return
        if editor.connection.vendor == "postgresql":
            self.abandon(editor)
        else:
            self.operation.database_backwards(app_label, editor, *states)

    def describe(self) -> str:
        return f"{self.operation.describe()}, unless it is there"

    def is_there(self, editor: Editor) -> bool:
        raise NotImplementedError

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

    def is_there(self, editor: Editor) -> bool:
        return _has_table(editor, TABLE)

    def adopt(self, editor: Editor) -> None:
        if not self.is_there(editor):
            editor.execute(f"CREATE TABLE {TABLE} ({self.columns})")
            editor.execute(f"COMMENT ON TABLE {TABLE} IS '{MARK}'")
        for column, default in self.defaults.items():
            _ensure_default(editor, column, default)

    def abandon(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT obj_description(to_regclass(%s), 'pg_class')", TABLE) == MARK:
            editor.execute(f"DROP TABLE {TABLE}")


class AdoptColumn(Adopt):
    """ADD COLUMN `name` `kind`, with its default; a column that lacks its default is completed."""

    def __init__(self, operation: Operation, name: str, kind: str, default: str | None = None) -> None:
        super().__init__(operation)
        self.name = name
        self.kind = kind
        self.default = default

    def is_there(self, editor: Editor) -> bool:
        return self.name in _columns(editor)

    def adopt(self, editor: Editor) -> None:
        if not self.is_there(editor):
            suffix = f" NOT NULL DEFAULT {self.default}" if self.default else ""
            editor.execute(f"ALTER TABLE {TABLE} ADD COLUMN {self.name} {self.kind}{suffix}")
            editor.execute(f"COMMENT ON COLUMN {TABLE}.{self.name} IS '{MARK}'")
        elif self.default:
            _complete(editor, self.name, self.default)

    def abandon(self, editor: Editor) -> None:
        number = _scalar(editor, COLUMN_NUMBER, TABLE, self.name)
        if number and _scalar(editor, "SELECT col_description(to_regclass(%s), %s)", TABLE, number) == MARK:
            editor.execute(f"ALTER TABLE {TABLE} DROP COLUMN {self.name}")


class AdoptIndex(Adopt):
    """CREATE INDEX `name` as `definition`: what follows the table's name."""

    def __init__(self, operation: Operation, name: str, definition: str, unique: bool = False) -> None:
        super().__init__(operation)
        self.name = name
        self.definition = definition
        self.kind = "UNIQUE INDEX" if unique else "INDEX"

    def is_there(self, editor: Editor) -> bool:
        with editor.connection.cursor() as cursor:
            return self.name in editor.connection.introspection.get_constraints(cursor, TABLE)

    def adopt(self, editor: Editor) -> None:
        if not AdoptIndex.is_there(self, editor):
            editor.execute(f"CREATE {self.kind} {self.name} ON {TABLE} {self.definition}")
            editor.execute(f"COMMENT ON INDEX {self.name} IS '{MARK}'")

    def abandon(self, editor: Editor) -> None:
        if _scalar(editor, "SELECT obj_description(to_regclass(%s), 'pg_class')", self.name) == MARK:
            editor.execute(f"DROP INDEX {self.name}")


class AbandonIndex(AdoptIndex):
    """The other way round: DROP INDEX, if this project made it."""

    def is_there(self, editor: Editor) -> bool:
        return not super().is_there(editor)

    def adopt(self, editor: Editor) -> None:
        super().abandon(editor)

    def abandon(self, editor: Editor) -> None:
        super().adopt(editor)


class AddOnce(migrations.AddIndex):
    """An index of a table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: ProjectState, new: ProjectState) -> None:
        if self.index.name not in _constraints(editor, new, app_label, self.model_name):
            super().database_forwards(app_label, editor, old, new)


class RemoveOnce(migrations.RemoveIndex):
    """The other way round."""

    def database_forwards(self, app_label: str, editor: Editor, old: ProjectState, new: ProjectState) -> None:
        if self.name in _constraints(editor, old, app_label, self.model_name):
            super().database_forwards(app_label, editor, old, new)


class ConstrainOnce(migrations.AddConstraint):
    """A constraint of a table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: ProjectState, new: ProjectState) -> None:
        if self.constraint.name not in _constraints(editor, new, app_label, self.model_name):
            super().database_forwards(app_label, editor, old, new)


class UnconstrainOnce(migrations.RemoveConstraint):
    """The other way round."""

    def database_forwards(self, app_label: str, editor: Editor, old: ProjectState, new: ProjectState) -> None:
        if self.name in _constraints(editor, old, app_label, self.model_name):
            super().database_forwards(app_label, editor, old, new)


class CreateTable(migrations.CreateModel):
    """A table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, *states: ProjectState) -> None:
        if not _has_table(editor, self.options["db_table"]):
            super().database_forwards(app_label, editor, *states)


class AddColumn(migrations.AddField):
    """A column of a table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: ProjectState, new: ProjectState) -> None:
        model: Any = new.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(editor.connection.alias, model):
            return
        field = model._meta.get_field(self.name)
        with editor.connection.cursor() as cursor:
            known = editor.connection.introspection.get_table_description(cursor, model._meta.db_table)
        if field.column not in {column.name for column in known}:
            super().database_forwards(app_label, editor, old, new)


def cascade(table: str) -> migrations.RunPython:
    """Rows of `table` go with their notification, also when certctl deletes it behind Django's back."""
    name = f"fk_{table}_notification"

    def drop(apps: Any, editor: Editor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")

    def add(apps: Any, editor: Editor) -> None:
        drop(apps, editor)
        if editor.connection.vendor == "postgresql":
            editor.execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (notification_id)"
                f" REFERENCES {TABLE} (id) ON DELETE CASCADE"
            )

    return migrations.RunPython(add, drop)


COLUMN_NUMBER = """
    SELECT attnum FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped
"""
HAS_DEFAULT = "SELECT atthasdef FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
IS_NOT_NULL = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"


def _ensure_default(editor: Editor, column: str, default: str) -> None:
    if not _scalar(editor, HAS_DEFAULT, TABLE, column):
        editor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {column} SET DEFAULT {default}")


def _complete(editor: Editor, column: str, default: str) -> None:
    """Somebody added the column without all of its definition: old rows get what a new row would."""
    _ensure_default(editor, column, default)
    if not _scalar(editor, IS_NOT_NULL, TABLE, column):
        editor.execute(f"UPDATE {TABLE} SET {column} = {default} WHERE {column} IS NULL")  # noqa: S608
        editor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {column} SET NOT NULL")


def _constraints(editor: Editor, state: ProjectState, app_label: str, model: str) -> set[str]:
    """The names of its indexes and constraints."""
    table = state.apps.get_model(app_label, model)._meta.db_table
    with editor.connection.cursor() as cursor:
        return set(editor.connection.introspection.get_constraints(cursor, table))


def _has_table(editor: Editor, name: str) -> bool:
    return name in editor.connection.introspection.table_names()


def _columns(editor: Editor) -> set[str]:
    if not _has_table(editor, TABLE):
        return set()
    with editor.connection.cursor() as cursor:
        return {
            column.name for column in editor.connection.introspection.get_table_description(cursor, TABLE)
        }


def _scalar(editor: Editor, query: str, *params: Any) -> Any:
    with editor.connection.cursor() as cursor:
        cursor.execute(query, params)
        row = cursor.fetchone()
    return row[0] if row else None
