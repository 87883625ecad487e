"""`migrate` on a PostgreSQL database where certctl, or nobody, was first."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.db.migrations.recorder import MigrationRecorder

from notifications.models import DeliveryAttempt, Escalation, NotificationEvent, Requeue, Status
from tests.processes import current_database_url

from . import catalog, certctl_tables
from .catalog import Column, Row
from .certctl_tables import STATES

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

CONTRACT_COLUMNS = {
    "id": Column("text", True),
    "type": Column("character varying(255)", True),
    "certificate_id": Column("text", False),
    "channel": Column("character varying(255)", True),
    "recipient": Column("character varying(255)", True),
    "message": Column("text", True),
    "sent_at": Column("timestamp with time zone", False),
    "status": Column("character varying(50)", True, "'pending'::character varying"),
    "error": Column("text", False),
    "retry_count": Column("integer", True, "0"),
    "next_retry_at": Column("timestamp with time zone", False),
    "last_error": Column("text", False),
    "created_at": Column("timestamp with time zone", True, "now()"),
    "leased_until": Column("timestamp with time zone", False),
    "dedup_key": Column("text", False),
}
CONTRACT_INDEXES = {
    "notification_events_pkey": "UNIQUE (id)",
    "idx_notification_events_certificate_id": "(certificate_id)",
    "idx_notification_events_status": "(status)",
    "idx_notification_events_type": "(type)",
    "idx_notification_events_retry_sweep": (
        "(next_retry_at) WHERE (((status)::text = 'failed'::text) AND (next_retry_at IS NOT NULL))"
    ),
    "uniq_notification_events_dedup_key": "UNIQUE (dedup_key) WHERE (dedup_key IS NOT NULL)",
}
# What the model adds for its own queries; a plan test or a measurement stands behind each.
OWN_INDEXES = {index.name for index in NotificationEvent._meta.indexes} - CONTRACT_INDEXES.keys()


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, empty_database: object) -> str:
    """The name of the starting state that the database is in."""
    name: str = request.param
    catalog.execute(STATES[name])
    return name


@pytest.fixture
def adopted(empty_database: object) -> None:
    """certctl's table with certificates and rows, migrated."""
    catalog.execute(STATES["000016"])
    migrate()


def migrate(*target: str) -> None:
    call_command("migrate", "notifications", *target, verbosity=0)


def is_the_contracts() -> None:
    columns, indexes = catalog.columns(), catalog.indexes()
    assert {name: columns.get(name) for name in CONTRACT_COLUMNS} == CONTRACT_COLUMNS
    assert columns.keys() == {field.column for field in NotificationEvent._meta.concrete_fields}
    assert {name: indexes.get(name) for name in CONTRACT_INDEXES} == CONTRACT_INDEXES
    assert indexes.keys() == CONTRACT_INDEXES.keys() | OWN_INDEXES


def assert_kept(before: dict[str, Row], after: dict[str, Row]) -> None:
    """No row is lost, none is new, and no value changed; a NULL where none may be is filled."""
    may_be_filled = {name for name, column in CONTRACT_COLUMNS.items() if column.not_null}
    assert after.keys() == before.keys()
    changed = [
        (key, name, value, after[key][name])
        for key, row in before.items()
        for name, value in row.items()
        if after[key][name] != value and not (value is None and name in may_be_filled)
    ]
    assert changed == []


def rows_before(state: str) -> dict[str, Row]:
    return catalog.rows() if state != "nothing" else {}


def test_the_table_becomes_the_contracts(state: str) -> None:
    migrate()
    is_the_contracts()


def test_no_row_changes(state: str) -> None:
    before = rows_before(state)
    migrate()
    assert len(before) == {"nothing": 0, "no rows": 0, "000016": 10_000}.get(state, 500)
    assert_kept(before, catalog.rows())


