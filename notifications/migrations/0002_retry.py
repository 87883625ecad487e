"""Retries: what certctl's migration 000016 added, and the created_at that came before it."""

from __future__ import annotations

from typing import Any

import django.utils.timezone
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

import notifications.models

from ._adopt import AdoptColumn, AdoptIndex


def column(name: str, field: models.Field[Any, Any], kind: str, default: str | None = None) -> AdoptColumn:
    return AdoptColumn(migrations.AddField("notificationevent", name, field), name, kind, default)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0001_initial")]

    operations = [
        column(
            "created_at",
            models.DateTimeField(db_default=Now(), default=django.utils.timezone.now),
            "timestamptz",
            "now()",
        ),
        column("retry_count", models.IntegerField(db_default=0, default=0), "integer", "0"),
        column("next_retry_at", models.DateTimeField(blank=True, null=True), "timestamptz"),
        column("last_error", models.TextField(blank=True, null=True), "text"),
        AdoptIndex(
            migrations.AddIndex(
                "notificationevent",
                notifications.models.Index(
                    condition=Q(next_retry_at__isnull=False, status="failed"),
                    fields=["next_retry_at"],
                    name="idx_notification_events_retry_sweep",
                ),
            ),
            "idx_notification_events_retry_sweep",
            "(next_retry_at) WHERE status = 'failed' AND next_retry_at IS NOT NULL",
        ),
        migrations.AlterModelOptions(
            name="notificationevent",
            options={
                "ordering": ("-created_at",),
                "permissions": (("requeue_notificationevent", "Can requeue notifications"),),
                "verbose_name": "notification",
            },
        ),
    ]
