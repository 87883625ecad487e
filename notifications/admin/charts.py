"""Numbers of hours as the paths of an SVG, in its own units: bars that stand on its lower edge, a line."""

from __future__ import annotations

from collections.abc import Sequence

SPARK_WIDTH, SPARK_HEIGHT = 96, 20
LEAST = 1.5  # units: what is not nothing can be seen
GAP = 0.25  # of an hour's width


def bars(numbers: Sequence[int], width: float, height: float, top: int) -> str:
    """One for each hour; the tallest is `top` high. "" where there is none."""
    slot = width / max(len(numbers), 1)
    return "".join(
        f"M{n * slot:g} {height:g}v-{_high(number, height, top):g}h{slot * (1 - GAP):g}V{height:g}z"
        for n, number in enumerate(numbers)
        if number
    )


def line(numbers: Sequence[int], width: float, height: float, top: int) -> str:
    """Through the middle of every hour. "" where all are 0."""
    if not any(numbers):
        return ""
    slot = width / len(numbers)
    points = [
        f"{(n + (1 - GAP) / 2) * slot:.5g} {height - _high(x, height, top):g}" for n, x in enumerate(numbers)
    ]
    return "M" + "L".join(points)


def spark(numbers: Sequence[int]) -> str:
    return bars(numbers, SPARK_WIDTH, SPARK_HEIGHT, max(numbers, default=0))


def _high(number: int, height: float, top: int) -> float:
    return round(max(height * number / top, LEAST), 2) if number and top else 0