def test_certctls_insert_works(state: str) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)
    migrate()
    catalog.query(
        certctl_tables.INSERT,
        *("new", "Revocation", None, "Slack", "#pki", "revoked", None, "pending", None),
    )
    row = catalog.rows()["new"]
    assert (row["status"], row["retry_count"]) == ("pending", 0)
    assert row["created_at"] > before
    assert {row[name] for name in ("next_retry_at", "last_error", "leased_until", "dedup_key")} == {None}
    values = ("newer", "Revocation", None, "Slack", "#pki", "revoked", None, "pending", None, before)
    assert catalog.query(certctl_tables.INSERT_WITH_TIME, *values) == [("newer",)]
    assert catalog.rows()["newer"] == {**row, "id": "newer", "created_at": before}


def test_a_second_run_changes_nothing(state: str) -> None:
    migrate()
    schema, rows = catalog.everything(), catalog.rows()
    migrate()
    assert catalog.everything() == schema
    assert catalog.rows() == rows


def test_running_it_again_on_what_is_there_changes_nothing(state: str) -> None:
    """The tables came from a dump, or from a run whose record was lost."""
    migrate()
    schema, rows = catalog.everything(), catalog.rows()
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()
    migrate()
    assert catalog.everything() == schema
    assert catalog.rows() == rows


@pytest.mark.parametrize("stop", ["0001", "0002", "0003", "0004", "0009"])
@pytest.mark.parametrize("state", ["nothing", "000016"], indirect=True)
def test_it_goes_on_where_it_was_interrupted(stop: str, state: str) -> None:
    before = rows_before(state)
    migrate(stop)
    migrate()
    is_the_contracts()
    assert_kept(before, catalog.rows())


@pytest.mark.parametrize("state", ["nothing", "first schema"], indirect=True)
def test_back_to_zero_leaves_what_was_there(state: str) -> None:
    """Nobody else needs what we added: certctl is not there."""
    schema, rows = catalog.everything(), rows_before(state)
    migrate()
    migrate("zero")
    left = catalog.everything()
    left.pop("django_migrations")
    assert left == schema
    assert_kept(rows, rows_before(state))


def test_back_to_zero_and_forward_again(state: str) -> None:
    before = rows_before(state)
    migrate()
    migrate("zero")
    migrate()
    is_the_contracts()
    assert_kept(before, catalog.rows())


def test_back_to_zero_keeps_the_status_of_what_happened_since(adopted: None) -> None:
    for key, verb in (("notif-1", "mark_read"), ("notif-3", "requeue")):
        getattr(NotificationEvent.objects.get(pk=key), verb)(by="op")
    NotificationEvent.objects.get(pk="notif-2").mark_as_dead("gone for good")
    NotificationEvent.objects.get(pk="notif-5").mark_as_sent(NOW)
    expected = {key: row["status"] for key, row in catalog.rows().items()}
    migrate("zero")
    left = catalog.rows()
    assert {key: row["status"] for key, row in left.items()} == expected
    assert [left[f"notif-{n}"]["status"] for n in (1, 2, 3, 5)] == ["read", "dead", "pending", "sent"]


def test_back_to_the_time_before_escalations_and_forward_again_keeps_what_was_raised(adopted: None) -> None:
    """Only which one was raised for which is forgotten; the dedup_key still guards."""
    schema = catalog.everything()
    for key in ("notif-2", "notif-5"):
        history(key)
    before = catalog.rows()
    migrate("0009")
    assert {"notification_escalations", "notification_deaths"}.isdisjoint(catalog.tables())
    migrate()
    assert catalog.everything() == schema
    assert catalog.rows() == before
    assert not Escalation.objects.exists()


def test_back_to_the_time_before_retries(empty_database: object) -> None:
    """Only our own retry columns and index go: the first schema is what remains."""
    catalog.execute(STATES["first schema"])
    schema = (catalog.columns(), catalog.indexes(), catalog.constraints())
    migrate()
    migrate("0001")
    assert (catalog.columns(), catalog.indexes(), catalog.constraints()) == schema


