"""A requeued notification is due from its requeue: in the queue's order, and in every figure."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Coalesce

import notifications.models

from ._adopt import AbandonIndex, AdoptColumn, AdoptIndex, Analyze

EVENT = "notificationevent"
WAITING = Q(leased_until__isnull=True, status="pending")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0013_hand_overs")]

    operations = [
        AdoptColumn(
            migrations.AddField(EVENT, "requeued_at", models.DateTimeField(blank=True, null=True)),
            "requeued_at",
            "timestamptz",
        ),
        AdoptIndex(
            migrations.AddIndex(
                EVENT,
                notifications.models.Index(
                    Coalesce("requeued_at", "created_at", output_field=models.DateTimeField()),
                    name="idx_notification_events_due",
                    condition=WAITING,
                ),
            ),
            "idx_notification_events_due",
            "((COALESCE(requeued_at, created_at))) WHERE leased_until IS NULL AND status = 'pending'",
        ),
        AbandonIndex(
            migrations.RemoveIndex(EVENT, "idx_notification_events_pending"),
            "idx_notification_events_pending",
            "(created_at) WHERE status = 'pending' AND leased_until IS NULL",
        ),
        Analyze(),
    ]
