"""How the tables are changed while other programs read and write them.

What needs a table for itself is done in a short transaction that waits a fifth of a second for it, because
everybody else queues behind whoever waits; then it lets the others pass and tries again. What takes long
(indexes, backfills, validating) is done so that nobody waits for it, and needs no transaction: a migration
that is interrupted, by a kill or by a table in use, is run again and goes on where it was.

Databases other than PostgreSQL are not shared with certctl: there a step is one transaction.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, Error, IntegrityError, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor as Editor

from notifications.database.rights import REFUSED, sqlstate, who_must
from notifications.text import one_line

PATIENCE = "200ms"  # others wait as long
PAUSES = (0.1, 0.2, 0.5, 1, 2, 2)  # seconds between two tries
# Vacuum, an index that is being built, another `migrate`: nobody else waits behind who waits for those.
MAINTENANCE = "30s"
IN_USE = ("55P03", "40P01")  # the lock was not to be had in time; a deadlock
PAGES = 64  # of 8 kB, in one batch of a backfill: some 1,500 rows
AGAIN = "nothing is lost: run `certctl migrate` again"


def scalar(editor: Editor, query: str, *params: Any) -> Any:
    """The first value of the answer; None where there is none."""
    with editor.connection.cursor() as cursor:
        cursor.execute(query, params)
        row = cursor.fetchone()
    return row[0] if row else None


def has_rows(editor: Editor, table: str) -> bool:
    return bool(scalar(editor, f"SELECT EXISTS (SELECT 1 FROM {table})"))  # noqa: S608


def shortly(editor: Editor, table: str | None, *steps: str | Callable[[], object]) -> None:
    """Do the steps, statements or functions, in one transaction that soon has `table` to itself.

    table  None for what nobody else can know yet
    Raises CommandError where the table stays in use, or belongs to somebody else.
    """
    for pause in (*PAUSES, None):
        deferred = list(editor.deferred_sql)
        try:
            with _explained(editor, table), transaction.atomic(editor.connection.alias):
                _have_to_itself(editor, table)
                _run(editor, steps)
            return
        except DatabaseError as error:
            if sqlstate(error) not in IN_USE:
                raise
            editor.deferred_sql[:] = deferred
            if pause is None:
                raise CommandError(f"{_who_uses(editor, table)}; {AGAIN} when it has ended") from error
        time.sleep(pause)


def _have_to_itself(editor: Editor, table: str | None) -> None:
    if table is None or editor.connection.vendor != "postgresql":
        return
    editor.execute(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '{MAINTENANCE}'")
    editor.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
    editor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")


def _run(editor: Editor, steps: tuple[str | Callable[[], object], ...]) -> None:
    """What the steps put off (the indexes of a new table) belongs to them."""
    for step in steps:
        if callable(step):
            step()
        else:
            editor.execute(step)
    for statement in editor.deferred_sql:
        editor.execute(statement, None)
    editor.deferred_sql.clear()


def _who_uses(editor: Editor, table: str | None) -> str:
    with editor.connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE relation = to_regclass(%s) AND granted AND pid <> pg_backend_pid()
               AND datname = current_database()
             ORDER BY xact_start NULLS LAST LIMIT 1
            """,
            [table],
        )
        found = cursor.fetchone()
    who = f"the transaction of process {found[0]} ({found[1] or 'unnamed'})" if found else "a transaction"
    return f"{table} is in use by {who} for too long"


@contextmanager
def _explained(editor: Editor, table: str | None) -> Iterator[None]:
    """Say which role must do what the database refuses to this one."""
    try:
        yield
    except DatabaseError as error:
        if sqlstate(error) not in REFUSED:
            raise
        raise CommandError(one_line(f"{who_must(editor.connection, table)}: {error}")) from error


# What takes long


def at_length(editor: Editor, table: str, what: str, statement: str) -> None:
    """Run a statement that makes nobody wait, for as long as it takes. `what` is shown on a terminal."""
    with _explained(editor, table), _without_limits(editor), _watched(editor, what):
        editor.execute(statement)


def alone(editor: Editor, table: str) -> bool:
    """Whether a plain statement is better than one that makes nobody wait: in an empty table it is quicker,
    in a transaction and on other databases there is no other."""
    connection = editor.connection
    return connection.vendor != "postgresql" or connection.in_atomic_block or not has_rows(editor, table)


def create_index(editor: Editor, table: str, name: str, definition: str, *, unique: bool = False) -> None:
    """definition: what follows the table's name. Raises CommandError where rows contradict it."""
    kind = "UNIQUE INDEX" if unique else "INDEX"
    if alone(editor, table):
        shortly(editor, table, f"CREATE {kind} {name} ON {table} {definition}")
        return
    statement = f"CREATE {kind} CONCURRENTLY {name} ON {table} {definition}"
    try:
        at_length(editor, table, f"building {name}", statement)
    except IntegrityError as error:
        detail = getattr(getattr(error.__cause__, "diag", None), "message_detail", None) or str(error)
        raise CommandError(
            f"{name} cannot be built: {detail} Keep the key in one row, and {AGAIN}"
        ) from error


