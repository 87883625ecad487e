"""What was raised because something died: escalations, and the deaths that the next digest tells of."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import CreateTable, cascade


def key() -> models.BigAutoField[int, int]:
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0010_outages")]

    operations = [
        CreateTable(
            name="Escalation",
            fields=[
                ("id", key()),
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
                (
                    "raised",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="notifications.notificationevent",
                    ),
                ),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "notification_escalations",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(fields=["raised"], name="idx_notification_escalations_raised")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("notification",), name="uniq_notification_escalations_event"
                    )
                ],
            },
        ),
        cascade("notification_escalations"),
        CreateTable(
            name="Death",
            fields=[
                ("id", key()),
                ("since", models.DateTimeField()),
                ("channel", models.CharField(max_length=255)),
                ("error", models.CharField(max_length=255)),
                ("notifications", models.BigIntegerField()),
            ],
            options={
                "db_table": "notification_deaths",
                "ordering": ("since", "channel", "error"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("since", "channel", "error"), name="uniq_notification_deaths_alike"
                    )
                ],
            },
        ),
    ]
