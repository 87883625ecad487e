"""Durations and times: how they are written, for settings and people, and how long an alert may wait."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from math import ceil

from django.utils import timezone

UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
PART = r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)"

URGENT = timedelta(days=1)  # what has less left passes backlogs
SHARE = 10  # of the time that is left, one wait takes at most a tenth
SHORTEST = timedelta(minutes=1)  # a budget of attempts that is spent within seconds outlives no restart


def parse(text: str) -> timedelta:
    """`90s`, `2m`, `1h`, `90d`, and what certctl's own language writes: `1m30s`, `1.5h`.

    Raises ValueError for anything else, and for no time at all.
    """
    compact = "".join(text.split())
    if not re.fullmatch(f"(?:{PART})+", compact, re.ASCII):
        raise ValueError("Not a duration: write 90s, 2m or 1h.")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in re.findall(PART, compact))
    try:
        span = timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("A duration of so many years is none.") from None
    if not span:
        raise ValueError("A duration must be longer than nothing.")
    return span


def duration(seconds: float) -> str:
    """`312 ms`, `1.2 s`, `42 s`, `1 min 59 s`, `3 min`, `5 days`: rounded down, in a unit that it has two of,
    or in one and the next."""
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + " s"
    return exact_duration(seconds // _least(seconds) * _least(seconds))


def at_most(seconds: float) -> str:
    """The same rounded up: what is promised to be over by then."""
    if seconds < 10:
        return duration(seconds)
    return duration(ceil(seconds / _least(seconds)) * _least(seconds))


def _least(seconds: float) -> int:
    """The size of the smallest unit that such a time is said in."""
    return next((size for _, size in UNITS if seconds >= 2 * size), 1)


def exact_duration(seconds: float) -> str:
    """A setting as it is: `30 s`, `4 h`, `2 h 30 min`."""
    said, left = [], seconds
    for unit, size in UNITS[:-1]:
        number, left = divmod(left, size)
        if number:
            said.append(_counted(int(number), unit))
    return " ".join([*said, f"{left:.12g} s"] if left or not said else said)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}s" if unit == "day" and number != 1 else f"{number} {unit}"


def timestamp(at: datetime) -> str:
    """`2026-11-24 08:00:00 UTC`: in the site's time zone, or whichever is active."""
    return f"{_local(at):%Y-%m-%d %H:%M:%S %Z}"


def minute(at: datetime) -> str:
    """`2026-11-24 08:00 UTC`: the same of what is known to the minute, or the hour."""
    return f"{_local(at):%Y-%m-%d %H:%M %Z}"


def clock(at: datetime) -> str:
    """`08:00 UTC`: of a day that is known."""
    return f"{_local(at):%H:%M %Z}"


def date(at: datetime) -> str:
    return f"{_local(at):%Y-%m-%d}"


def expires(not_after: datetime, now: datetime) -> str:
    """`expires in 3 h`, `expired 2 h ago`."""
    seconds = (not_after - now).total_seconds()
    return f"expires in {duration(int(seconds))}" if seconds > 0 else f"expired {duration(int(-seconds))} ago"


def _local(at: datetime) -> datetime:
    with suppress(OverflowError):  # certctl's zero time, the year 1, has no local time west of Greenwich
        return timezone.localtime(at)
    return at


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
