"""When a target is looked at again. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from .thresholds import LAST, Threshold

INTERVAL = timedelta(hours=12)
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=30)
ENDING = timedelta(minutes=15)  # while less than a day is left, and until a day after the end
FAILING = timedelta(hours=1)
DAY = timedelta(days=1)
TOGETHER = timedelta(hours=1)  # what passes a threshold within the same hour is looked at together
JITTER = 0.1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Lifetime = tuple[datetime, datetime]  # not_before, not_after


def next_check(
    now: datetime,
    interval: timedelta,
    chance: float,
    lifetimes: Sequence[Lifetime],
    thresholds: Sequence[Threshold],
    *,
    failing: bool = False,
) -> datetime:
    """After the interval, a tenth more or less by chance; sooner where something ends, fails, or is about to
    pass a threshold.

    chance     from 0 to 1
    lifetimes  of the certificates that were seen there
    """
    waits = [interval]
    if failing:
        waits.append(FAILING)
    if any(now - DAY < not_after <= now + DAY for _, not_after in lifetimes):
        waits.append(ENDING)
    planned = now + min(waits) * (1 - JITTER + 2 * JITTER * chance)
    return min([planned, *_passings(now, lifetimes, thresholds)])


def _passings(
    now: datetime, lifetimes: Iterable[Lifetime], thresholds: Sequence[Threshold]
) -> Iterable[datetime]:
    """Each a little after a threshold is passed: at the hour, so that one alert tells of all."""
    for not_before, not_after in lifetimes:
        window = min(TOGETHER, max((not_after - not_before) / 100, timedelta(seconds=1)))
        for threshold in thresholds:
            moment = threshold.moment(not_before, not_after)
            if now < moment < LAST - 2 * TOGETHER:
                yield EPOCH + ((moment - EPOCH) // window + 1) * window
