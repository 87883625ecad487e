"""Operations that make what is missing from a table which certctl may have made already.

On PostgreSQL everything that this project adds carries MARK as its comment, so that migrating back
takes away exactly that. What certctl's own migrations define stays even so wherever certctl is: it runs each
of them once, and would never make again what we drop. Other databases cannot hold a certctl table: there the
operations do what Django's own would, unless an earlier run has done it.

Every operation is whole by itself and may be run again, so that no migration needs a transaction around it:
they say `atomic = False`, for indexes are built beside the running programs. How, is in _live.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError
from django.db import migrations, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor as Editor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState as State
from django.db.transaction import atomic

from . import _live
from ._live import scalar, shortly

MODEL = "notificationevent"
TABLE = "notification_events"
MARK = "made by certctl-notifications"
# What certctl's migrations 000001, 000016 and 000017 define besides the table.
OF_CERTCTL = {
    "retry_count",
    "next_retry_at",
    "last_error",
    "created_at",
    "idx_notification_events_certificate_id",
    "idx_notification_events_status",
    "idx_notification_events_type",
    "idx_notification_events_retry_sweep",
}


class Adopt(Operation):
    """Django's `operation` for the state and other databases; on PostgreSQL what the subclass says."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reversible = operation.reversible  # type: ignore[misc]

    def state_forwards(self, app_label: str, state: State) -> None:
        self.operation.state_forwards(app_label, state)

    def database_forwards(self, app_label: str, editor: Editor, *states: State) -> None:
        if not router.allow_migrate(editor.connection.alias, app_label, model_name=MODEL):
            return
        if editor.connection.vendor == "postgresql":
            self.adopt(editor)
        elif not self.is_there(editor):
            shortly(editor, None, lambda: self.operation.database_forwards(app_label, editor, *states))

    def database_backwards(self, app_label: str, editor: Editor, *states: State) -> None:
        if not router.allow_migrate(editor.connection.alias, app_label, model_name=MODEL):
            return
        if editor.connection.vendor == "postgresql":
            self.abandon(editor)
        elif self.is_there(editor):
            shortly(editor, None, lambda: self.operation.database_backwards(app_label, editor, *states))

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
            create = f"CREATE TABLE {TABLE} ({self.columns})"
            shortly(editor, None, create, f"COMMENT ON TABLE {TABLE} IS '{MARK}'")
        for column, default in self.defaults.items():
            _ensure_default(editor, column, default)

    def abandon(self, editor: Editor) -> None:
        if not _is_marked(editor, TABLE):
            return
        if _beside_certctl(editor):
            shortly(editor, TABLE, f"COMMENT ON TABLE {TABLE} IS NULL")
        else:
            shortly(editor, TABLE, f"DROP TABLE {TABLE}")


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
            add = f"ALTER TABLE {TABLE} ADD COLUMN {self.name} {self.kind}{suffix}"
            shortly(editor, TABLE, add, f"COMMENT ON COLUMN {TABLE}.{self.name} IS '{MARK}'")
        elif self.default:
            _complete(editor, self.name, self.default)

    def abandon(self, editor: Editor) -> None:
        number = scalar(editor, COLUMN_NUMBER, TABLE, self.name)
        if not number or scalar(editor, "SELECT col_description(to_regclass(%s), %s)", TABLE, number) != MARK:
            return
        if _stays(editor, self.name):
            shortly(editor, TABLE, f"COMMENT ON COLUMN {TABLE}.{self.name} IS NULL")
        else:
            shortly(editor, TABLE, f"ALTER TABLE {TABLE} DROP COLUMN {self.name}")


