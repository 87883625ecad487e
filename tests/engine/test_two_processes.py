"""Two sweeps in two real processes at the same moment: every notification is sent once, by one of them."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import connection

from notifications.models import DeliveryAttempt, NotificationEvent, Status, SweepRun
from tests.engine.support import at_once
from tests.factories import ago
from tests.receiver import HttpReceiver

COUNT = 2000

COMMANDS = {Status.PENDING: "send_notifications", Status.FAILED: "retry_notifications"}


@pytest.mark.parametrize("status", COMMANDS)
def test_two_workers_send_every_notification_once(
    status: str, receiver: HttpReceiver, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    ids = make_due(status, receiver.url())
    command = [*certctl_command, COMMANDS[Status(status)], "--limit", str(COUNT), "--json"]
    environment = process_environment | {"CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}

    results = at_once([command, command], environment)

    assert Counter(receiver.ids) == dict.fromkeys(ids, 1)
    assert NotificationEvent.objects.filter(status=Status.SENT, leased_until=None).count() == COUNT
    assert DeliveryAttempt.objects.values("notification").distinct().count() == COUNT
    assert DeliveryAttempt.objects.count() == COUNT
    assert sum(result["sent"] for result in results) == COUNT
    assert SweepRun.objects.count() == len(results)
    if connection.vendor == "postgresql":  # on SQLite one worker may well find everything done
        assert min(result["sent"] for result in results) > 0
        assert DeliveryAttempt.objects.values("worker").distinct().count() == len(results)


def make_due(status: str, url: str) -> set[str]:
    """COUNT notifications in this status, all due; their ids."""
    due_at = ago(minutes=1) if status == Status.FAILED else None
    events = NotificationEvent.objects.bulk_create(
        NotificationEvent(
            type="ExpirationWarning",
            channel="Webhook",
            recipient=url,
            message=f"certificate {n} expires",
            status=status,
            retry_count=1 if due_at else 0,
            next_retry_at=due_at,
        )
        for n in range(COUNT)
    )
    return {event.pk for event in events}
