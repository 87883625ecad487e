"""`migrate` on an empty database makes what the models say, on either database."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from notifications.models import NotificationEvent

from . import certctl_tables
from .catalog import query

MODELS = list(apps.get_app_config("notifications").get_models())


def described(model: type[models.Model]) -> dict[str, Any]:
    """A table's columns, and its indexes and constraints by name, as the database reports them."""
    table = model._meta.db_table
    introspection = connection.introspection
    with connection.cursor() as cursor:
        columns = {
            column.name: (introspection.get_field_type(column.type_code, column), column.null_ok)
            for column in introspection.get_table_description(cursor, table)
        }
        constraints = introspection.get_constraints(cursor, table)
    return {"columns": columns, "constraints": {n: c for n, c in constraints.items() if expected(n, c)}}


def expected(name: str, constraint: dict[str, Any]) -> bool:
    """Not what Django adds for LIKE on PostgreSQL, nor the cascade that only the migration knows."""
    cascade = name.startswith("fk_") and constraint["foreign_key"]
    return not cascade and not name.endswith("_like")


def test_the_tables_are_as_the_models_say(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    migrated = {model: described(model) for model in MODELS}
    call_command("migrate", "notifications", "zero", verbosity=0)
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    for model in MODELS:
        assert migrated[model] == described(model)


def test_every_table_goes_when_migrating_back(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    call_command("migrate", "notifications", "zero", verbosity=0)
    assert connection.introspection.table_names() == ["django_migrations"]


def test_the_models_need_no_further_migration(empty_database: BaseDatabaseWrapper) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("idx_notification_events_retry_sweep", ("failed", "next_retry_at")),
        ("idx_notification_events_stranded", ("failed", "next_retry_at")),
        ("idx_notification_events_leased", ("leased_until",)),
        ("uniq_notification_events_dedup_key", ("dedup_key",)),
    ],
)
def test_the_partial_indexes_are_partial(
    name: str, condition: tuple[str, ...], empty_database: BaseDatabaseWrapper
) -> None:
    call_command("migrate", "notifications", verbosity=0)
    source = {
        "postgresql": "SELECT indexdef FROM pg_indexes WHERE indexname = %s",
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = %s",
    }
    [(definition,)] = query(source[connection.vendor], name)
    assert all(word in definition.split(" WHERE ")[1] for word in condition)


def test_an_insert_that_names_only_certctls_columns_works(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    query(certctl_tables.INSERT, "n-1", "Revocation", None, "Slack", "#pki", "gone", None, "pending", None)
    event = NotificationEvent.objects.get()
    assert (event.retry_count, event.next_retry_at, event.leased_until) == (0, None, None)
    assert event.created_at is not None


def test_the_database_itself_gives_a_new_row_its_status(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    query(
        "INSERT INTO notification_events (id, type, channel, recipient, message) VALUES (%s, %s, %s, %s, %s)",
        *("n-1", "Revocation", "Slack", "#pki", "gone"),
    )
    assert NotificationEvent.objects.pending().count() == 1


def test_a_dedup_key_is_unique_where_there_is_one(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    first = {"type": "t", "channel": "Slack", "recipient": "#pki", "message": "m"}
    for _ in range(2):
        NotificationEvent.objects.create(**first)
    NotificationEvent.objects.create(**first, dedup_key="k")
    with pytest.raises(IntegrityError):
        NotificationEvent.objects.create(**first, dedup_key="k")


def test_running_it_again_without_its_record_changes_nothing(empty_database: BaseDatabaseWrapper) -> None:
    call_command("migrate", "notifications", verbosity=0)
    NotificationEvent.objects.create(id="n-1", type="t", channel="Slack", recipient="#pki", message="m")
    before = {model: described(model) for model in MODELS}
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()
    call_command("migrate", "notifications", verbosity=0)
    assert {model: described(model) for model in MODELS} == before
    assert NotificationEvent.objects.get().pk == "n-1"
