"""Alerts as producers give them to notify and notify_many."""

from __future__ import annotations

from typing import Any

from notifications.models import Alert


def alert(**changed: Any) -> Alert:
    given = {
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "#pki",
        "message": "soon",
        **changed,
    }
    return given  # type: ignore[return-value]


def alerts(count: int, **changed: Any) -> list[Alert]:
    return [alert(message=f"host-{n} expires", **changed) for n in range(count)]