def drop_index(editor: Editor, table: str, name: str) -> None:
    if alone(editor, table):
        shortly(editor, table, f"DROP INDEX IF EXISTS {name}")
    else:
        at_length(editor, table, f"dropping {name}", f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def undisturbed(editor: Editor, table: str) -> None:
    """Return when nobody builds an index there: the server goes on with one whose client was killed."""
    if editor.connection.in_atomic_block:
        return
    waiting = _watched(editor, f"waiting for who maintains {table}")
    whole = transaction.atomic(editor.connection.alias)
    with _explained(editor, table), _without_limits(editor), waiting, whole:
        editor.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")


def refuse_null(editor: Editor, table: str, column: str, default: str) -> None:
    """Make the column NOT NULL; rows that have none get what a new row would."""
    name = f"{table}_{column}_filled"
    fill(editor, table, column, default)
    if not scalar(editor, "SELECT 1 FROM pg_constraint WHERE conname = %s", name):
        check = f"ADD CONSTRAINT {name} CHECK ({column} IS NOT NULL) NOT VALID"
        shortly(editor, table, f"ALTER TABLE {table} {check}")
    fill(editor, table, column, default)
    validate(editor, table, name)
    # The valid check spares PostgreSQL reading the table again, which it would do with nobody let in.
    shortly(
        editor,
        table,
        f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL",
        f"ALTER TABLE {table} DROP CONSTRAINT {name}",
    )


def validate(editor: Editor, table: str, name: str) -> None:
    at_length(editor, table, f"validating {name}", f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def fill(editor: Editor, table: str, column: str, default: str) -> None:
    """Give `default` to every row without a value, a few at a time; a row that is locked gets it later."""
    if editor.collect_sql:
        editor.execute(f"UPDATE {table} SET {column} = {default} WHERE {column} IS NULL")  # noqa: S608
        return
    missing = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NULL)"  # noqa: S608
    for pause in (*PAUSES, None):
        if not scalar(editor, missing):
            return
        with _explained(editor, table), _without_limits(editor), _Line() as line:
            _fill_once(editor, table, column, default, line)
        time.sleep(pause or 0)
    if scalar(editor, missing):
        raise CommandError(f"rows of {table} stay locked by another transaction; {AGAIN} when it has ended")


def _fill_once(editor: Editor, table: str, column: str, default: str, line: _Line) -> None:
    batch = f"""
        UPDATE {table} SET {column} = {default} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table}
             WHERE {column} IS NULL AND ctid >= %s::text::tid AND ctid < %s::text::tid
               FOR UPDATE SKIP LOCKED))
    """  # noqa: S608  (names of our own)
    pages = scalar(editor, "SELECT pg_relation_size(to_regclass(%s)) / 8192", table)
    for first in range(0, pages, PAGES):
        editor.execute(batch, [f"({first},0)", f"({first + PAGES},0)"])
        line.show(f"filling {column}: {100 * first // pages} %")


def analyze(editor: Editor, table: str) -> None:
    """A planner that knows nothing of new columns reads the whole table for every page of the console."""
    if has_rows(editor, table):
        at_length(editor, table, f"analyzing {table}", f"ANALYZE {table}")


@contextmanager
def _without_limits(editor: Editor) -> Iterator[None]:
    """An index waits for the transactions that began before it, however long the site lets others wait."""
    here = "LOCAL " if editor.connection.in_atomic_block else ""
    editor.execute(f"SET {here}lock_timeout = 0; SET {here}statement_timeout = 0")
    try:
        yield
    finally:
        if not here:
            editor.execute("RESET lock_timeout; RESET statement_timeout")


# Progress


class _Line:
    """One line on a terminal, written again and again; nothing anywhere else."""

    def __init__(self) -> None:
        self._begun = False

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            # Django has left its own line unfinished.
            sys.stderr.write(f"{'' if self._begun else chr(10)}\r\x1b[K    {text}")
            sys.stderr.flush()
            self._begun = True


@contextmanager
def _watched(editor: Editor, what: str) -> Iterator[None]:
    """Show every second how far the statement inside is, as a second connection sees it."""
    if not sys.stderr.isatty() or editor.collect_sql:
        yield
        return
    done = threading.Event()
    process = scalar(editor, "SELECT pg_backend_pid()")
    thread = threading.Thread(
        target=_watch, args=(editor.connection.copy(), process, what, done), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(watched: Any, process: int, what: str, done: threading.Event) -> None:
    connection = watched.copy()  # made in the thread that uses it, as Django wants
    with suppress(Error), _Line() as line:
        try:
            while not done.wait(1):
                line.show(f"{what}: {_how_far(connection, process)}")
        finally:
            connection.close()


def _how_far(connection: Any, process: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT phase, current_locker_pid, blocks_done, blocks_total, tuples_done, tuples_total
              FROM pg_stat_progress_create_index WHERE pid = %s
            """,
            [process],
        )
        found = cursor.fetchone()
    if not found:
        return "at work"
    phase, locker, blocks, all_blocks, tuples, all_tuples = found
    if locker:
        return f"waiting for the transaction of process {locker}"
    done, whole = (blocks, all_blocks) if all_blocks else (tuples, all_tuples)
    return f"{phase}, {100 * done // whole} %" if whole else phase
