"""What waits in a worker's hands was renewed, and cannot be withdrawn: it arrives in its turn."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection

from notifications.engine.listen import connection_parameters
from notifications.models import NotificationEvent
from tests.breakage import execute
from tests.engine.delivering import AT_ONCE, Beside, deliver_patiently
from tests.processes import eventually
from tests.receiver import HttpReceiver
from tests.renewals import alerts_in_line, renew

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects
COUNT = 12  # alerts in hand


def are_withdrawn(count: int) -> Any:
    return eventually(lambda: EVENTS.filter(status="read").count() == count, f"{count} withdrawals")


def test_where_none_can_be_withdrawn_all_arrive_once(
    slow: HttpReceiver, beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    """A table of the app's is gone, say."""
    old, _ = alerts_in_line(COUNT)

    def meanwhile() -> None:
        execute("ALTER TABLE notification_withdrawals RENAME TO elsewhere")
        renew(old)
        eventually(lambda: "cannot be withdrawn now, and is sent" in caplog.text, "a word of it")
        execute("ALTER TABLE elsewhere RENAME TO notification_withdrawals")

    happens = beside(meanwhile)
    result = deliver_patiently()
    happens.result()
    assert (result.sent + result.withdrawn, result.released) == (COUNT, 0)
    assert len(slow.requests) == result.sent


def test_one_that_another_program_holds_keeps_no_other_from_being_withdrawn(
    slow: HttpReceiver, beside: Beside
) -> None:
    old, alerts = alerts_in_line(COUNT)

    def meanwhile() -> None:
        with psycopg.connect(**connection_parameters()) as other:
            other.execute("SELECT 1 FROM notification_events WHERE id = %s FOR UPDATE", [alerts[-1].pk])
            renew(old)
            are_withdrawn(COUNT - AT_ONCE - 1)
        are_withdrawn(COUNT - AT_ONCE)

    happens = beside(meanwhile)
    result = deliver_patiently()
    happens.result()
    assert (result.sent, result.withdrawn, result.released) == (AT_ONCE, COUNT - AT_ONCE, 0)


def test_what_nobody_can_read_keeps_nothing_from_being_sent(slow: HttpReceiver, beside: Beside) -> None:
    """Another program's, nested thousands of levels deep."""
    old, alerts = alerts_in_line(COUNT)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE notification_deadlines SET fingerprints = %s::jsonb WHERE notification_id = ANY(%s)",
            ["[" * 5000 + "]" * 5000, [alert.pk for alert in alerts[-3:]]],
        )

    def meanwhile() -> None:
        renew(old)
        are_withdrawn(COUNT - AT_ONCE - 3)

    happens = beside(meanwhile)
    assert deliver_patiently().sent == AT_ONCE + 3
    happens.result()
