"""The heartbeats of workers, and on PostgreSQL a call to them when a row is created by any program."""

from collections.abc import Callable
from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from ._adopt import CreateTable

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


def on_postgresql(sql: str) -> Callable[[Any, BaseDatabaseSchemaEditor], None]:
    def run(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(sql)

    return run


class Migration(migrations.Migration):
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
        migrations.RunPython(on_postgresql(FUNCTION), on_postgresql(REVERSE)),
    ]
