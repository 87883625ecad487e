"""Ratios of runs that alternate, and the table that they make."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = ["| what | ratio | runs | target | |", "|---|---|---|---|---|"]
TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """One ratio. target: at least (`wants` is ">=") or at most ("<="); None where there is none."""

    what: str
    ratios: Sequence[float]
    wants: str = ">="
    target: float | None = None

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.ratio >= self.target if self.wants == ">=" else self.ratio <= self.target

    def row(self) -> str:
        spread = f"{min(self.ratios):.2f}-{max(self.ratios):.2f} ({len(self.ratios)})"
        target = "" if self.target is None else f"{self.wants} {self.target:g}"
        verdict = "" if self.target is None else "met" if self.met else "**not met**"
        return f"| {self.what} | {self.ratio:.2f} | {spread} | {target} | {verdict} |"


def alternate(rounds: int, **runs: Callable[[], float]) -> dict[str, list[float]]:
    """Each run's seconds, `rounds` times over, in turn and every other round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in order:
            seconds[name].append(runs[name]())
            note(f"{name}: {seconds[name][-1]:.4g} s")
    return seconds


def over(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of every round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def note(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def show(found: Sequence[Figure]) -> str:
    return "\n".join([*HEAD, *(figure.row() for figure in found)])


def write(found: Sequence[Figure]) -> None:
    """Put the figures into the page: over the rows that say what they say, the others after them."""
    page = PAGE.read_text()
    old = TABLE.search(page)
    if old is None:
        raise SystemExit(f"{PAGE} has no place for the figures")
    rows = {row.split("|")[1].strip(): row for row in old[0].splitlines()[len(HEAD) :] if row.strip()}
    rows |= {figure.what: figure.row() for figure in found}
    PAGE.write_text(page[: old.start()] + "\n".join([*HEAD, *rows.values()]) + "\n" + page[old.end() :])
