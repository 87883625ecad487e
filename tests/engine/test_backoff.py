"""The retry policy, for all numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.engine import backoff

STEADY = settings(deadline=None, derandomize=True)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
COUNTS = st.integers(-(2**31), 2**31 - 1)
SPANS = st.timedeltas(timedelta(milliseconds=1), timedelta(days=366))
WISHES = st.none() | st.floats(allow_nan=False)
CHANCES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("retry_count", "minutes"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60), (99, 60)]
)
def test_the_schedule_that_operators_know(retry_count: int, minutes: int) -> None:
    assert backoff.delay(retry_count) == timedelta(minutes=minutes)


@STEADY
@given(COUNTS, SPANS, SPANS, WISHES, CHANCES)
def test_every_wait_is_between_the_first_and_the_cap(
    retry_count: int, base: timedelta, cap: timedelta, wish: float | None, jitter: float
) -> None:
    wait = backoff.delay(retry_count, base=base, cap=cap, retry_after=wish, jitter=jitter)
    assert min(base, cap) <= wait <= cap


@STEADY
@given(COUNTS, SPANS, SPANS)
def test_no_wait_is_shorter_than_the_one_before(retry_count: int, base: timedelta, cap: timedelta) -> None:
    assert backoff.delay(retry_count, base=base, cap=cap) <= backoff.delay(
        retry_count + 1, base=base, cap=cap
    )


@STEADY
@given(st.integers(0, 30), st.floats(0, 1e6), CHANCES)
def test_a_longer_retry_after_wins_and_is_never_cut_short_but_by_the_cap(
    retry_count: int, wish: float, jitter: float
) -> None:
    wait = backoff.delay(retry_count, retry_after=wish, jitter=jitter)
    plain = backoff.delay(retry_count)
    wished = timedelta(seconds=min(wish, HOUR.total_seconds()))
    assert wait >= max(plain, wished)
    assert wait <= max(plain, min(HOUR, wished * 1.1 + timedelta(milliseconds=1)))


def test_jitter_spreads_only_what_the_provider_asked_for() -> None:
    assert backoff.delay(0, jitter=1.0) == MINUTE
    assert backoff.delay(0, retry_after=600, jitter=0.0) == timedelta(seconds=600)
    assert backoff.delay(0, retry_after=600, jitter=1.0) == timedelta(seconds=660)


@pytest.mark.parametrize("budget", [1, 2, 5, 100])
def test_the_budget_counts_the_first_attempt(budget: int) -> None:
    made = next(count for count in range(200) if backoff.exhausted(count, budget)) + 1
    assert made == budget


@STEADY
@given(COUNTS, st.integers(1, 1000))
def test_a_spent_budget_stays_spent(retry_count: int, budget: int) -> None:
    if backoff.exhausted(retry_count, budget):
        assert backoff.exhausted(retry_count + 1, budget)
