"""Alerts that were taken back, and operations that mean what was renewed as well."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import AddColumn, CreateTable, cascade


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0022_deadlines")]

    operations = [
        CreateTable(
            name="Withdrawal",
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
                ("by", models.CharField(blank=True, max_length=255)),
                ("via", models.CharField(max_length=50)),
                ("at", models.DateTimeField()),
                ("status", models.CharField(max_length=50, verbose_name="status before")),
                ("reason", models.TextField()),
            ],
            options={
                "db_table": "notification_withdrawals",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification"], name="idx_notification_withdrawals_notification"
                    )
                ],
            },
        ),
        cascade("notification_withdrawals"),
        AddColumn(
            model_name="bulkoperation",
            name="renewed",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
