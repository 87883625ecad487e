"""What programs are told, by the names that they rely on: REST, `--json` and MCP show the same fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

EVENT = (
    "id", "type", "certificate_id", "channel", "recipient", "message", "sent_at", "status", "error",
    "retry_count", "next_retry_at", "last_error", "created_at", "not_after",
    "dismissed", "withdrawn",
)  # fmt: skip
ATTEMPT = (
    "number", "channel", "started_at", "duration_ms", "outcome", "reason", "status_code", "error", "worker",
)  # fmt: skip
REQUEUE = ("by", "via", "at", "status", "retry_count", "last_error", "reason")
READING = ("by", "via", "at", "status", "reason")
SWEEP_COUNTS = ("claimed", "sent", "rescheduled", "dead", "no_notifier", "released")
SWEEP = ("started_at", "ended_at", *SWEEP_COUNTS)
# Without its recipients: their addresses can be secrets.
HOLD = ("endpoint", "channel", "reason", "error", "since", "until", "times", "by")


def fields(row: models.Model, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
