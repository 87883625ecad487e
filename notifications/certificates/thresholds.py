"""When an alert about a certificate's end is due. Pure: the time is an argument.

A threshold is a share of the lifetime that is left, or a time that is left. Each is raised once for a
certificate, a channel and a recipient; of several that were passed the most urgent alone is raised, and it
covers the others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ..durations import SECONDS
from ..durations import parse as parse_duration

DEFAULT = ("33%", "15%", "5%", "0")
MOST = 20
SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)
NOTHING = timedelta(0)
FIRST, LAST = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
LONGEST = timedelta(days=36525)


@dataclass(frozen=True, slots=True)
class Threshold:
    """share of the lifetime, or time, that is left; `text` is the one way to write it."""

    text: str
    share: float = 0.0
    left: timedelta = NOTHING

    def moment(self, not_before: datetime, not_after: datetime) -> datetime:
        """When a certificate of these dates passes it."""
        lifetime = max(not_after - not_before, NOTHING)
        try:
            return not_after - (lifetime * self.share + self.left)
        except OverflowError:
            return FIRST


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be raised now, and what need not be raised any more after that: itself among them."""

    threshold: Threshold
    covers: tuple[str, ...]


@lru_cache(maxsize=1024)
def parse(text: str) -> Threshold:
    """`33%`, `30d`, `12h`, `0`. Raises ValueError, which says what is accepted."""
    compact = "".join(text.split())
    if compact in ("0", "0%", "0d"):
        return Threshold("0")
    if share := SHARE.fullmatch(compact):
        percent = float(share[1])
        if 0 < percent <= 100:
            return Threshold(f"{percent:g}%", share=percent / 100)
    else:
        left = _duration(compact)
        if left and left <= LONGEST:
            return Threshold(_written(left), left=left)
    raise ValueError("a threshold is a share of the lifetime (33%), a time that is left (30d, 12h), or 0")


def _duration(text: str) -> timedelta | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None


def _written(left: timedelta) -> str:
    seconds = left.total_seconds()
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if seconds % SECONDS[unit] == 0 or unit == "ms")
    return f"{seconds / SECONDS[unit]:g}{unit}"


def parse_all(texts: Iterable[str]) -> list[Threshold]:
    """Each once; the default ones where none is written. Raises ValueError."""
    found = {threshold.text: threshold for threshold in map(parse, texts)}
    if len(found) > MOST:
        raise ValueError(f"there are at most {MOST} thresholds")
    return list(found.values()) or [parse(text) for text in DEFAULT]


def due(
    thresholds: Sequence[Threshold],
    raised: Collection[str],
    not_before: datetime,
    not_after: datetime,
    now: datetime,
) -> Due | None:
    """What one recipient is to be told of this certificate now.

    raised  the thresholds that were raised or covered before, also such as are not asked for any more: what
            is less urgent than one of these is never raised
    """

    def moment(threshold: Threshold) -> datetime:
        return threshold.moment(not_before, not_after)

    passed = sorted((one for one in thresholds if moment(one) <= now), key=moment)
    if not passed:
        return None
    told = max((moment(parse(text)) for text in raised), default=None)
    if told is not None and told >= moment(passed[-1]):
        return None
    return Due(passed[-1], tuple(one.text for one in passed if one.text not in raised))
