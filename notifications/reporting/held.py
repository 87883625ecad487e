"""Holds and pauses in words: which endpoint, in which state, until when, why, and what waits behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from ..endpoints import holds
from ..endpoints.breaker import State
from ..models import Hold
from . import words

WAITING_COUNTED = 1_000
ALL_OPEN = "Every endpoint is open."


@dataclass(frozen=True, slots=True)
class HoldWords:
    """A hold as a person reads it.

    scope  which rows; it names recipients, which can be secrets: not for everybody who reads statistics
    state  held, held past the limit, paused, recovering
    until  what happens when: `probe at 2026-11-24 08:00:00 UTC`
    cause  `by ada`, or the errors' reason
    why    the cause and what was said of it
    """

    scope: str
    state: str
    until: str
    cause: str
    why: str


def in_force(now: datetime) -> QuerySet[Hold]:
    """All that still say something: pauses and recoveries just end, while a hold waits for its probe."""
    simply_end = Q(reason=holds.PAUSED) | Q(reopened_at__isnull=False)
    found: QuerySet[Hold] = Hold.objects.exclude(simply_end, until__lte=now).order_by("endpoint", "pk")
    return found


def in_words(hold: Hold, now: datetime, limit: timedelta) -> HoldWords:
    """limit: HOLD_LIMIT, after which a held endpoint's rows spend their attempts again."""
    state, until = _standing(hold, now, limit)
    cause = f"by {hold.by}" if hold.by else hold.reason
    why = ": ".join(part for part in (cause, hold.error) if part)
    return HoldWords(holds.scope(hold), state, until, cause, why)


def _standing(hold: Hold, now: datetime, limit: timedelta) -> tuple[str, str]:
    end = words.timestamp(hold.until)
    if hold.reason == holds.PAUSED:
        return "paused", f"ends at {end}"
    match holds.state_of(hold, now, limit):
        case State.RECOVERING:
            return "recovering", f"full speed at {end}"
        case State.PAST_LIMIT:
            return "held past the limit", "attempts are spent again"
        case _:
            return "held", f"probe at {end}" if hold.until > now else "its probe is due"


def waiting(hold: Hold) -> int | str:
    """How many notifications wait behind it; `1,000+` where more wait than are counted."""
    number = holds.waiting(hold, WAITING_COUNTED)
    return number if number <= WAITING_COUNTED else words.count(number, most=WAITING_COUNTED)


def paused(hold: Hold) -> str:
    return f"{holds.scope(hold)} paused until {words.timestamp(hold.until)}"


def lifted(hold: Hold) -> str:
    """What lifting it brings about; `hold` as it was before."""
    scope = holds.scope(hold)
    if hold.reason == holds.PAUSED:
        return f"{scope} is not paused any more"
    if hold.reopened_at:
        return f"{scope} goes out at full speed"
    return f"{scope} gets one probe with the next sweep, and the rest when it arrives"
