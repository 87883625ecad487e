"""Two sweeps in two real processes at the same moment: every notification is sent once, by one of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from notifications.models import DeliveryAttempt, NotificationEvent, Status, SweepRun
from tests.factories import ago
from tests.receiver import HttpReceiver

COUNT = 2000
PATIENCE = 60.0

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


def at_once(commands: list[list[str]], environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run them all together; what each answered as JSON. All must succeed."""
    with starting_line(len(commands)) as started:
        for command in commands:
            started.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
    results = []
    for process in started:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        results.append(json.loads(output.splitlines()[-1]))
    return results


@contextmanager
def starting_line(runners: int) -> Iterator[list[subprocess.Popen[str]]]:
    """On PostgreSQL the processes started inside wait at the table until all of them are there."""
    started: list[subprocess.Popen[str]] = []
    if connection.vendor != "postgresql":
        yield started
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE notification_events IN EXCLUSIVE MODE")
        yield started
        deadline = time.monotonic() + PATIENCE
        while waiting_for_the_table(cursor) < runners:
            assert time.monotonic() < deadline, "the processes did not come to the table"
            assert [process.poll() for process in started] == [None] * runners, "a process ended too early"
            time.sleep(0.01)


def waiting_for_the_table(cursor: Any) -> int:
    cursor.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = 'notification_events'::regclass AND NOT granted"
    )
    count: int = cursor.fetchone()[0]
    return count
