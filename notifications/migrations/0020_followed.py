"""Who was sent what, and what failed lately, found by an index: the notifications of one recipient in order
of time, and the attempts that failed."""

from __future__ import annotations

from django.db import migrations
from django.db.models import Q

import notifications.models

from ._adopt import AddOnce, AdoptIndex

RECIPIENT = "idx_notification_events_recipient"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0019_taken_back")]

    operations = [
        AdoptIndex(
            migrations.AddIndex(
                "notificationevent",
                notifications.models.Index(fields=["recipient", "-created_at"], name=RECIPIENT),
            ),
            RECIPIENT,
            "(recipient, created_at DESC)",
        ),
        AddOnce(
            "deliveryattempt",
            notifications.models.Index(
                fields=["started_at"], name="idx_notification_attempts_failed", condition=~Q(outcome="sent")
            ),
        ),
    ]
