"""Counting as we go: what the dashboard and the metrics read instead of the history."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured

from .. import conf, database
from ..database import free_slot
from .history import AttemptOutcome, DeliveryAttempt, Interrupted
from .state import AGES, DURATIONS

# Stands for all channels that have no notifier: whoever raises alerts can make names up without end.
NOT_CONFIGURED = "(not configured)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # the hour under which all time is counted
WITHDRAWN = "withdrawn"  # what is counted of an alert that was taken back
TOOK = [f"took_{n}" for n in range(len(DURATIONS))]
AGE = [f"age_{n}" for n in range(len(AGES))]
COUNTS = ["attempts", "milliseconds", *TOOK, *AGE]

STATEMENT = f"""
    INSERT INTO notification_tallies (hour, channel, outcome, {", ".join(COUNTS)}, slot) VALUES %s
    ON CONFLICT (hour, channel, outcome, slot) DO UPDATE
        SET {", ".join(f"{c} = notification_tallies.{c} + excluded.{c}" for c in COUNTS)}
"""  # noqa: S608  (constants only)
ROW = f"({', '.join(['%s'] * (3 + len(COUNTS)))}, %%s)"


class Counted(NamedTuple):
    """What is counted of one attempt; age: of its notification, in seconds."""

    channel: str
    outcome: str
    milliseconds: int
    age: float = 0.0


def add(attempts: Sequence[Counted], *, now: datetime) -> None:
    """Count attempts into this hour and all time.

    No worker waits for another here, also not for one that stopped within its transaction.
    """
    if not attempts:
        return
    counted = _count(attempts)
    connection = database.connection()
    hours = (EPOCH, now.replace(minute=0, second=0, microsecond=0))
    rows = [
        (connection.ops.adapt_datetimefield_value(hour), channel, outcome, *counts)
        for hour in hours
        for (channel, outcome), counts in sorted(counted.items())
    ]
    values = ", ".join([ROW.replace("%%s", free_slot())] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT.replace("%s", values, 1), [v for row in rows for v in row])


def interrupted(events: Iterable[Interrupted], *, now: datetime) -> None:
    """The attempts that ended with their workers: into the history, and counted like all others."""
    spelled = _spelling()
    lost = [DeliveryAttempt.interrupted(event, channel=spelled(event.channel)) for event in events]
    DeliveryAttempt.objects.bulk_create(lost)
    add([Counted(spelled(a.channel, NOT_CONFIGURED), a.outcome, a.duration_ms) for a in lost], now=now)


def withdrawn(channels: Iterable[str], *, now: datetime) -> None:
    """The alerts that were withdrawn, by their channels: no attempts, but counted where these are."""
    spelled = _spelling()
    add([Counted(spelled(channel, NOT_CONFIGURED), WITHDRAWN, 0) for channel in channels], now=now)


def _spelling() -> Callable[..., str]:
    """How the settings spell a channel, and what stands for one that they have not: itself, unless given."""
    try:
        settings = conf.current()
    except ImproperlyConfigured:
        return lambda channel, other="": channel
    return lambda channel, other="": settings.channel(channel) or other or channel


def _count(attempts: Sequence[Counted]) -> dict[tuple[str, str], list[int]]:
    counted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for channel, outcome, milliseconds, age in attempts:
        named = channel if outcome != AttemptOutcome.NO_NOTIFIER else NOT_CONFIGURED
        counts = counted[named, outcome]
        counts[0] += 1
        counts[1] += milliseconds
        took = bisect_left(DURATIONS, milliseconds / 1000)
        if took < len(TOOK):
            counts[2 + took] += 1
        old = bisect_left(AGES, age)
        if outcome == AttemptOutcome.SENT and old < len(AGE):
            counts[2 + len(TOOK) + old] += 1
    return counted
