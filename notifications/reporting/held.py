"""Holds and pauses in words: which endpoint, in which state, until when, why, and what waits behind it.

Every surface asks here, of an endpoint (`in_words`) as of a notification that waits for one (`noted`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from ..endpoints import holds
from ..endpoints.breaker import State
from ..endpoints.outages import endpoint_of
from ..exceptions import Reason
from ..models import Hold, NotificationEvent
from ..models.fields import UNDELIVERED
from ..operations import pausing
from ..operations.pausing import Covered
from ..queue import beside
from ..text import isolated
from . import words
from .channels import settings
from .words import Waits

WAITING_COUNTED = 1_000
RECOVERING = "recovering"  # the state in which rows go out again
NEXT_TRIES = "the next delivery tries it"
# Of an endpoint, by the reason of its errors.
CAUSES: dict[str, str] = {
    Reason.AUTH: "it refuses us",
    Reason.BUSY: "it takes no more at once",
    Reason.GONE: "it is gone",
    Reason.NETWORK: "it cannot be reached",
    Reason.RATE_LIMITED: "it asks us to wait",
    Reason.SERVER: "its server fails",
    Reason.TIMEOUT: "it does not answer",
    Reason.UNKNOWN: "it does not answer",
}
ALL_OPEN = "Every endpoint delivers: none is held or paused."


@dataclass(frozen=True, slots=True)
class HoldWords:
    """A hold as a person reads it.

    scope  which rows; it names recipients, which can be secrets: not for everybody who reads statistics
    name   the same without recipients
    state  held, held past the limit, paused, recovering
    until  what happens when: `tried again at 2026-11-24 08:00:00 UTC`
    cause  `by ada`, or what the errors say of it
    why    the cause and what was said of it
    """

    scope: str
    name: str
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
    cause = cause_of(hold)
    why = ": ".join(part for part in (cause, hold.error) if part)
    return HoldWords(holds.scope(hold), _name(hold), state, until, cause, why)


def cause_of(hold: Hold) -> str:
    return f"by {hold.by}" if hold.by else CAUSES.get(hold.reason, hold.reason)


def _name(hold: Hold) -> str:
    """A pause's own key says nothing to anybody."""
    if hold.reason != holds.PAUSED:
        return hold.endpoint
    if not hold.recipient_prefix:
        return hold.channel
    return f"{hold.channel}, {'one recipient' if hold.exact else 'some recipients'}"


def named(hold: Hold, *, recipients: bool) -> str:
    """Which rows, in words that anybody knows; recipients: to whoever may know of them. Of what is held by
    itself a host is no secret."""
    if recipients or not hold.recipient_prefix or (hold.reason != holds.PAUSED and not hold.exact):
        return holds.scope(hold)
    return f"{isolated(hold.channel)}, {'one recipient' if hold.exact else 'some recipients'},"


def _standing(hold: Hold, now: datetime, limit: timedelta) -> tuple[str, str]:
    end = words.timestamp(hold.until)
    if hold.reason == holds.PAUSED:
        return "paused", f"ends at {end}"
    match holds.state_of(hold, now, limit):
        case State.RECOVERING:
            return RECOVERING, f"sent slowly until {end}"
        case State.PAST_LIMIT:
            return "held past the limit", "tried as usual again: what fails may die"
        case _:
            return "held", f"tried again at {end}" if hold.until > now else NEXT_TRIES


class Blocked:
    """Which notifications wait for a hold or a pause, all of those that keep rows back read once.

    What recovers, or is past its limit, keeps none back.

    recovering  the endpoints to which rows go slowly
    """

    def __init__(self, now: datetime) -> None:
        self._limit = settings().hold_limit
        self._now = now
        found = list(in_force(now))
        self.recovering = [hold for hold in found if self._recovers(hold)]
        self._holds = [hold for hold in found if self._keeps_back(hold)]
        self._endpoints = [(endpoint_of(hold), hold) for hold in self._holds]
        self._known: dict[tuple[str, str], Hold | None] = {}

    def _recovers(self, hold: Hold) -> bool:
        state = holds.state_of(hold, self._now, self._limit)
        return hold.reason != holds.PAUSED and state == State.RECOVERING

    def _keeps_back(self, hold: Hold) -> bool:
        return hold.reason == holds.PAUSED or holds.state_of(hold, self._now, self._limit) == State.HELD

    def by(self, channel: str, recipient: str) -> Hold | None:
        """What a row of this channel and recipient waits for: the longest."""
        if (channel, recipient) not in self._known:
            mine = [hold for endpoint, hold in self._endpoints if endpoint.covers(channel, recipient)]
            self._known[channel, recipient] = max(mine, key=lambda hold: hold.until, default=None)
        return self._known[channel, recipient]

    def standing(self, hold: Hold) -> str:
        """`held until 2026-11-24 08:00 UTC (its server fails)`"""
        state, _ = _standing(hold, self._now, self._limit)
        cause = cause_of(hold)
        if hold.until <= self._now:
            return f"{state}, {NEXT_TRIES} ({cause})"
        return f"{state} until {words.minute(hold.until)} ({cause})"

    def waits(self, hold: Hold) -> Waits:
        state, _ = _standing(hold, self._now, self._limit)
        why = f"{state} by {isolated(hold.by)}" if hold.by else f"{state} ({cause_of(hold)})"
        return Waits(self.standing(hold), hold.until, why)

    def counted(self, rows: Iterable[tuple[str, str]]) -> list[tuple[int, Hold]]:
        """Of (channel, recipient): how many wait for what, the most first."""
        found = Counter(hold.pk for channel, recipient in rows if (hold := self.by(channel, recipient)))
        known = {hold.pk: hold for hold in self._holds}
        return [(count, known[pk]) for pk, count in found.most_common()]


def noted(events: Iterable[NotificationEvent], now: datetime) -> None:
    """Have the undelivered among the events know what they wait for, asked once for all."""
    waiting = [e for e in events if e.status in UNDELIVERED and "waits" not in vars(e)]
    if not waiting:
        return
    beside.noted(waiting, settings())
    blocked = Blocked(now)
    for event in waiting:
        hold = blocked.by(event.channel, event.recipient)
        later = hold and event.next_retry_at and event.next_retry_at > max(hold.until, now)
        vars(event)["waits"] = blocked.waits(hold) if hold and not later else None


def waiting(hold: Hold) -> int | str:
    """How many notifications wait behind it; `1,000+` where more wait than are counted."""
    number = holds.waiting(hold, WAITING_COUNTED)
    return number if number <= WAITING_COUNTED else words.count(number, most=WAITING_COUNTED)


def paused(hold: Hold) -> str:
    return f"{holds.scope(hold)} paused until {words.timestamp(hold.until)}"


def covers(rows: Covered) -> str:
    """Which rows a pause keeps back, and how many: `It covers Webhook to https://a/…: 3 wait now.`"""
    which = Hold(channel=rows.channel, recipient_prefix=rows.recipient, exact=rows.exact)
    waiting = words.count(rows.waiting, most=pausing.COUNTED)
    text = f"It covers {holds.scope(which)}: {waiting} wait now."
    if rows.nothing:
        text += f" None of the newest {pausing.LOOKED_AT:,} notifications goes there: is it spelled right?"
    return text


def lifted(hold: Hold) -> str:
    """What lifting it brings about; `hold` as it was before."""
    scope = holds.scope(hold)
    if hold.reason == holds.PAUSED:
        return f"{scope} is not paused any more"
    if hold.reopened_at:
        return f"{scope} goes out at full speed"
    return f"the next delivery tries {scope} with one notification, and the others follow when it arrives"
