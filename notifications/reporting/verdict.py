"""One sentence before all figures: what is wrong now, or that nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from ..durations import expires
from ..endpoints import holds
from ..models import Status
from ..text import isolated
from . import activity, held, words
from .channels import settings
from .figures import Snapshot
from .snapshot import snapshot

MOST_NAMED = 3  # endpoints; the others are counted
UNKNOWN = "How things stand is not known: the database did not answer in time."


class Verdict(NamedTuple):
    """bad: somebody should look."""

    text: str
    bad: bool


def verdict(shown: Snapshot, now: datetime, *, recipients: bool = False) -> Verdict:
    """recipients: whether endpoints may be named by them, for whoever may read notifications."""
    if shown.counts is None:
        return Verdict(UNKNOWN, True)
    try:
        wrong = [*activity.warnings(shown, now), *_sentences(shown, now, recipients)]
    except Exception:  # the database went away since: a page of figures shows what it has
        return Verdict(UNKNOWN, True)
    pace = _pace(shown, bool(wrong))
    return Verdict(" ".join([*wrong, pace] if pace else wrong), bool(wrong))


def sentence(now: datetime) -> str:
    """How things stand at that time, for whoever may not know of recipients. Raises nothing."""
    return verdict(snapshot(now=now), now).text


def _sentences(shown: Snapshot, now: datetime, recipients: bool) -> Iterator[str]:
    yield from _held(shown, now, recipients)
    counts = shown.counts or {}
    if shown.died_last_hour:
        yield f"{'At least ' if shown.died_more else ''}{shown.died_last_hour:,} died in the last hour."
    if dead := counts.get(Status.DEAD, 0):
        number = words.count(dead, estimated=Status.DEAD in shown.estimated)
        yield f"{number} dead {'letter waits' if dead == 1 else 'letters wait'} for a decision."
        for name, at in shown.ending or ():
            what = isolated(name) if recipients and name else "The first of their certificates"
            yield f"{what} {expires(at, now)}."
    if shown.stranded:
        lost = shown.stranded - (shown.probably_delivered or 0)
        if lost > 0:
            yield f"{words.count(lost)} stranded: no sweep sees {'it' if lost == 1 else 'them'}."
    if shown.refused:
        yield f"{words.count(shown.refused)} refused by the database."
    if shown.not_delivered:
        yield f"{words.count(shown.not_delivered)} not delivered: their channels have no notifier."


def _held(shown: Snapshot, now: datetime, recipients: bool) -> Iterator[str]:
    limit = settings().hold_limit
    kept_back = [(hold, held.in_words(hold, now, limit)) for hold in shown.holds or ()]
    kept_back = [(hold, said) for hold, said in kept_back if said.state != held.RECOVERING]
    for hold, said in kept_back[:MOST_NAMED]:
        name = said.scope if recipients else said.name
        who = f" by {hold.by}" if hold.reason == holds.PAUSED and hold.by else ""
        waiting = held.waiting(hold)
        wait = "1 waits" if waiting == 1 else f"{waiting} wait"
        yield f"{name} has been {said.state}{who} for {words.age(hold.since, now)}, {wait}."
    more = len(kept_back) - MOST_NAMED
    if more > 0:
        yield f"{more} more {'endpoint is' if more == 1 else 'endpoints are'} held or paused."


def _pace(shown: Snapshot, is_rest: bool) -> str:
    """How quick the rest is."""
    day = (shown.traffic or {}).get("24h")
    if day is None:
        return ""
    if day.p95 is None:
        return "" if is_rest else "Nothing is wrong, and nothing was delivered in the last 24 hours."
    pace = f"95 of 100 within {words.duration(day.p95)}"
    return f"All else is delivered, {pace}." if is_rest else f"Nothing is wrong: all is delivered, {pace}."
