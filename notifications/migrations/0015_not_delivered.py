"""The sent notifications that nobody may have received: those of a channel that had no notifier."""

from __future__ import annotations

from django.db import migrations
from django.db.models import Q

import notifications.models

from ._adopt import AdoptIndex

NAME = "idx_notification_events_not_delivered"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0014_requeued_at")]

    operations = [
        AdoptIndex(
            migrations.AddIndex(
                "notificationevent",
                notifications.models.Index(
                    fields=["-created_at"], name=NAME, condition=Q(error__gt="", status="sent")
                ),
            ),
            NAME,
            "(created_at DESC) WHERE error > '' AND status = 'sent'",
        ),
    ]
