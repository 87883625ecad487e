"""Batches that a sweep gave to a task engine, and the name of how often an endpoint was held."""

from __future__ import annotations

from django.db import migrations, models

from ._adopt import AddColumn, CreateTable


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0012_apart")]

    operations = [
        CreateTable(
            name="HandOver",
            fields=[
                ("leased_until", models.DateTimeField(primary_key=True, serialize=False)),
                ("notifications", models.PositiveIntegerField()),
                ("handed_over_at", models.DateTimeField()),
                ("begun_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={"db_table": "notification_hand_overs", "ordering": ("leased_until",)},
        ),
        AddColumn(
            model_name="sweeprun",
            name="handed_over",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        # The column keeps its name: workers of the last version go on until they are replaced.
        migrations.AlterField(
            model_name="hold",
            name="failures",
            field=models.PositiveIntegerField(db_column="failures", default=1),
        ),
        migrations.RenameField(model_name="hold", old_name="failures", new_name="times"),
    ]
