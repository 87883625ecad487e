"""What only PostgreSQL can show: several writers at a time, and times that are in no calendar."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from notifications.api.listing import read_on
from notifications.models import BulkOperation, NotificationEvent, NotificationQuerySet, Outage
from notifications.operations import bulk, prune, redrive
from notifications.operations.filters import changed_by
from notifications.operations.verbs import REQUEUE
from notifications.operations.walk import Walk
from tests import factories
from tests.factories import ago

OLD_SENT = {"created_at": ago(days=91), "sent_at": ago(days=91)}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_is_changing_is_left_alone() -> None:
    busy, idle = factories.sent(**OLD_SENT), factories.sent(**OLD_SENT)
    pruned: list[prune.Pruned] = []

    def delete() -> None:
        pruned.extend(prune.prune(timezone.now() - timedelta(days=90), ["sent"]))
        connections.close_all()

    with transaction.atomic():
        NotificationEvent.objects.filter(pk=busy.pk).update(status="pending")
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert [step.notifications for step in pruned] == [1]
    left = set(NotificationEvent.objects.values_list("pk", flat=True))
    assert left == {busy.pk}
    assert idle.pk not in left


TIMES = (
    "-infinity",
    "0044-03-15 12:00:00+00 BC",
    "0001-01-01 00:00:00+00",
    "20000-01-01 00:00:00+00",
    "infinity",
)


@pytest.fixture
def beyond(db: None) -> list[str]:
    """Of each time that is in no calendar three dead and a sent one, of today a dead; the oldest first.

    When that one was sent is not known either.
    """
    odd: list[NotificationEvent]
    for n, at in enumerate(TIMES):
        odd = [factories.dead(id=f"n{n}{m}") for m in range(3)]
        odd += [factories.sent(id=f"sent{n}", sent_at=None)]
        with connection.cursor() as cursor:
            moved = "UPDATE notification_events SET created_at = %s WHERE id = ANY(%s)"
            cursor.execute(moved, [at, [event.pk for event in odd]])
    today = factories.dead(id="n29")
    return sorted([today.pk, *(f"n{n}{m}" for n in range(5) for m in range(3))])


@pytest.mark.parametrize("newest_first", [True, False])
def test_times_beyond_the_calendar_are_met_like_any_other(beyond: list[str], newest_first: bool) -> None:
    going = Walk({"dead": NotificationEvent.objects.dead()}, lambda rows: rows, newest_first=newest_first)
    met, cursor = going.batch(None, 2)
    while cursor:
        found, cursor = going.batch(cursor, 2)
        met += found
    assert [pk for _, pk in met] == (beyond[::-1] if newest_first else beyond)


def test_a_list_is_read_on_through_them(beyond: list[str]) -> None:
    rows: NotificationQuerySet = NotificationEvent.objects.dead()
    met, cursor = read_on(rows, "", 2)
    while cursor:
        found, cursor = read_on(rows, cursor, 2)
        met += found
    assert [event.pk for event in met] == beyond[::-1]


def test_all_of_them_are_requeued_and_pruned_where_it_is_known_when_they_were_sent(
    beyond: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STEP", 2)
    operation = bulk.finish(bulk.start(REQUEUE, filters="status=dead", requested=16, by="ada", via="cli"))
    assert operation.changed == len(beyond)
    assert set(NotificationEvent.objects.pending().values_list("pk", flat=True)) == set(beyond)
    known = NotificationEvent.objects.filter(pk__in=["sent0", "sent3"])
    known.update(sent_at=OLD_SENT["sent_at"])
    steps = list(prune.prune(timezone.now() - timedelta(days=90), ["sent"]))
    assert [step.notifications for step in steps] == [2]
    assert not known.exists()


@contextmanager
def no_change_of(message: str) -> Iterator[None]:
    """A constraint that came later than the row."""
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE notification_events ADD CONSTRAINT sane CHECK (message <> %s) NOT VALID", [message]
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notification_events DROP CONSTRAINT sane")


@pytest.mark.django_db(transaction=True)
def test_a_row_that_may_not_be_changed_keeps_no_operation_from_going_on() -> None:
    odd, *others = (factories.dead(message=f"n{n}") for n in range(5))
    with no_change_of("n0"):
        operation = bulk.finish(bulk.start(REQUEUE, filters="status=dead", requested=5, by="ada", via="cli"))
    assert (operation.changed, operation.skips) == (4, {bulk.MEANWHILE: 1})
    assert NotificationEvent.objects.get(pk=odd.pk).status == "dead"
    assert {event.pk for event in others} == set(
        NotificationEvent.objects.pending().values_list("pk", flat=True)
    )


def died_of_an_outage(**fields: Any) -> NotificationEvent:
    Outage.objects.create(
        endpoint="webhook",
        channel="Webhook",
        since=ago(hours=2),
        died=1,
        error="e",
        reason="server",
        **fields,
    )
    event = factories.dead(created_at=ago(hours=3))
    factories.attempt(event, started_at=ago(hours=1))
    return event


@pytest.mark.django_db(transaction=True)
def test_a_probe_that_may_not_be_requeued_is_none_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    odd = died_of_an_outage()
    with no_change_of(odd.message):
        assert redrive.requeue_probes(now=timezone.now()) == 0
    assert f"notification {odd.pk} is not requeued: " in caplog.text
    assert redrive.requeue_probes(now=timezone.now()) == 1


@pytest.mark.django_db(transaction=True)
def test_an_outage_that_another_worker_redrives_is_not_waited_for() -> None:
    died_of_an_outage(ended_at=ago(minutes=1))
    with psycopg.connect(connection.connection.info.dsn) as other, transaction.atomic():
        other.execute("SELECT 1 FROM notification_outages FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
        assert redrive.redrive(now=timezone.now()) == 0
    assert redrive.redrive(now=timezone.now()) == 1


MANY_READ = """
    INSERT INTO notification_events (id, type, channel, recipient, message, status, created_at)
    SELECT n, 't', 'c', 'r', 'm', 'read', now() - n * interval '1 s' FROM generate_series(1, 200000) AS n;
    INSERT INTO notification_readings (notification_id, by, via, at, status, reason, operation_id)
    SELECT n, 'a', 'cli', now(), CASE n % 1000 WHEN 0 THEN 'dead' ELSE 'sent' END, '',
           CASE n % 1000 WHEN 0 THEN %s END
      FROM generate_series(1, 200000) AS n;
    ANALYZE notification_events;
    ANALYZE notification_readings;
"""


@pytest.mark.django_db
def test_what_was_dismissed_and_what_an_operation_changed_is_found_by_an_index() -> None:
    """However many were seen: neither their rows nor their records are read."""
    operation = BulkOperation.objects.create(kind="dismiss", by="a", via="cli", requested=1, started_at=ago())
    with connection.cursor() as cursor:
        cursor.execute(MANY_READ.replace("%s", str(operation.pk)))
    newest: Any = NotificationEvent.objects.order_by("-created_at", "-id")
    dismissed, changed = newest.dismissed(), newest.filter(changed_by(operation))
    for found, index in (
        (dismissed, "idx_notification_readings_dismissed"),
        (changed, "idx_notification_readings_operation"),
    ):
        plan = found[:50].explain()
        assert index in plan
        assert "Seq Scan on notification_" not in plan
        assert found.count() == 200
