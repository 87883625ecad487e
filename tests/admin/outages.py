"""A held endpoint, and an outage with its victims."""

from __future__ import annotations

from notifications.models import Hold, Outage
from tests.factories import ago, attempt, dead
from tests.reporting.rows import held


def hold(endpoint: str = "webhook https://hooks.example.com:443", **fields: object) -> Hold:
    which = {"recipient_prefix": "https://hooks.example.com/", "reason": "server"}
    return held(endpoint, **{**which, "error": "HTTP 503 <b>down</b>", **fields})


def outage(victims: int = 3, **fields: object) -> Outage:
    """One that is over, and its victims."""
    defaults = {
        "endpoint": "webhook",
        "channel": "Webhook",
        "reason": "server",
        "error": "HTTP 503",
        "since": ago(hours=2),
        "ended_at": ago(minutes=30),
        "died": victims,
    }
    for _ in range(victims):
        attempt(dead(created_at=ago(hours=3)), started_at=ago(hours=1))
    made: Outage = Outage.objects.create(**{**defaults, **fields})
    return made
