"""What only PostgreSQL says: with what it finds the rows of a list."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import NotificationEvent
from tests.admin.support import LIST, As
from tests.factories import dead

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("query", ["q=ops", "recipient=ops", "q=ops&status=dead"])
def test_a_recipient_is_found_by_its_index(signed_in: As, query: str) -> None:
    client = signed_in("superuser")
    NotificationEvent.objects.bulk_create(
        NotificationEvent(type="t", channel="c", recipient=f"r{n}", message="m", status="dead")
        for n in range(5000)
    )
    event = dead(recipient="ops")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notification_events")
    with CaptureQueriesContext(connection) as queries:
        assert [row.pk for row in client.get(f"{LIST}?{query}").context["cl"].result_list] == [event.pk]
    asked = [q["sql"] for q in queries if "\"recipient\" = 'ops'" in q["sql"] and "SELECT" in q["sql"]]
    assert len(asked) > 3
    plans = []
    for sql in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert [plan for plan in plans if "Seq Scan on notification_events" in plan] == []
    assert [plan for plan in plans if "idx_notification_events_recipient" in plan]
