"""How many died in the last hour, as the verdict has it, and the filter."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.models import DeliveryAttempt, NotificationEvent
from notifications.operations.filters import Filters, matching
from notifications.reporting import parts, snapshot, verdict
from tests.factories import ago, attempt, dead, failed, sent
from tests.scripted import Script

pytestmark = pytest.mark.django_db


def test_the_last_failure_tells_when_one_died(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    young, old = dead(), dead(created_at=ago(days=2))
    for _ in range(2):
        attempt(old, "permanent", started_at=ago(minutes=50))
    attempt(dead(created_at=ago(days=2)), "permanent", started_at=ago(minutes=70))
    attempt(dead(created_at=ago(days=2)), "sent", started_at=ago(minutes=5))
    attempt(failed(created_at=ago(days=2)), "transient", started_at=ago(minutes=5))
    again = dead(created_at=ago(days=2))
    attempt(again, "permanent", started_at=ago(minutes=5))
    again.requeue(by="ada")
    sent()
    shown = snapshot.snapshot()
    assert (shown.died_last_hour, shown.died_more) == (2, False)
    meant = matching(Filters(status="dead", dead_since=ago(hours=1)))
    assert {young.pk, old.pk} <= set(meant.values_list("pk", flat=True))
    assert "2 died in the last hour. 4 dead letters wait" in verdict.sentence(timezone.now())
    assert snapshot.summary(shown)["notifications_died_last_hour"] == 2
    monkeypatch.setattr(parts, "MOST_DIED", 1)
    assert "At least 1 died in the last hour." in verdict.sentence(timezone.now())


def test_an_index_finds_what_failed_lately() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL says how it would find them")
    event: NotificationEvent = sent()
    DeliveryAttempt.objects.bulk_create(
        DeliveryAttempt(
            notification=event,
            number=1,
            channel="Slack",
            started_at=ago(minutes=n),
            duration_ms=1,
            outcome="sent" if n % 50 else "transient",
            worker="w",
        )
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notification_attempts")
    with CaptureQueriesContext(connection) as queries:
        parts.died_last_hour(parts.AsOf(timezone.now()))
    asked = [query["sql"] for query in queries if "notification_attempts" in query["sql"]]
    assert len(asked) == 2
    for sql in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
            assert "idx_notification_attempts_failed" in "\n".join(line for (line,) in cursor.fetchall())
