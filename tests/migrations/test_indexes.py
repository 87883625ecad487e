"""Indexes and constraints that `migrate` finds under names of its own."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError
from django.db import IntegrityError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from . import catalog
from .certctl_tables import STATES
from .test_adoption import CONTRACT_INDEXES, OWN_INDEXES, is_the_contracts, migrate

KEY = "uniq_notification_events_dedup_key"
LEASED = "idx_notification_events_leased"
TWICE = """
    ALTER TABLE notification_events ADD COLUMN dedup_key TEXT;
    UPDATE notification_events SET dedup_key = 'k' WHERE id IN ('notif-1', 'notif-2');
"""


@pytest.fixture
def found(empty_database: object) -> None:
    """certctl's table with rows."""
    catalog.execute(STATES["000016 and created_at"])


def valid(index: str) -> bool:
    return catalog.query("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", index) == [
        (True,)
    ]


def leave_invalid(name: str, definition: str) -> None:
    """What CREATE INDEX CONCURRENTLY leaves behind when it fails."""
    with pytest.raises(IntegrityError):
        catalog.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON notification_events {definition}")
    assert not valid(name)


def built() -> list[str]:
    """The statements that make indexes on the shared table while `migrate` runs."""
    with CaptureQueriesContext(connection) as queries:
        migrate()
    made = [query["sql"] for query in queries.captured_queries if "INDEX" in query["sql"].split(" ON ")[0]]
    return [sql for sql in made if sql.startswith("CREATE") and " ON notification_events " in sql]


def test_indexes_of_a_table_with_rows_are_built_beside_its_writers(found: None) -> None:
    made = built()
    assert len(made) > 3
    assert [sql for sql in made if " CONCURRENTLY " not in sql] == []


@pytest.mark.parametrize("state", ["nothing", "no rows"])
def test_indexes_of_an_empty_table_are_made_at_once(state: str, empty_database: object) -> None:
    catalog.execute(STATES[state])
    made = built()
    assert len(made) > 3
    assert [sql for sql in made if " CONCURRENTLY " in sql] == []


def test_an_invalid_index_is_built_anew(found: None) -> None:
    """With it, the same dedup_key was raised twice."""
    catalog.execute(TWICE)
    leave_invalid(KEY, "(dedup_key) WHERE dedup_key IS NOT NULL")
    catalog.execute("UPDATE notification_events SET dedup_key = NULL WHERE id = 'notif-2'")
    migrate()
    is_the_contracts()
    assert valid(KEY)
    with pytest.raises(IntegrityError):
        catalog.execute("UPDATE notification_events SET dedup_key = 'k' WHERE id = 'notif-2'")


def test_a_key_that_is_there_twice_is_named_and_then_mended(found: None) -> None:
    catalog.execute(TWICE)
    for _ in range(2):
        with pytest.raises(CommandError, match=r"uniq_notification_events_dedup_key .* \(dedup_key\)=\(k\)"):
            migrate()
    catalog.execute("UPDATE notification_events SET dedup_key = NULL WHERE id = 'notif-2'")
    migrate()
    is_the_contracts()


@pytest.mark.parametrize(
    "other",
    [
        f"CREATE INDEX {LEASED} ON notification_events (leased_until)",
        f"CREATE INDEX {LEASED} ON notification_events (sent_at) WHERE leased_until IS NOT NULL",
        f"CREATE UNIQUE INDEX {LEASED} ON notification_events (leased_until) WHERE leased_until IS NOT NULL",
        f"CREATE INDEX {LEASED} ON notification_events (leased_until DESC) WHERE leased_until IS NOT NULL",
        f"CREATE INDEX {LEASED} ON managed_certificates (name)",
    ],
)
def test_somebody_elses_index_under_our_name_is_named(other: str, found: None) -> None:
    catalog.execute("ALTER TABLE notification_events ADD COLUMN leased_until TIMESTAMPTZ")
    catalog.execute(other)
    with pytest.raises(CommandError, match=f"another index named {LEASED}; ours is ON"):
        migrate()
    catalog.execute(f"DROP INDEX {LEASED}")
    migrate()
    is_the_contracts()


def test_one_that_we_made_otherwise_is_built_anew(found: None) -> None:
    migrate()
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()
    catalog.execute(
        f"DROP INDEX {LEASED}; CREATE INDEX {LEASED} ON notification_events (leased_until);"
        f"COMMENT ON INDEX {LEASED} IS 'made by certctl-notifications'"
    )
    migrate()
    is_the_contracts()


def test_one_that_says_the_same_is_taken_however_it_is_stored(found: None) -> None:
    """A careful hand built it in the night before; it goes with us."""
    catalog.execute("ALTER TABLE notification_events ADD COLUMN leased_until TIMESTAMPTZ")
    catalog.execute(
        f"CREATE INDEX {LEASED} ON notification_events (leased_until) WITH (fillfactor = 70)"
        " WHERE leased_until IS NOT NULL"
    )
    number = catalog.query("SELECT to_regclass(%s)::oid", LEASED)
    migrate()
    assert catalog.query("SELECT to_regclass(%s)::oid", LEASED) == number
    assert catalog.indexes().keys() == CONTRACT_INDEXES.keys() | OWN_INDEXES
    migrate("0002")
    assert LEASED not in catalog.indexes()


@pytest.mark.parametrize("what", ["NOT VALID", "ON DELETE RESTRICT", ""])
def test_the_cascade_is_mended(what: str, found: None) -> None:
    """Not valid, of another kind, or lost."""
    migrate()
    schema = catalog.everything()
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()
    table, name = "notification_attempts", "fk_notification_attempts_notification"
    catalog.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    kind = what.replace("NOT VALID", "ON DELETE CASCADE NOT VALID")
    if kind:
        catalog.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (notification_id)"
            f" REFERENCES notification_events (id) {kind}"
        )
    assert catalog.everything() != schema
    migrate()
    assert catalog.everything() == schema


def test_the_planner_knows_the_new_columns(found: None) -> None:
    migrate()
    known = catalog.query("SELECT attname FROM pg_stats WHERE tablename = 'notification_events'")
    assert {("leased_until",), ("dedup_key",), ("status",)} <= set(known)
