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
    # Past 2^32 any base is over any sensible cap, and timedelta would overflow.
    backoff = base * 2**retry_count if retry_count < 32 else cap
    if retry_after is not None:
        wish = min(max(retry_after, 0.0) * (1 + jitter / 10), cap.total_seconds())
        backoff = max(backoff, timedelta(seconds=wish))
    return min(backoff, cap)


def exhausted(retry_count: int, max_attempts: int) -> bool:
    """Whether a failure of the attempt that follows `retry_count` earlier ones spends the budget."""
    return retry_count >= max_attempts - 1
