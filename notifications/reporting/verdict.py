"""One sentence before all figures: what is wrong now, the worst first, or that nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from ..durations import expires
from ..endpoints import holds
from ..endpoints.outages import endpoint_of
from ..models import Hold, Status
from ..text import fold, isolated
from . import activity, held, words
from .channels import settings
from .figures import Snapshot
from .snapshot import snapshot

MOST_SAID = 3  # facts; the others are counted
MOST_WEIGHED = 10  # endpoints for which is counted what waits
UNKNOWN = "how things stand is not known: the database did not answer in time"
QUIET_DAY = "nothing is wrong, and nothing was delivered in the last 24 hours"


class Verdict(NamedTuple):
    """facts: all that is wrong, the worst first. rest: how all else is. bad: somebody should look."""

    facts: tuple[str, ...]
    bad: bool
    rest: str = ""
    advice: str = ""

    @property
    def head(self) -> str:
        """Without its end, where the others are counted."""
        said = [*self.facts[:MOST_SAID], *([self.rest] if self.rest and not self.more else ())]
        return _sentence("; ".join(said))

    @property
    def more(self) -> str:
        others = len(self.facts) - MOST_SAID
        return f"and {others} more" if others > 0 else ""

    @property
    def end(self) -> str:
        return f". {self.advice}" if self.advice else "."

    @property
    def text(self) -> str:
        return f"{self.head}{', ' if self.more else ''}{self.more}{self.end}"

    @property
    def all(self) -> list[str]:
        """Each fact as a sentence, where there are more than are said."""
        return [f"{_sentence(fact)}." for fact in self.facts] if self.more else []


def verdict(shown: Snapshot, now: datetime, *, recipients: bool = False) -> Verdict:
    """recipients: whether endpoints may be named by them, for whoever may read notifications."""
    if shown.counts is None:
        return Verdict((UNKNOWN,), True)
    try:
        stalled = activity.complaints(shown, now)
        wrong = (*stalled, *_facts(shown, now, recipients))
    except Exception:  # the database went away since: a page of figures shows what it has
        return Verdict((UNKNOWN,), True)
    rest = "" if stalled else _rest(shown, bool(wrong))
    return Verdict(wrong, bool(wrong), rest, activity.advice(stalled))


def sentence(now: datetime) -> str:
    """How things stand at that time, for whoever may not know of recipients. Raises nothing."""
    return verdict(snapshot(now=now), now).text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _facts(shown: Snapshot, now: datetime, recipients: bool) -> Iterator[str]:
    first, *others = [*_held(shown, now, recipients)] or [""]
    if first:
        yield first
    yield from _dead(shown, now, recipients)
    yield from _undelivered(shown)
    yield from others


def _dead(shown: Snapshot, now: datetime, recipients: bool) -> Iterator[str]:
    if shown.died_last_hour:
        yield f"{'at least ' if shown.died_more else ''}{shown.died_last_hour:,} died in the last hour"
    if dead := (shown.counts or {}).get(Status.DEAD, 0):
        number = words.count(dead, estimated=Status.DEAD in shown.estimated)
        yield f"{number} dead {'letter waits' if dead == 1 else 'letters wait'} for a decision"
        for name, at in shown.ending or ():
            what = isolated(name) if recipients and name else "the first of their certificates"
            yield f"{what} {expires(at, now)}"


def _undelivered(shown: Snapshot) -> Iterator[str]:
    """What no sweep takes up."""
    probably = shown.probably_delivered or 0
    if shown.stranded and shown.stranded > probably:
        some = f", {words.count(probably)} of them probably delivered" if probably else ""
        yield f"{words.count(shown.stranded)} stranded: nothing tries {_them(shown.stranded)} again{some}"
    if shown.refused:
        yield f"{words.count(shown.refused)} refused by the database"
    if shown.not_delivered:
        what = "its channel has" if shown.not_delivered == 1 else "their channels have"
        yield f"{words.count(shown.not_delivered)} not delivered: {what} no notifier"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _held(shown: Snapshot, now: datetime, recipients: bool) -> Iterator[str]:
    """Each endpoint once, though it be held and paused, and what waits for two of them with the wider one."""
    limit = settings().hold_limit
    found: dict[tuple[str, str, bool], list[tuple[Hold, str]]] = {}
    for hold in shown.holds or ():
        state = held.in_words(hold, now, limit).state
        if state != held.RECOVERING:
            key = (fold(hold.channel), hold.recipient_prefix, hold.exact)
            found.setdefault(key, []).append((hold, state))
    endpoints = [alike[0][0] for alike in found.values()]
    waits = [_waiting(hold, endpoints) for hold in endpoints[:MOST_WEIGHED]]
    waits += [(0, "")] * (len(endpoints) - len(waits))
    told = [*zip(waits, found.values(), strict=True)]
    for wait, alike in sorted(told, key=lambda one: -one[0][0]):
        hold = alike[0][0]
        states = " and ".join(_state(one, state, now) for one, state in alike)
        yield f"{held.named(hold, recipients=recipients)} has been {states}{wait[1]}"


def _state(hold: Hold, state: str, now: datetime) -> str:
    who = f" by {isolated(hold.by)}" if hold.reason == holds.PAUSED and hold.by else ""
    return f"{state}{who} for {words.age(hold.since, now)}"


def _waiting(hold: Hold, among: Sequence[Hold]) -> tuple[int, str]:
    """How many wait for it, and that in words; none of what a wider one is said to keep back."""
    wider = (endpoint_of(other) for other in among if other is not hold)
    if any(endpoint.covers(hold.channel, hold.recipient_prefix) for endpoint in wider):
        return 0, ""
    number = holds.waiting(hold, held.WAITING_COUNTED)
    if not number:
        return 0, ", nothing waits"
    text = words.count(number, most=held.WAITING_COUNTED)
    return number, f", {text} {'waits' if number == 1 else 'wait'}"


def _rest(shown: Snapshot, is_rest: bool) -> str:
    """How quick what is not wrong is."""
    day = (shown.traffic or {}).get("24h")
    if day is None:
        return "" if is_rest else "nothing is wrong"
    if day.p95 is None:
        return "" if is_rest else QUIET_DAY
    pace = f"95 of 100 within {words.duration(day.p95)}"
    return f"all else is delivered, {pace}" if is_rest else f"nothing is wrong: all is delivered, {pace}"
