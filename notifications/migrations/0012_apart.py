"""Rows that the database refuses, and what workers write without waiting for each other.

Indexes of ours lose the id, or what stands beside it: an id that just fits its primary key fits there too.
"""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F, Q, Sum

import notifications.models

from ._adopt import (
    AbandonIndex,
    AddColumn,
    AddOnce,
    AdoptIndex,
    ConstrainOnce,
    CreateTable,
    RemoveOnce,
    UnconstrainOnce,
    cascade,
)

EVENT = "notificationevent"
DEAD = Q(status="dead")


def dropped(name: str, definition: str) -> AbandonIndex:
    return AbandonIndex(migrations.RemoveIndex(EVENT, name), name, definition)


def made(name: str, fields: list[str], definition: str, condition: Q | None = None) -> AdoptIndex:
    index = notifications.models.Index(fields=fields, name=name, condition=condition)
    return AdoptIndex(migrations.AddIndex(EVENT, index), name, definition)


def of_the_id_alone(model: str, table: str) -> list[Any]:
    name = f"idx_{table}_notification"
    index = notifications.models.Index(fields=["notification"], name=name)
    return [AddOnce(model, index), RemoveOnce(model, f"idx_{table}_event")]


def in_slots(model: str, table: str, key: tuple[str, ...], old: str) -> list[Any]:
    name = f"uniq_notification_{table}_slot"
    constraint = models.UniqueConstraint(fields=(*key, "slot"), name=name)
    return [
        AddColumn(model, "slot", models.IntegerField(db_default=0, default=0)),
        UnconstrainOnce(model, f"uniq_notification_{table}_{old}"),
        ConstrainOnce(model, constraint),
        migrations.RunPython(migrations.RunPython.noop, together(model, key), atomic=True),
    ]


def together(model: str, key: tuple[str, ...]) -> Any:
    """Add up what is in several slots, as it was before there were slots."""

    def run(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
        table = apps.get_model("notifications", model)
        rows = table.objects.using(editor.connection.alias)
        counts = [
            field.name for field in table._meta.fields if field.get_internal_type() == "BigIntegerField"
        ]
        beside = rows.filter(slot__gt=0)
        sums = list(beside.order_by().values(*key).annotate(**{f"sum_{n}": Sum(n) for n in counts}))
        for row in sums:
            found = {name: row[name] for name in key}
            more = {name: row[f"sum_{name}"] for name in counts}
            first = rows.filter(slot=0, **found)
            if not first.update(**{name: F(name) + value for name, value in more.items()}):
                rows.create(slot=0, **found, **more)
        beside.delete()

    return run


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0011_escalation")]

    operations = [
        made("idx_notification_events_latest", ["-created_at"], "(created_at DESC)"),
        made(
            "idx_notification_events_dead_letters",
            ["-created_at", "channel"],
            "(created_at DESC, channel) WHERE status = 'dead'",
            DEAD,
        ),
        dropped("idx_notification_events_newest", "(created_at DESC, id DESC)"),
        dropped("idx_notification_events_dead", "(created_at DESC, id DESC, channel) WHERE status = 'dead'"),
        *of_the_id_alone("deliveryattempt", "notification_attempts"),
        *of_the_id_alone("requeue", "notification_requeues"),
        *of_the_id_alone("reading", "notification_readings"),
        *in_slots("tally", "tallies", ("hour", "channel", "outcome"), "hour"),
        *in_slots("death", "deaths", ("since", "channel", "error"), "alike"),
        CreateTable(
            name="Refusal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "notification",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="%(class)ss",
                        to="notifications.notificationevent",
                    ),
                ),
                ("verb", models.CharField(max_length=20)),
                ("at", models.DateTimeField()),
                ("error", models.TextField()),
            ],
            options={
                "db_table": "notification_refusals",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification"], name="idx_notification_refusals_notification"
                    )
                ],
            },
        ),
        cascade("notification_refusals"),
    ]
