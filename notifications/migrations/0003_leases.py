"""Leases, and a producer's key against raising an alert twice."""

from __future__ import annotations

from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from django.db import migrations, models
from django.db.models import Q

import notifications.models

from ._adopt import AdoptColumn, AdoptIndex, Analyze


def column(name: str, field: models.Field[Any, Any], kind: str) -> AdoptColumn:
    return AdoptColumn(migrations.AddField("notificationevent", name, field), name, kind)


def index(name: str, fields: list[str], definition: str, condition: Q | None = None) -> AdoptIndex:
    operation = migrations.AddIndex(
        "notificationevent", notifications.models.Index(fields=fields, name=name, condition=condition)
    )
    return AdoptIndex(operation, name, definition)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0002_retry")]

    operations = [
        column("leased_until", models.DateTimeField(blank=True, null=True), "timestamptz"),
        column(
            "dedup_key",
            models.TextField(blank=True, null=True, validators=[ProhibitNullCharactersValidator()]),
            "text",
        ),
        index(
            "idx_notification_events_pending",
            ["created_at"],
            "(created_at) WHERE status = 'pending' AND leased_until IS NULL",
            Q(leased_until__isnull=True, status="pending"),
        ),
        index(
            "idx_notification_events_leased",
            ["leased_until"],
            "(leased_until) WHERE leased_until IS NOT NULL",
            Q(leased_until__isnull=False),
        ),
        index("idx_notification_events_newest", ["-created_at", "-id"], "(created_at DESC, id DESC)"),
        AdoptIndex(
            migrations.AddConstraint(
                "notificationevent",
                models.UniqueConstraint(
                    condition=Q(dedup_key__isnull=False),
                    fields=("dedup_key",),
                    name="uniq_notification_events_dedup_key",
                ),
            ),
            "uniq_notification_events_dedup_key",
            "(dedup_key) WHERE dedup_key IS NOT NULL",
            unique=True,
        ),
        Analyze(),
    ]
