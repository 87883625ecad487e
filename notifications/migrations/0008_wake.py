"""The heartbeats of workers, and on PostgreSQL a call to them when a row is created by any program."""

from django.db import migrations, models

from ._adopt import CreateTable, on_postgresql

FUNCTION = """
CREATE OR REPLACE FUNCTION notification_events_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('notification_events', '');
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER notification_events_wake AFTER INSERT ON notification_events
    FOR EACH STATEMENT EXECUTE FUNCTION notification_events_wake();
"""
REVERSE = """
DROP TRIGGER IF EXISTS notification_events_wake ON notification_events;
DROP FUNCTION IF EXISTS notification_events_wake();
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0007_statistics")]

    operations = [
        CreateTable(
            name="Worker",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("in_flight", models.PositiveIntegerField(default=0)),
            ],
            options={"db_table": "notification_workers", "ordering": ("name",)},
        ),
        on_postgresql(FUNCTION, REVERSE),
    ]