class AdoptIndex(Adopt):
    """CREATE INDEX `name` as `definition`: what follows the table's name.

    An index of that name is taken for it only where it is valid and says the same. One that nobody can use,
    or that this project made otherwise, is built anew; somebody else's is named in a CommandError.
    """

    def __init__(self, operation: Operation, name: str, definition: str, unique: bool = False) -> None:
        super().__init__(operation)
        self.name = name
        self.definition = definition
        self.unique = unique

    def is_there(self, editor: Editor) -> bool:
        with editor.connection.cursor() as cursor:
            return self.name in editor.connection.introspection.get_constraints(cursor, TABLE)

    def adopt(self, editor: Editor) -> None:
        self.make(editor)

    def abandon(self, editor: Editor) -> None:
        self.drop(editor)

    def make(self, editor: Editor) -> None:
        if scalar(editor, "SELECT to_regclass(%s)", self.name):
            _live.undisturbed(editor, TABLE)
        found = _shape(editor, self.name)
        if found and not self._is_ours(editor, *found):
            _live.drop_index(editor, TABLE, self.name)
            found = None
        if not found:
            _live.create_index(editor, TABLE, self.name, self.definition, unique=self.unique)
        if not found or (self.name not in OF_CERTCTL and not _is_marked(editor, self.name)):
            editor.execute(f"COMMENT ON INDEX {self.name} IS '{MARK}'")

    def _is_ours(self, editor: Editor, valid: bool, shape: str) -> bool:
        """Whether the index that was found is the one; False for one to be built anew."""
        if not valid:
            return False
        if shape == self._wanted(editor):
            return True
        if _is_marked(editor, self.name):
            return False
        raise CommandError(
            f"there is another index named {self.name}; ours is {'UNIQUE ' if self.unique else ''}"
            f"ON {TABLE} {self.definition}: rename or drop the other, then run `certctl migrate` again"
        )

    def _wanted(self, editor: Editor) -> str:
        """What PostgreSQL makes of the definition, tried on an empty table that is gone at once."""
        kind = "UNIQUE INDEX" if self.unique else "INDEX"
        probe = f"probe_{self.name}"[:63]
        with atomic(editor.connection.alias), editor.connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMP TABLE {PROBE} (LIKE {TABLE})")
            cursor.execute(f"CREATE {kind} {probe} ON {PROBE} {self.definition}")
            _, shape = _shape(editor, f"pg_temp.{probe}", PROBE) or (False, "")
            cursor.execute(f"DROP TABLE {PROBE}")
        return shape

    def drop(self, editor: Editor) -> None:
        if not _is_marked(editor, self.name):
            return
        if _stays(editor, self.name):
            editor.execute(f"COMMENT ON INDEX {self.name} IS NULL")
        else:
            _live.drop_index(editor, TABLE, self.name)


class AbandonIndex(AdoptIndex):
    """The other way round: DROP INDEX, if this project made it."""

    def is_there(self, editor: Editor) -> bool:
        return not super().is_there(editor)

    def adopt(self, editor: Editor) -> None:
        self.drop(editor)

    def abandon(self, editor: Editor) -> None:
        self.make(editor)


class CreateTable(migrations.CreateModel):
    """A table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, *states: State) -> None:
        if not _has_table(editor, self.options["db_table"]):
            act = super().database_forwards
            shortly(editor, None, lambda: act(app_label, editor, *states))

    def database_backwards(self, app_label: str, editor: Editor, *states: State) -> None:
        table = self.options["db_table"]
        if _has_table(editor, table):
            act = super().database_backwards
            shortly(editor, table, lambda: act(app_label, editor, *states))


class AddColumn(migrations.AddField):
    """A column of a table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_forwards
        self._unless(True, app_label, editor, new, lambda: act(app_label, editor, old, new))

    def database_backwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_backwards
        self._unless(False, app_label, editor, old, lambda: act(app_label, editor, old, new))

    def _unless(
        self, there: bool, app_label: str, editor: Editor, state: State, act: Callable[[], None]
    ) -> None:
        model = _model(self, app_label, editor, state)
        if model is not None:
            table, column = model._meta.db_table, model._meta.get_field(self.name).column
            if (column in _columns(editor, table)) != there:
                shortly(editor, table, act)


