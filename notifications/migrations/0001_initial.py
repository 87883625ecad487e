"""notification_events as it was before retries existed; certctl may have made it already."""

from django.core.validators import ProhibitNullCharactersValidator
from django.db import migrations, models

import notifications.models

from ._adopt import AdoptIndex, AdoptTable

NO_NUL = [ProhibitNullCharactersValidator()]

COLUMNS = """
    id text PRIMARY KEY,
    type varchar(255) NOT NULL,
    certificate_id text,
    channel varchar(255) NOT NULL,
    recipient varchar(255) NOT NULL,
    message text NOT NULL,
    sent_at timestamptz,
    status varchar(50) NOT NULL DEFAULT 'pending',
    error text
"""


def index(column: str) -> AdoptIndex:
    name = f"idx_notification_events_{column}"
    operation = migrations.AddIndex(
        "notificationevent", notifications.models.Index(fields=[column], name=name)
    )
    return AdoptIndex(operation, name, f"({column})")


class Migration(migrations.Migration):
    initial = True
    atomic = False
    dependencies = []

    operations = [
        AdoptTable(
            migrations.CreateModel(
                name="NotificationEvent",
                fields=[
                    (
                        "id",
                        models.TextField(
                            primary_key=True,
                            serialize=False,
                            default=notifications.models.new_id,
                            editable=False,
                            validators=NO_NUL,
                        ),
                    ),
                    ("type", models.CharField(max_length=255, validators=NO_NUL)),
                    (
                        "certificate_id",
                        models.TextField("certificate", blank=True, null=True, validators=NO_NUL),
                    ),
                    ("channel", models.CharField(max_length=255, validators=NO_NUL)),
                    ("recipient", models.CharField(max_length=255, validators=NO_NUL)),
                    ("message", models.TextField(validators=NO_NUL)),
                    ("sent_at", models.DateTimeField(blank=True, null=True)),
                    ("status", models.CharField(db_default="pending", default="pending", max_length=50)),
                    ("error", models.TextField(blank=True, null=True)),
                ],
                options={"db_table": "notification_events", "verbose_name": "notification"},
            ),
            columns=COLUMNS,
            defaults={"status": "'pending'"},
        ),
        index("certificate_id"),
        index("status"),
        index("type"),
    ]
