"""What happened: attempts, requeues and sweeps."""

import django.db.models.deletion
from django.db import migrations, models

import notifications.models

from ._adopt import CreateTable, cascade


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0003_leases")]

    operations = [
        CreateTable(
            name="DeliveryAttempt",
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
                ("number", models.PositiveIntegerField()),
                ("channel", models.CharField(max_length=255)),
                ("started_at", models.DateTimeField()),
                ("duration_ms", models.PositiveIntegerField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("sent", "Sent"),
                            ("transient", "Transient"),
                            ("permanent", "Permanent"),
                            ("unknown", "Unknown"),
                            ("interrupted", "Interrupted"),
                            ("no_notifier", "No Notifier"),
                        ],
                        max_length=20,
                    ),
                ),
                ("reason", models.CharField(blank=True, default="", max_length=20)),
                (
                    "status_code",
                    models.IntegerField(blank=True, null=True, verbose_name="HTTP or SMTP status"),
                ),
                ("error", models.TextField(blank=True, null=True)),
                ("worker", models.CharField(max_length=255)),
            ],
            options={
                "db_table": "notification_attempts",
                "ordering": ("started_at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification", "started_at"], name="idx_notification_attempts_event"
                    )
                ],
            },
        ),
        CreateTable(
            name="Requeue",
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
                ("by", models.CharField(max_length=255)),
                ("via", models.CharField(max_length=50)),
                ("at", models.DateTimeField()),
                ("status", models.CharField(max_length=50, verbose_name="status before")),
                ("retry_count", models.IntegerField(verbose_name="retry count before")),
                ("last_error", models.TextField(blank=True, null=True, verbose_name="last error before")),
            ],
            options={
                "db_table": "notification_requeues",
                "ordering": ("at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["notification", "at"], name="idx_notification_requeues_event"
                    )
                ],
            },
        ),
        CreateTable(
            name="SweepRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(choices=[("pending", "Pending"), ("retry", "Retry")], max_length=20),
                ),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField()),
                ("claimed", models.PositiveIntegerField()),
                ("sent", models.PositiveIntegerField()),
                ("rescheduled", models.PositiveIntegerField()),
                ("dead", models.PositiveIntegerField()),
                ("no_notifier", models.PositiveIntegerField()),
                ("released", models.PositiveIntegerField()),
                ("worker", models.CharField(max_length=255)),
            ],
            options={
                "db_table": "notification_sweeps",
                "ordering": ("ended_at", "id"),
                "indexes": [
                    notifications.models.Index(
                        fields=["kind", "-ended_at"], name="idx_notification_sweeps_last"
                    )
                ],
            },
        ),
        cascade("notification_attempts"),
        cascade("notification_requeues"),
    ]
