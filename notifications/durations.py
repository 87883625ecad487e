"""How durations are written, in settings and on the command line."""

from __future__ import annotations

import re
from datetime import timedelta

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
PART = r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)"


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
