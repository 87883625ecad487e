"""A certificate's lifetime as a bar: what is gone, what is left, where the thresholds are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..durations import duration
from .thresholds import Threshold

WIDTH = 600  # of a bar, in its own units
Moment = tuple[Threshold, datetime]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Numbers as SVG writes them. tone: sent, failed or dead, as the console's colours are called."""

    now: str
    left: str
    marks: list[str]
    tone: str
    label: str


def lifetime(not_before: datetime, not_after: datetime, moments: Sequence[Moment], now: datetime) -> Lifetime:
    """moments: when which threshold is passed, in order."""
    span = max(not_after - not_before, timedelta(seconds=1))

    def place(at: datetime) -> float:
        return WIDTH * min(max((at - not_before) / span, 0.0), 1.0)

    here = place(now)
    marks = [f"{place(at):.1f}" for one, at in moments if one.share or one.left]
    return Lifetime(
        f"{here:.1f}",
        f"{WIDTH - here:.1f}",
        marks,
        tone(not_after, moments, now),
        label(not_before, not_after, now),
    )


def tone(not_after: datetime, moments: Sequence[Moment], now: datetime) -> str:
    """Before the first threshold all is well; after the last one that leaves time, or the end, it is not."""
    passed = [at <= now for one, at in moments if one.share or one.left]
    if now >= not_after or (len(passed) > 1 and all(passed)):
        return "dead"
    return "failed" if any(passed) else "sent"


def label(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """For who does not see it."""
    whole = duration(int(max((not_after - not_before).total_seconds(), 0)))
    seconds = int((not_after - now).total_seconds())
    if seconds <= 0:
        return f"A lifetime of {whole}, over for {duration(-seconds)}"
    return f"{duration(seconds)} left of a lifetime of {whole}"
