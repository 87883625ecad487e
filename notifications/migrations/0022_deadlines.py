"""When the certificate ends that an alert is about; by when a digest has to tell of a death."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import AddColumn, CreateTable, cascade


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0021_groups")]

    operations = [
        CreateTable(
            name="Deadline",
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
                ("not_after", models.DateTimeField()),
                ("fingerprints", models.JSONField(default=list)),
                ("waiting", models.BooleanField(db_default=True, default=True)),
                ("insisted", models.BooleanField(db_default=False, default=False)),
                ("settled", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "db_table": "notification_deadlines",
                "ordering": ("not_after", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["not_after"],
                        name="idx_notification_deadlines_waiting",
                        condition=models.Q(waiting=True),
                    ),
                    notifications.models.Index(
                        fields=["not_after"],
                        name="idx_notification_deadlines_open",
                        condition=models.Q(settled=False),
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=["notification"], name="uniq_notification_deadlines_event")
                ],
            },
        ),
        cascade("notification_deadlines"),
        AddColumn(model_name="death", name="tell_by", field=models.DateTimeField(blank=True, null=True)),
    ]
