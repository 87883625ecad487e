"""What one look at one target came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..text import cut
from .facts import Facts
from .verdicts import Verdict

LONGEST_PROBLEM = 500
MOST_TOLD = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """One certificate at one place: a file's name, or the target's."""

    place: str
    facts: Facts
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """problem: why something, or everything, could not be read; one line, "" where all could."""

    seen: tuple[Seen, ...] = ()
    problem: str = ""


def reading_of(seen: Sequence[Seen], faults: Sequence[str]) -> Reading:
    """Each certificate once at each place; the first faults, and how many there are more."""
    once = {(one.place, one.facts.fingerprint): one for one in seen}
    more = len(faults) - MOST_TOLD
    told = "; ".join(faults[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
    return Reading(tuple(once.values()), cut(told, LONGEST_PROBLEM))
