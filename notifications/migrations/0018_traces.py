"""In which span an alert was raised, where a site records spans."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import CreateTable, cascade


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0017_recipients")]

    operations = [
        CreateTable(
            name="Trace",
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
                ("context", models.CharField(max_length=55)),
            ],
            options={
                "db_table": "notification_traces",
                "ordering": ("id",),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification"], name="idx_notification_traces_notification"
                    )
                ],
            },
        ),
        cascade("notification_traces"),
    ]
