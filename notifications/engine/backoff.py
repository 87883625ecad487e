"""When a failed notification is tried again. Pure functions: time and chance are arguments."""

from __future__ import annotations

from datetime import timedelta

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def delay(
    retry_count: int,
    *,
    base: timedelta = MINUTE,
    cap: timedelta = HOUR,
    retry_after: float | None = None,
    jitter: float = 0.0,
) -> timedelta:
    """The wait after a failure: base * 2^retry_count, never above the cap.

    retry_count  failed attempts before the one that just failed (0 after the first attempt)
    retry_after  the provider's own wish in seconds (RFC 9110, 10.2.3); it wins when it is longer
    jitter       0 to 1: how much of a tenth of the provider's wish to add, so that rows that were
                 refused together do not come back together
    """
    # In seconds: timedelta would overflow. Other programs' rows can hold any retry_count.
    longest = cap.total_seconds()
    seconds = base.total_seconds() * 2.0 ** min(max(retry_count, 0), 64)
    if retry_after is not None:
        seconds = max(seconds, retry_after * (1 + jitter / 10))
    return cap if seconds >= longest else timedelta(seconds=seconds)


def exhausted(retry_count: int, max_attempts: int) -> bool:
    """Whether a failure of the attempt that follows `retry_count` earlier ones spends the budget."""
    return retry_count >= max_attempts - 1
