"""What people have said of dead letters that failed alike: snoozed, whose they are, a note."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

from ._adopt import CreateTable


def name() -> models.CharField[Any, Any]:
    return models.CharField(blank=True, default="", max_length=255)


def time() -> models.DateTimeField[Any, Any]:
    return models.DateTimeField(blank=True, null=True)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0020_followed")]

    operations = [
        CreateTable(
            name="GroupNote",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=64)),
                ("channel", models.TextField()),
                ("error", models.TextField()),
                ("snoozed_at", time()),
                ("snoozed_by", name()),
                ("snoozed_until", time()),
                ("snoozed_growth", models.PositiveIntegerField(blank=True, null=True)),
                ("assigned_to", name()),
                ("assigned_by", name()),
                ("assigned_at", time()),
                ("note", models.TextField(blank=True, default="")),
                ("noted_by", name()),
                ("noted_at", time()),
                ("version", models.PositiveIntegerField(default=0)),
            ],
            options={
                "db_table": "notification_groups",
                "ordering": ("id",),
                "constraints": [
                    models.UniqueConstraint(fields=("key",), name="uniq_notification_groups_key")
                ],
            },
        ),
    ]
