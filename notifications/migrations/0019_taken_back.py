"""Decisions that can be taken back, which operation each was a part of, and who carries an operation out."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

import notifications.models

from ._adopt import AddColumn, AddOnce


def operation(to: str = "notifications.bulkoperation") -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(
        blank=True,
        db_constraint=False,
        db_index=False,
        null=True,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=to,
    )


def time(name: str | None = None) -> models.DateTimeField[Any, Any]:
    return models.DateTimeField(blank=True, null=True, verbose_name=name)


def line(length: int) -> models.CharField[Any, Any]:
    return models.CharField(blank=True, db_default="", default="", max_length=length)


def undone(model: str) -> list[AddColumn]:
    return [
        AddColumn(model_name=model, name=name, field=field)
        for name, field in (
            ("undone_at", time()),
            ("undone_by", line(255)),
            ("undone_via", line(50)),
            ("undone_reason", models.TextField(blank=True, db_default="", default="")),
            ("undo", operation()),
        )
    ]


def index(model: str, name: str, condition: Q, *fields: str) -> AddOnce:
    return AddOnce(model, notifications.models.Index(fields=list(fields), name=name, condition=condition))


KINDS = [
    ("requeue", "Requeue"),
    ("read", "Read"),
    ("dismiss", "Dismiss"),
    ("see", "See"),
    ("restore", "Restore"),
    ("undo", "Undo"),
]
IN_ONE = Q(operation__isnull=False)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0018_traces")]

    operations = [
        *undone("requeue"),
        *undone("reading"),
        AddColumn(model_name="requeue", name="next_retry_at", field=time("next retry before")),
        AddColumn(model_name="requeue", name="sent_at", field=time("sent before")),
        AddColumn(model_name="bulkoperation", name="undoes", field=operation()),
        AddColumn(model_name="bulkoperation", name="driven_by", field=line(255)),
        AddColumn(model_name="bulkoperation", name="stepped_at", field=time()),
        AddColumn(
            model_name="bulkoperation", name="taken_over", field=models.JSONField(blank=True, null=True)
        ),
        migrations.AlterField("bulkoperation", "kind", models.CharField(choices=KINDS, max_length=20)),
        index("requeue", "idx_notification_requeues_operation", IN_ONE, "operation", "id"),
        index("reading", "idx_notification_readings_operation", IN_ONE, "operation", "id"),
        index(
            "reading",
            "idx_notification_readings_dismissed",
            Q(status="dead", undone_at__isnull=True),
            "notification",
        ),
    ]
