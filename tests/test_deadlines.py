"""One rule bounds every wait by the time that is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.durations import SHARE, SHORTEST, bounded, expires, is_urgent, within

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WAITS = st.timedeltas(timedelta(0), timedelta(days=30))
ENDS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(WAITS, st.none() | ENDS)
def test_a_wait_is_never_longer_and_takes_a_share_of_the_time_left(
    wait: timedelta, ends: datetime | None
) -> None:
    got = bounded(wait, ends, NOW)
    assert got <= wait
    assert got >= min(wait, SHORTEST)
    if ends is None:
        assert got == wait
    elif ends > NOW:
        assert got <= max(SHORTEST, (ends - NOW) / SHARE)
        longest = within(ends, NOW)
        assert longest is not None
        assert got == min(wait, timedelta(seconds=longest))


@given(WAITS, ENDS, ENDS)
def test_what_ends_sooner_never_waits_longer(wait: timedelta, one: datetime, other: datetime) -> None:
    sooner, later = sorted((one, other))
    assert bounded(wait, sooner, NOW) <= bounded(wait, later, NOW)


@given(ENDS, st.lists(WAITS, min_size=4, max_size=4))
def test_a_budget_of_five_attempts_is_spent_before_the_end_or_lasts_four_minutes(
    ends: datetime, waits: list[timedelta]
) -> None:
    """Whatever each of its waits would have been: four shares leave time to escalate."""
    at = NOW
    for wait in waits:
        at += bounded(wait, ends, at)
    assert at <= max(NOW + 4 * SHORTEST, ends)


@pytest.mark.parametrize(
    ("left", "said", "urgent"),
    [
        (timedelta(hours=3, minutes=59), "expires in 3 h", True),
        (timedelta(days=12, hours=1), "expires in 12 days", False),
        (timedelta(hours=-2), "expired 2 h ago", True),
        (timedelta(0), "expired 0 s ago", True),
    ],
)
def test_what_is_said_of_it(left: timedelta, said: str, urgent: bool) -> None:
    assert (expires(NOW + left, NOW), is_urgent(NOW + left, NOW)) == (said, urgent)
    assert not is_urgent(None, NOW)
