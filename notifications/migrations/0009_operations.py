"""What operators did: their decisions about many notifications, and who marked what read, and why."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import AddColumn, CreateTable, cascade


def reason() -> models.TextField[str, str]:
    return models.TextField(blank=True, default="")


def operation() -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(
        blank=True,
        db_constraint=False,
        db_index=False,
        null=True,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to="notifications.bulkoperation",
    )


def key() -> models.BigAutoField[int, int]:
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0008_wake")]

    operations = [
        CreateTable(
            name="BulkOperation",
            fields=[
                ("id", key()),
                (
                    "kind",
                    models.CharField(choices=[("requeue", "Requeue"), ("read", "Read")], max_length=20),
                ),
                ("filters", models.TextField(blank=True, default="")),
                ("ids", models.JSONField(blank=True, null=True)),
                ("reason", reason()),
                ("by", models.CharField(max_length=255)),
                ("via", models.CharField(max_length=50)),
                ("requested", models.PositiveBigIntegerField()),
                ("at_least", models.BooleanField(default=False)),
                ("changed", models.PositiveBigIntegerField(default=0)),
                ("skips", models.JSONField(default=dict)),
                ("cursor", models.JSONField(blank=True, null=True)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("stopped_by", models.CharField(blank=True, default="", max_length=255)),
            ],
            options={"db_table": "notification_operations", "ordering": ("-started_at", "-id")},
        ),
        AddColumn(model_name="requeue", name="reason", field=reason()),
        AddColumn(model_name="requeue", name="operation", field=operation()),
        CreateTable(
            name="Reading",
            fields=[
                ("id", key()),
                ("by", models.CharField(blank=True, max_length=255)),
                ("via", models.CharField(max_length=50)),
                ("at", models.DateTimeField()),
                ("status", models.CharField(max_length=50, verbose_name="status before")),
                ("reason", reason()),
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
                ("operation", operation()),
            ],
            options={
                "db_table": "notification_readings",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification", "at"], name="idx_notification_readings_event"
                    )
                ],
            },
        ),
        cascade("notification_readings"),
    ]
