from django.db import migrations, models

import notifications.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("notifications_certificates", "0002_taken_back"),
    ]

    operations = [
        migrations.AddField(
            model_name="watch",
            name="served_by",
            field=models.JSONField(blank=True, default=list),
        ),
        # None is as long as is known: a table of millions is not rewritten.
        migrations.AddField(
            model_name="sighting",
            name="since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="watch",
            index=notifications.models.fields.Index(
                condition=models.Q(("served_by", []), _negated=True),
                fields=["id"],
                name="idx_notification_watches_served",
            ),
        ),
    ]