class AddOnce(migrations.AddIndex):
    """An index of a table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        _make_index(editor, _model(self, app_label, editor, new), self.index)

    def database_backwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        _drop_index(editor, _model(self, app_label, editor, old), self.index)


class RemoveOnce(migrations.RemoveIndex):
    """The other way round."""

    def database_forwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        index = old.models[app_label, self.model_name_lower].get_index_by_name(self.name)
        _drop_index(editor, _model(self, app_label, editor, old), index)

    def database_backwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        index = new.models[app_label, self.model_name_lower].get_index_by_name(self.name)
        _make_index(editor, _model(self, app_label, editor, new), index)


class ConstrainOnce(migrations.AddConstraint):
    """A constraint of a small table of our own, unless an earlier run has made it."""

    def database_forwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_forwards
        model = _model(self, app_label, editor, new)
        _unless_constrained(True, editor, model, self.constraint, lambda: act(app_label, editor, old, new))

    def database_backwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_backwards
        model = _model(self, app_label, editor, old)
        _unless_constrained(False, editor, model, self.constraint, lambda: act(app_label, editor, old, new))


class UnconstrainOnce(migrations.RemoveConstraint):
    """The other way round."""

    def database_forwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_forwards
        constraint = old.models[app_label, self.model_name_lower].get_constraint_by_name(self.name)
        model = _model(self, app_label, editor, old)
        _unless_constrained(False, editor, model, constraint, lambda: act(app_label, editor, old, new))

    def database_backwards(self, app_label: str, editor: Editor, old: State, new: State) -> None:
        act = super().database_backwards
        constraint = new.models[app_label, self.model_name_lower].get_constraint_by_name(self.name)
        model = _model(self, app_label, editor, new)
        _unless_constrained(True, editor, model, constraint, lambda: act(app_label, editor, old, new))


class Analyze(Operation):
    """Let PostgreSQL look at the columns that a table with rows has got."""

    reduces_to_sql = True
    reversible = True

    def state_forwards(self, app_label: str, state: State) -> None:
        pass

    def database_forwards(self, app_label: str, editor: Editor, *states: State) -> None:
        allowed = router.allow_migrate(editor.connection.alias, app_label, model_name=MODEL)
        if allowed and editor.connection.vendor == "postgresql":
            _live.analyze(editor, TABLE)

    def database_backwards(self, app_label: str, editor: Editor, *states: State) -> None:
        pass

    def describe(self) -> str:
        return f"Analyze {TABLE}"


def cascade(table: str) -> migrations.RunPython:
    """Rows of `table` go with their notification, also when certctl deletes it behind Django's back."""
    name = f"fk_{table}_notification"
    key = f"FOREIGN KEY (notification_id) REFERENCES {TABLE}(id) ON DELETE CASCADE"
    drop_it = f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"

    def found(editor: Editor) -> str:
        return scalar(editor, CONSTRAINT, table, name) or ""

    def drop(apps: Any, editor: Editor) -> None:
        if editor.connection.vendor == "postgresql" and found(editor):
            shortly(editor, TABLE, drop_it)

    def add(apps: Any, editor: Editor) -> None:
        if editor.connection.vendor != "postgresql":
            return
        if found(editor).removesuffix(" NOT VALID") != key:
            shortly(editor, TABLE, drop_it, f"ALTER TABLE {table} ADD CONSTRAINT {name} {key} NOT VALID")
        if found(editor) != key:
            _live.validate(editor, table, name)

    return migrations.RunPython(add, drop)


def on_postgresql(statements: str, reverse: str) -> migrations.RunPython:
    """SQL about the shared table that is quick once it has the table to itself, and may be run again."""

    def carry_out(sql: str) -> Callable[[Any, Editor], None]:
        def run(apps: Any, editor: Editor) -> None:
            if editor.connection.vendor == "postgresql":
                shortly(editor, TABLE, sql)

        return run

    return migrations.RunPython(carry_out(statements), carry_out(reverse))


