"""`migrate` as a process of its own on a table that other programs hold, and killed wherever it may be."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.processes import MANAGE, PATIENCE, Process, current_database_url, eventually

from . import catalog
from .certctl_tables import CREATED_AT, REFERENCING, ROWS, STATES
from .test_adoption import assert_kept, is_the_contracts, migrate

WAITS = "waiting for the transaction of process"
NULLABLE = (
    REFERENCING
    + CREATED_AT
    + ROWS
    + "ALTER TABLE notification_events ADD COLUMN retry_count INTEGER;"
    + "ALTER TABLE notification_events ALTER COLUMN retry_count SET DEFAULT 0;"
)
OURS = "datname = current_database() AND application_name = 'migrating'"


@pytest.fixture
def other(empty_database: object) -> Iterator[psycopg.Connection[Any]]:
    """Another program's connection; whatever it does must be done within ten seconds."""
    with psycopg.connect(current_database_url(), options="-c statement_timeout=10s") as connection:
        yield connection


def environment() -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "certctl.settings", "DATABASE_URL": current_database_url()}
    return os.environ | own | {"PGAPPNAME": "migrating"}


@pytest.fixture
def start(empty_database: object, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Start `certctl migrate notifications` in a process of its own."""
    begun: list[Process] = []

    def go() -> Process:
        command = [*MANAGE, "migrate", "notifications"]
        begun.append(Process(command, environment(), tmp_path / f"migrate-{len(begun)}"))
        return begun[-1]

    yield go
    for process in begun:
        if process.code() is None:
            process.end(signal.SIGKILL)


def servers(what: str = "true") -> list[Any]:
    """What the servers' processes of `migrate` run."""
    return [row[0] for row in catalog.query(f"SELECT query FROM pg_stat_activity WHERE {OURS} AND ({what})")]


def building() -> str | None:
    """The index that is being built, and waits for a transaction that is older than it."""
    found = servers("strpos(query, ' CONCURRENTLY ') > 0 AND wait_event = 'virtualxid'")
    return found[0].split(" CONCURRENTLY ")[1].split()[0] if found else None


def finished(process: Process) -> None:
    assert process.wait() == 0, process.said


def test_behind_a_dump_others_go_on_and_it_is_run_again(
    start: Callable[[], Process], other: psycopg.Connection[Any]
) -> None:
    catalog.execute(STATES["000016"])
    before = catalog.rows()
    with psycopg.connect(current_database_url(), application_name="dump") as dump:
        dump.execute("SELECT FROM notification_events LIMIT 1")
        migrating = start()
        done = 0
        while migrating.code() is None:
            other.execute("UPDATE notification_events SET error = error WHERE id = 'notif-1'")
            other.execute("SELECT FROM notification_events WHERE id = 'notif-2'")
            other.commit()
            done += 1
        assert migrating.wait() == 1
        *_, said = migrating.said.splitlines()
        assert "notification_events is in use by the transaction of process" in said
        assert "(dump)" in said
        assert "run `certctl migrate` again" in said
        assert "Traceback" not in migrating.said
        assert done > 10
    finished(start())
    is_the_contracts()
    assert_kept(before, catalog.rows())


def test_an_index_waits_for_a_dump_without_holding_up_anybody(
    start: Callable[[], Process], other: psycopg.Connection[Any]
) -> None:
    catalog.execute(STATES["000016"])
    migrate("0002")
    with psycopg.connect(current_database_url()) as dump:
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT 1")
        migrating = start()
        eventually(building, "an index that waits")
        for key in range(1, 100):
            other.execute("UPDATE notification_events SET error = error WHERE id = %s", [f"notif-{key}"])
        other.commit()
        assert migrating.code() is None
    finished(migrating)
    is_the_contracts()


def test_a_terminal_shows_what_it_waits_for(empty_database: object) -> None:
    catalog.execute(STATES["000016"])
    migrate("0002")
    screen, terminal = os.openpty()
    with psycopg.connect(current_database_url()) as dump:
        dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        dump.execute("SELECT 1")
        command = [*MANAGE, "migrate", "notifications", "--verbosity", "0"]
        migrating = subprocess.Popen(command, env=environment(), stderr=terminal)
        os.close(terminal)
        waited = f"building idx_notification_events_pending: {WAITS} {dump.info.backend_pid}"
        shown = ""
        while waited not in shown and select.select([screen], [], [], PATIENCE)[0]:
            shown += os.read(screen, 1000).decode()
        assert waited in shown
    with suppress(OSError):  # the end of what is written there
        while os.read(screen, 1000):
            pass
    os.close(screen)
    assert migrating.wait() == 0
    is_the_contracts()


# Killed, and run again


def killed_while_building(start: Callable[[], Process], *, server_too: bool = False) -> str:
    """Kill a `migrate` at the first index that it builds: its name; "" where none was left to build.

    server_too  its server process ends as well, and leaves the index half built; else that goes on with it
    """
    with psycopg.connect(current_database_url()) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        migrating = start()
        index: str = eventually(
            lambda: building() or (migrating.code() is not None and "none"), "an index that waits, or an end"
        )
        if index == "none":
            assert migrating.wait() == 0, migrating.said
            return ""
        migrating.end(signal.SIGKILL)
        if server_too:
            catalog.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
    eventually(lambda: not servers(), "the end of its server process")
    return index


def test_killed_at_each_of_its_indexes(start: Callable[[], Process]) -> None:
    catalog.execute(STATES["000016"] + "DROP INDEX idx_notification_events_status;")
    before = catalog.rows()
    killed = list(iter(lambda: killed_while_building(start), ""))
    is_the_contracts()
    assert_kept(before, catalog.rows())
    assert len(killed) == len(set(killed)) >= 7
    assert killed[0] == "idx_notification_events_status"


def test_killed_with_its_server_process_at_an_index(start: Callable[[], Process]) -> None:
    catalog.execute(STATES["000016"])
    migrate("0002")
    assert killed_while_building(start, server_too=True) == killed_while_building(start, server_too=True)
    assert catalog.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(1,)]
    finished(start())
    is_the_contracts()
    assert catalog.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


