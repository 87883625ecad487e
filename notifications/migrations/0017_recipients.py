"""Which addresses of a recipient that names several have answered."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import CreateTable, cascade


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0016_beside")]

    operations = [
        CreateTable(
            name="RecipientAnswer",
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
                ("recipient", models.TextField()),
                ("refusal", models.TextField(blank=True, default="")),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "notification_recipients",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification"], name="idx_notification_recipients_notification"
                    )
                ],
            },
        ),
        cascade("notification_recipients"),
    ]
