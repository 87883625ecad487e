"""Sweeps whose time passes when a test says so, and rows that die in them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from notifications import delivery
from notifications.database import database_now
from notifications.exceptions import Reason, TransientError
from notifications.models import NotificationEvent, SweepKind
from tests import factories

DOWN = TransientError("HTTP 503", reason=Reason.SERVER, status=503)


class Time:
    """Passes when told to; sweeps as cron would, each in a process of its own as far as memory goes."""

    def __init__(self) -> None:
        self.begin = self.now = database_now()

    def sweep(self, **options: Any) -> list[delivery.SweepResult]:
        options = {"clock": lambda: self.now, "concurrency": 1, **options}
        return [delivery.sweep(kind, **options) for kind in (SweepKind.PENDING, SweepKind.RETRY)]

    def sweep_until(self, end: timedelta, every: timedelta = timedelta(minutes=1)) -> None:
        while self.now < self.begin + end:
            self.now += every
            self.sweep()


def kill(time: Time, number: int = 3, minutes: float = 0.0, **fields: Any) -> list[NotificationEvent]:
    """Rows on their last attempt, which the next sweep makes."""
    at = time.now + timedelta(minutes=minutes)
    return [factories.failed(due_at=at, retry_count=4, **fields) for _ in range(number)]