def test_a_column_that_lacked_its_default_is_completed(empty_database: object) -> None:
    """A NULL retry_count is below no budget: its row would never be retried."""
    catalog.execute(STATES["columns without NOT NULL"])
    before = catalog.rows()
    migrate()
    after = catalog.rows()
    assert {before[key]["retry_count"] for key in before} == {None, 3}
    assert {row["retry_count"] for row in after.values()} == {0, 3}
    assert {row["retry_count"] for row in after.values() if row["status"] == "failed"} == {3}
    assert all(row["created_at"] for row in after.values())


def test_the_command_itself_adopts_a_table(empty_database: object, certctl_command: list[str]) -> None:
    """The whole project, in another process, without --fake."""
    catalog.execute(STATES["000016 and created_at"])
    before = catalog.rows()
    own = {"DJANGO_SETTINGS_MODULE": "certctl.settings", "DATABASE_URL": current_database_url()}
    for _ in range(2):
        subprocess.run([*certctl_command, "migrate"], env=os.environ | own, check=True, capture_output=True)
        is_the_contracts()
        assert_kept(before, catalog.rows())
    assert "auth_user" in catalog.tables()


def test_a_database_that_the_router_keeps_us_out_of_stays_empty(
    empty_database: object, settings: object
) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.NotHere"]
    migrate()
    assert catalog.tables() == {"django_migrations"}
    migrate("zero")


class NotHere:
    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return app_label != "notifications"


# certctl goes on working


def history(key: str) -> None:
    """What we keep about one notification."""
    DeliveryAttempt.objects.create(
        notification_id=key,
        number=1,
        channel="Slack",
        started_at=NOW,
        duration_ms=5,
        outcome="sent",
        worker="w",
    )
    event = NotificationEvent.objects.get(pk=key)
    Requeue.objects.bulk_create([Requeue.of(event, by="op", via="test", at=NOW)])
    Escalation.objects.create(notification=event, raised_id="raised", at=NOW)


def test_certctl_updates_by_id(adopted: None) -> None:
    before = catalog.rows()
    catalog.query(certctl_tables.UPDATE_STATUS, "sent", NOW, "notif-5")
    values = ("Revocation", "mc-2", "Email", "a@example.com", "text", None, "failed", "refused")
    catalog.query(certctl_tables.UPDATE_ALL, *values, "notif-10")
    after = catalog.rows()
    assert after["notif-5"] == {**before["notif-5"], "status": "sent", "sent_at": NOW}
    assert after["notif-10"]["error"] == "refused"
    assert [key for key in after if after[key] != before[key]] == ["notif-5", "notif-10"]
    assert NotificationEvent.objects.stranded().filter(pk="notif-10").exists()


def test_deleting_a_certificate_takes_its_notifications_and_their_history(adopted: None) -> None:
    theirs = [event.pk for event in NotificationEvent.objects.filter(certificate_id="mc-1")]
    other = NotificationEvent.objects.filter(certificate_id="mc-2").first().pk
    for key in (theirs[0], theirs[1], other):
        history(key)
    catalog.query(certctl_tables.DELETE_CERTIFICATE, "mc-1")
    assert len(theirs) > 500
    assert catalog.rows().keys().isdisjoint(theirs)
    assert len(catalog.rows()) == 10_000 - len(theirs)
    for table in ("notification_attempts", "notification_requeues", "notification_escalations"):
        assert catalog.query(f"SELECT notification_id FROM {table}") == [(other,)]


def test_certctls_certificates_still_bind_their_notifications(adopted: None) -> None:
    assert catalog.constraints()["notification_events_certificate_id_fkey"] == (
        "FOREIGN KEY (certificate_id) REFERENCES managed_certificates(id) ON DELETE CASCADE"
    )
    with pytest.raises(IntegrityError):
        catalog.query(
            certctl_tables.INSERT, "x", "t", "unknown", "Slack", "#pki", "m", None, Status.PENDING, None
        )
