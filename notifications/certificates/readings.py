"""What one look at one target came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..text import cut
from .facts import Facts
from .verdicts import Verdict

LONGEST_PROBLEM = 500
MOST_TOLD = 3
ANYWHERE = ("",)


@dataclass(frozen=True, slots=True)
class Seen:
    """One certificate at one place: a file's name, or the target's."""

    place: str
    facts: Facts
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen, and what could not be read.

    problem  why something, or everything, could not be read; one line, "" where all could
    unread   the places, or folders of places, that could not be: what was seen there last is there still, as
             far as anybody knows
    """

    seen: tuple[Seen, ...] = ()
    problem: str = ""
    unread: tuple[str, ...] = ANYWHERE

    def tells_of(self, place: str) -> bool:
        """Whether it says what is there, and what is not."""
        if not self.problem:
            return True
        return not any(_is_within(place, each) for each in self.unread)


def _is_within(place: str, other: str) -> bool:
    """It is the other, or a file somewhere in it."""
    return not other or place == other or place.startswith(other.rstrip("/") + "/")


def reading_of(seen: Sequence[Seen], faults: Sequence[str], unread: Sequence[str] = ANYWHERE) -> Reading:
    """Each certificate once at each place; the first faults, and how many there are more."""
    once = {(one.place, one.facts.fingerprint): one for one in seen}
    more = len(faults) - MOST_TOLD
    told = "; ".join(faults[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    return Reading(tuple(once.values()), cut(told, LONGEST_PROBLEM), tuple(unread))
