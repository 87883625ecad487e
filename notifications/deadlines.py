"""How much time an alert has: what ends sooner goes sooner. Pure: the time is an argument."""

from __future__ import annotations

from datetime import datetime, timedelta

from .durations import duration

URGENT = timedelta(days=1)  # what has less left passes backlogs
SHARE = 10  # of the time that is left, one wait takes at most a tenth
SHORTEST = timedelta(minutes=1)  # a budget of attempts that is spent within seconds outlives no restart


def bounded(wait: timedelta, not_after: datetime | None, now: datetime) -> timedelta:
    """How long an alert may wait at once: the one rule of every wait, from backoff to Retry-After.

    wait       what it would wait
    not_after  when its certificate ends; None where that is not known, and the wait stays as it is
    Nothing is bounded to less than SHORTEST, also when the end has passed.
    """
    if not_after is None or wait <= SHORTEST:
        return wait
    return min(wait, max(SHORTEST, (not_after - now) / SHARE))


def within(not_after: datetime | None, now: datetime) -> float | None:
    """The longest wait, in seconds; None: any."""
    return None if not_after is None else bounded(timedelta.max, not_after, now).total_seconds()


def is_urgent(not_after: datetime | None, now: datetime) -> bool:
    """Less than a day is left, or nothing."""
    return not_after is not None and not_after - now < URGENT


def expires(not_after: datetime, now: datetime) -> str:
    """`expires in 3 h`, `expired 2 h ago`."""
    seconds = (not_after - now).total_seconds()
    return f"expires in {duration(int(seconds))}" if seconds > 0 else f"expired {duration(int(-seconds))} ago"
