"""Tallies, sweeps and holds as workers leave them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils import timezone

from notifications.models import Hold, SweepRun, Tally
from notifications.models.tallies import COUNTS, EPOCH
from notifications.reporting.contract import SWEEP_COUNTS
from tests.factories import ago, ahead

WEBHOOK = {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}


def tally(channel: str, outcome: str, hour: datetime = EPOCH, **counts: Any) -> Tally:
    """A row of notification_tallies; what is not given is 0."""
    values = dict.fromkeys(COUNTS, 0) | {"attempts": 1} | counts
    made: Tally = Tally.objects.create(hour=hour, channel=channel, outcome=outcome, **values)
    return made


def swept(kind: str, ended_at: datetime, **values: Any) -> SweepRun:
    defaults = {"started_at": ended_at, "worker": "w", **dict.fromkeys(SWEEP_COUNTS, 0)}
    run: SweepRun = SweepRun.objects.create(kind=kind, ended_at=ended_at, **{**defaults, **values})
    return run


def held(endpoint: str, **values: Any) -> Hold:
    defaults = {"channel": "Webhook", "reason": "auth", "error": "HTTP 401", "since": ago(hours=1)}
    hold: Hold = Hold.objects.create(
        **{"endpoint": endpoint, "until": ahead(minutes=5), **defaults, **values}
    )
    return hold


def this_hour() -> datetime:
    return timezone.now().replace(minute=0, second=0, microsecond=0)