PROBE = "certctl_notifications_probe"
COLUMN_NUMBER = """
    SELECT attnum FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped
"""
HAS_DEFAULT = "SELECT atthasdef FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
IS_NOT_NULL = "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
CONSTRAINT = (
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s"
)
# Whether an index can be used, and all that it says of its table; how it is stored is the site's to choose.
SHAPE = """
    SELECT indisvalid AND indisready AND indislive,
           ROW(indrelid = to_regclass(%s), indisunique, indimmediate, indnkeyatts, relam, indclass::text,
               indcollation::text, indoption::text, pg_get_expr(indpred, indrelid),
               ARRAY(SELECT pg_get_indexdef(indexrelid, n, true) FROM generate_series(1, indnatts) AS n)
           )::text
      FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
     WHERE indexrelid = to_regclass(%s)
"""


def _shape(editor: Editor, index: str, table: str = TABLE) -> tuple[bool, str] | None:
    """Whether the index is valid, and what it says; None where there is none."""
    with editor.connection.cursor() as cursor:
        cursor.execute(SHAPE, [table, index])
        found = cursor.fetchone()
    return (bool(found[0]), str(found[1])) if found else None


def _is_marked(editor: Editor, name: str) -> bool:
    """Of a table or an index."""
    return bool(scalar(editor, "SELECT obj_description(to_regclass(%s), 'pg_class')", name) == MARK)


def _beside_certctl(editor: Editor) -> bool:
    return scalar(editor, "SELECT to_regclass('managed_certificates')") is not None


def _stays(editor: Editor, name: str) -> bool:
    """Whether migrating back leaves a column or an index of ours to certctl."""
    return name in OF_CERTCTL and _beside_certctl(editor)


def _ensure_default(editor: Editor, column: str, default: str) -> None:
    if not scalar(editor, HAS_DEFAULT, TABLE, column):
        shortly(editor, TABLE, f"ALTER TABLE {TABLE} ALTER COLUMN {column} SET DEFAULT {default}")


def _complete(editor: Editor, column: str, default: str) -> None:
    """Somebody added the column without all of its definition: old rows get what a new row would."""
    _ensure_default(editor, column, default)
    if not scalar(editor, IS_NOT_NULL, TABLE, column):
        _live.refuse_null(editor, TABLE, column, default)


def _model(operation: Any, app_label: str, editor: Editor, state: State) -> Any:
    """The operation's model; None where the site's router keeps its table elsewhere."""
    model = state.apps.get_model(app_label, operation.model_name)
    return model if operation.allow_migrate_model(editor.connection.alias, model) else None


def _make_index(editor: Editor, model: Any, index: Any) -> None:
    if model is None:
        return
    table = model._meta.db_table
    if index.name in _constraints(editor, table):
        if _is_usable(editor, index.name):
            return
        _live.drop_index(editor, table, index.name)
    if _live.alone(editor, table):
        shortly(editor, table, lambda: editor.add_index(model, index))
    else:
        statement = str(index.create_sql(model, editor, concurrently=True))
        _live.at_length(editor, table, f"building {index.name}", statement)


def _drop_index(editor: Editor, model: Any, index: Any) -> None:
    if model is not None and index.name in _constraints(editor, model._meta.db_table):
        _live.drop_index(editor, model._meta.db_table, index.name)


def _is_usable(editor: Editor, index: str) -> bool:
    found = editor.connection.vendor != "postgresql" or _shape(editor, index)
    return found is True or bool(found and found[0])


def _unless_constrained(
    there: bool, editor: Editor, model: Any, constraint: Any, act: Callable[[], None]
) -> None:
    if model is not None and (constraint.name in _constraints(editor, model._meta.db_table)) != there:
        shortly(editor, model._meta.db_table, act)


def _constraints(editor: Editor, table: str) -> set[str]:
    """The names of a table's indexes and constraints."""
    with editor.connection.cursor() as cursor:
        return set(editor.connection.introspection.get_constraints(cursor, table))


def _has_table(editor: Editor, name: str) -> bool:
    return name in editor.connection.introspection.table_names()


def _columns(editor: Editor, table: str = TABLE) -> set[str]:
    if not _has_table(editor, table):
        return set()
    with editor.connection.cursor() as cursor:
        known = editor.connection.introspection.get_table_description(cursor, table)
    return {column.name for column in known}
