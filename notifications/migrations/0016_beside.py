"""Beside certctl: whose row it is, how the two programs live together, and a guard that knows who may say
how a delivery ended.

The guard sees an UPDATE that neither begins nor ends a lease nor requeues as our verbs do: another program's.
WHEN keeps it from being called for our own. NULL, its answer where the UPDATE is to have no effect, makes it
one that found no row.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Coalesce

import notifications.models

from ._adopt import AdoptColumn, AdoptIndex, CreateTable, on_postgresql

EVENT = "notificationevent"
INDEX = "idx_notification_events_unscheduled"

# With the rights of its owner, for certctl's role need not know our tables; so it names where they are.
GUARD = """
DO $do$
DECLARE
    home text := (SELECT quote_ident(nspname)
                    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                   WHERE pg_class.oid = 'notification_events'::regclass);
BEGIN
    EXECUTE $make$
CREATE OR REPLACE FUNCTION notification_events_guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, $make$ || home || $make$, pg_temp
AS $guard$
DECLARE
    beside text := (SELECT mode FROM notification_beside LIMIT 1);
BEGIN
    IF beside IS NULL OR beside = 'off' THEN
        RETURN NEW;
    END IF;
    -- An operator's mark as read or requeue: it holds, and what is under way decides nothing any more.
    IF (NEW.status = 'read' AND NEW.retry_count = OLD.retry_count)
       OR (NEW.status = 'pending' AND OLD.status <> 'pending') THEN
        NEW.leased_until := NULL;
        NEW.next_retry_at := NULL;
        IF NEW.status = 'pending' THEN
            NEW.requeued_at := clock_timestamp();
            PERFORM pg_notify('notification_events', '');
        END IF;
        RETURN NEW;
    END IF;
    -- What was delivered or seen stays so, and from the dead only a person calls back.
    IF beside = 'takeover' OR OLD.status NOT IN ('pending', 'failed') THEN
        RETURN NULL;
    END IF;
    IF NEW.status = 'sent' AND OLD.ours IS NULL THEN
        NEW.leased_until := NULL;
        NEW.next_retry_at := NULL;
        RETURN NEW;
    END IF;
    -- While we attempt it, we say how that ended.
    IF OLD.leased_until IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF OLD.ours IS NULL THEN
        RETURN NEW;
    END IF;
    -- certctl also marks as sent what it has no notifier for. It is not to take the row again, and we shall.
    IF NEW.status = 'sent' THEN
        NEW.status := 'failed';
        NEW.sent_at := OLD.sent_at;
        NEW.next_retry_at := NULL;
        NEW.requeued_at := clock_timestamp();
        NEW.last_error := 'another program marked it as sent; nothing was delivered from here';
        RETURN NEW;
    END IF;
    RETURN NULL;
END $guard$
    $make$;
END $do$;
CREATE OR REPLACE TRIGGER notification_events_guard BEFORE UPDATE ON notification_events
    FOR EACH ROW
    WHEN (NEW.leased_until IS NOT DISTINCT FROM OLD.leased_until
          AND NEW.requeued_at IS NOT DISTINCT FROM OLD.requeued_at
          AND (NEW.status <> OLD.status OR NEW.retry_count <> OLD.retry_count
               OR NEW.sent_at IS DISTINCT FROM OLD.sent_at)
          AND current_setting('certctl_notifications.ours', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION notification_events_guard();
"""
REVERSE = """
DROP TRIGGER IF EXISTS notification_events_guard ON notification_events;
DROP FUNCTION IF EXISTS notification_events_guard();
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notifications", "0015_not_delivered")]

    operations = [
        AdoptColumn(
            migrations.AddField(
                EVENT, "ours", models.BooleanField(blank=True, default=True, editable=False, null=True)
            ),
            "ours",
            "boolean",
        ),
        AdoptIndex(
            migrations.AddIndex(
                EVENT,
                notifications.models.Index(
                    Coalesce("requeued_at", "created_at", output_field=models.DateTimeField()),
                    name=INDEX,
                    condition=Q(next_retry_at__isnull=True, status="failed"),
                ),
            ),
            INDEX,
            "((COALESCE(requeued_at, created_at))) WHERE next_retry_at IS NULL AND status = 'failed'",
        ),
        CreateTable(
            name="Beside",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False),
                ),
                ("mode", models.CharField(max_length=20)),
                ("since", models.DateTimeField()),
            ],
            options={"db_table": "notification_beside", "ordering": ("id",)},
        ),
        on_postgresql(GUARD, REVERSE),
    ]
