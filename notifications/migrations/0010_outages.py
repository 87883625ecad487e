"""How endpoints came back: who paused them, since when their backlog flows, and whom an outage killed."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ._adopt import AddColumn, CreateTable


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0009_operations")]

    operations = [
        AddColumn(
            model_name="hold",
            name="by",
            field=models.CharField(blank=True, default="", max_length=255),
        ),
        AddColumn(
            model_name="hold",
            name="reopened_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        CreateTable(
            name="Outage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("endpoint", models.TextField()),
                ("channel", models.CharField(max_length=255)),
                ("recipient_prefix", models.CharField(blank=True, default="", max_length=255)),
                ("exact", models.BooleanField(default=False)),
                ("reason", models.CharField(max_length=20)),
                ("error", models.TextField()),
                ("since", models.DateTimeField()),
                ("failures", models.PositiveIntegerField(default=0)),
                ("died", models.PositiveIntegerField(default=0)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("redriven_at", models.DateTimeField(blank=True, null=True)),
                ("redriven_by", models.CharField(blank=True, default="", max_length=255)),
                (
                    "operation",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="notifications.bulkoperation",
                    ),
                ),
            ],
            options={
                "db_table": "notification_outages",
                "ordering": ("-since", "-id"),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=("endpoint", "channel", "recipient_prefix"),
                        name="uniq_notification_outages_open",
                    )
                ],
            },
        ),
    ]
