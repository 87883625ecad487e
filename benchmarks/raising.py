"""Raising many alerts at once, and one after the other."""

from __future__ import annotations

import time

from django.db import transaction

from notifications.models import Alert, NotificationEvent

from . import world


def alerts(count: int) -> list[Alert]:
    """As a nightly job has them: a key each, and as many recipients as there are teams."""
    return [
        {
            "type": "ExpirationWarning",
            "channel": "Webhook",
            "recipient": f"https://hooks.example.com/team-{n % 100}",
            "message": world.MESSAGE,
            "certificate_id": f"mc-{n}",
            "dedup_key": f"expiry:mc-{n}:7",
        }
        for n in range(count)
    ]


def together(count: int) -> float:
    """Seconds for all of them by one call."""
    given = _ready(count)
    start = time.monotonic()
    raised = NotificationEvent.objects.notify_many(given)
    seconds = time.monotonic() - start
    assert all(created for _, created in raised)
    return seconds


def again(count: int) -> float:
    """Seconds where all of them were raised before."""
    given = _ready(count)
    NotificationEvent.objects.notify_many(given)
    start = time.monotonic()
    raised = NotificationEvent.objects.notify_many(given)
    seconds = time.monotonic() - start
    assert not any(created for _, created in raised)
    return seconds


def one_by_one(count: int) -> float:
    """Seconds for a call each, in one transaction."""
    given = _ready(count)
    start = time.monotonic()
    with transaction.atomic():
        for alert in given:
            NotificationEvent.objects.notify(**alert)
    return time.monotonic() - start


def _ready(count: int) -> list[Alert]:
    world.empty()
    world.settle()
    return alerts(count)
