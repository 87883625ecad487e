from django.db import migrations, models

import notifications.models.fields


class Migration(migrations.Migration):
    dependencies = [
        ("notifications_certificates", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Checks",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("outcome", models.CharField(max_length=10)),
                ("slot", models.IntegerField()),
                ("number", models.BigIntegerField()),
            ],
            options={
                "db_table": "notification_certificate_checks",
                "ordering": ("outcome", "slot"),
            },
        ),
        migrations.RemoveField(
            model_name="sighting",
            name="wrong_since",
        ),
        migrations.AddField(
            model_name="certificate",
            name="all_names",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="raised",
            name="settled_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="raised",
            name="undone_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="sighting",
            name="missed",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="sighting",
            name="returned",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="sighting",
            name="verdicts_since",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddIndex(
            model_name="sighting",
            index=notifications.models.fields.Index(
                fields=["first_seen"], name="idx_notification_sightings_first_seen"
            ),
        ),
        migrations.AddConstraint(
            model_name="checks",
            constraint=models.UniqueConstraint(
                fields=("outcome", "slot"), name="uniq_notification_certificate_checks"
            ),
        ),
    ]