@pytest.mark.parametrize("target", ["zero", "0001", "0003", "0007"])
def test_killed_while_it_waits_for_the_table(target: str, start: Callable[[], Process]) -> None:
    """At the first column, at leases, at the first cascade, at the trigger: each in one transaction."""
    catalog.execute(STATES["000016"])
    migrate(target)
    with psycopg.connect(current_database_url()) as holder:
        holder.execute("LOCK TABLE notification_events IN ROW EXCLUSIVE MODE")
        migrating = start()
        eventually(lambda: servers("wait_event_type = 'Lock'"), "a wait for the table")
        migrating.end(signal.SIGKILL)
    eventually(lambda: not servers(), "the end of its server process")
    finished(start())
    is_the_contracts()


def test_killed_while_it_fills_a_column(start: Callable[[], Process], other: psycopg.Connection[Any]) -> None:
    """A row that another transaction holds is filled when it is free; all others do not wait for it."""
    catalog.execute(NULLABLE)
    missing = "SELECT id FROM notification_events WHERE retry_count IS NULL"
    with psycopg.connect(current_database_url()) as holder:
        holder.execute("SELECT FROM notification_events WHERE id = 'notif-7' FOR UPDATE")
        migrating = start()
        eventually(lambda: catalog.query(missing) == [("notif-7",)], "all rows but one with a value")
        other.execute("UPDATE notification_events SET error = 'later' WHERE id = 'notif-8'")
        other.commit()
        migrating.end(signal.SIGKILL)
    finished(start())
    is_the_contracts()
    assert {row["retry_count"] for row in catalog.rows().values()} == {0}


@pytest.mark.parametrize("validity", ["NOT VALID", ""])
@pytest.mark.parametrize("filled", ["", "UPDATE notification_events SET retry_count = 3;"])
def test_killed_between_a_check_and_its_end(filled: str, validity: str, empty_database: object) -> None:
    """Before it is validated, and before NOT NULL stands for it."""
    value = filled if validity else "UPDATE notification_events SET retry_count = 3;"
    catalog.execute(
        NULLABLE + value + "ALTER TABLE notification_events ADD CONSTRAINT"
        f" notification_events_retry_count_filled CHECK (retry_count IS NOT NULL) {validity}"
    )
    migrate()
    is_the_contracts()
    assert "notification_events_retry_count_filled" not in catalog.constraints()
    assert {row["retry_count"] for row in catalog.rows().values()} == {3 if value else 0}


def test_killed_on_the_way_back(empty_database: object) -> None:
    """Wherever it stopped, it goes on."""
    catalog.execute(STATES["000016"])
    schema = catalog.everything()
    migrate()
    for lost in ("idx_notification_events_leased", "idx_notification_events_stranded"):
        catalog.execute(f"DROP INDEX {lost}")
    catalog.execute("ALTER TABLE notification_events DROP COLUMN dedup_key")
    migrate("zero")
    left = catalog.everything()
    assert left.keys() - {"django_migrations"} == schema.keys()
