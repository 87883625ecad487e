"""Indexes for what is read again and again: the dead letters, and how many are dead and stranded."""

from __future__ import annotations

from django.db import migrations
from django.db.models import Q

import notifications.models

from ._adopt import AdoptIndex


def index(name: str, fields: list[str], definition: str, condition: Q) -> AdoptIndex:
    operation = migrations.AddIndex(
        "notificationevent", notifications.models.Index(fields=fields, name=name, condition=condition)
    )
    return AdoptIndex(operation, name, definition)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0006_tallies")]

    operations = [
        index(
            "idx_notification_events_dead",
            ["-created_at", "-id", "channel"],
            "(created_at DESC, id DESC, channel) WHERE status = 'dead'",
            Q(status="dead"),
        ),
        index(
            "idx_notification_events_stranded",
            ["created_at"],
            "(created_at) WHERE status = 'failed' AND next_retry_at IS NULL",
            Q(next_retry_at__isnull=True, status="failed"),
        ),
    ]
