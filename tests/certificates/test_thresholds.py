from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.certificates.schedule import next_check
from notifications.certificates.thresholds import DEFAULT, Threshold, due, parse, parse_all
from tests.certificates.authority import DAY, NOW

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "text", "moment"),
    [
        ("33%", "33%", START + 67 * DAY),
        (" 5.50 % ", "5.5%", START + 94.5 * DAY),
        ("30d", "30d", START + 70 * DAY),
        ("720h", "30d", START + 70 * DAY),
        ("1d12h", "36h", START + 98.5 * DAY),
        ("0", "0", START + 100 * DAY),
        ("0%", "0", START + 100 * DAY),
        ("100%", "100%", START),
    ],
)
def test_a_threshold_has_a_moment_in_a_lifetime(written: str, text: str, moment: datetime) -> None:
    threshold = parse(written)
    assert threshold.text == text
    assert abs(threshold.moment(START, START + 100 * DAY) - moment) < timedelta(milliseconds=1)
    assert parse(text) == threshold


@pytest.mark.parametrize(
    "written", ["", "30", "-1%", "101%", "0.0001d%", "a third", "99999999d", "٣٣%", "1e3%"]
)
def test_what_is_none_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="a threshold is a share"):
        parse(written)


def test_there_are_defaults_and_an_end_to_their_number() -> None:
    assert [one.text for one in parse_all([])] == list(DEFAULT)
    assert [one.text for one in parse_all(["0", "0%", "7d"])] == ["0", "7d"]
    with pytest.raises(ValueError, match="at most 20"):
        parse_all([f"{n}d" for n in range(1, 22)])


def test_a_certificate_first_seen_late_raises_the_most_urgent_alone() -> None:
    late = due(parse_all([]), (), START, START + 100 * DAY, START + 96 * DAY)
    assert late is not None
    assert late.threshold.text == "5%"
    assert late.covers == ("33%", "15%", "5%")
    assert due(parse_all([]), late.covers, START, START + 100 * DAY, START + 99 * DAY) is None


def test_a_threshold_that_is_asked_for_later_raises_nothing_that_is_less_urgent_than_what_was() -> None:
    dates = START, START + 100 * DAY, START + 96 * DAY
    assert due(parse_all(["30d", "7d"]), ("5%",), *dates) is None
    found = due(parse_all(["30d", "4.5d"]), ("15%",), *dates)
    assert found is not None
    assert found.threshold.text == "108h"


FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
TIMES = st.integers(0, (LAST - FIRST) // timedelta(minutes=1)).map(lambda n: FIRST + n * timedelta(minutes=1))
STEADY = settings(deadline=None, derandomize=True)
SHARES = st.integers(1, 100).map(lambda percent: f"{percent}%")
LEFT = st.integers(1, 800).map(lambda hours: f"{hours}h")


@STEADY
@given(st.lists(SHARES | LEFT | st.just("0"), max_size=8), TIMES, TIMES, st.lists(TIMES, max_size=12))
def test_each_threshold_is_raised_at_most_once_and_at_least_once_if_it_was_crossed_while_seen(
    texts: list[str], not_before: datetime, not_after: datetime, sightings: list[datetime]
) -> None:
    """For any dates, also those that end before they begin, and sightings at any times."""
    _once_each(parse_all(texts), not_before, not_after, sorted(sightings))


@STEADY
@given(
    st.lists(SHARES | LEFT | st.just("0"), max_size=8),
    st.integers(1, 2000),
    st.lists(st.integers(-100, 3000), max_size=30),
)
def test_so_it_is_for_sightings_within_a_lifetime(texts: list[str], hours: int, seen: list[int]) -> None:
    _once_each(parse_all(texts), START, START + hours * HOUR, sorted(START + hour * HOUR for hour in seen))


def _once_each(
    thresholds: list[Threshold], not_before: datetime, not_after: datetime, sightings: list[datetime]
) -> None:
    told = set[str]()
    raised = list[str]()

    def passed(at: datetime) -> list[Threshold]:
        return [one for one in thresholds if one.moment(not_before, not_after) <= at]

    for at in sightings:
        if found := due(thresholds, told, not_before, not_after, at):
            raised.append(found.threshold.text)
            told.update(found.covers)
        moments = {one.text: one.moment(not_before, not_after) for one in thresholds}
        for one in passed(at):
            # Itself, or one that is as urgent or more so.
            assert any(moments[text] >= moments[one.text] for text in raised)
        if passed(at):
            assert max(moments[text] for text in raised) == max(moments[one.text] for one in passed(at))
    assert len(raised) == len(set(raised))


@STEADY
@given(SHARES | LEFT | st.just("0"), st.integers(48, 2000))
def test_a_threshold_is_raised_by_itself_where_it_is_crossed_between_two_looks(text: str, hours: int) -> None:
    """As a worker looks: at its next_check."""
    thresholds, not_after = parse_all([text, "0"]), START + hours * HOUR
    told, raised, at = set[str](), list[str](), START - HOUR
    for _ in range(100_000):
        if found := due(thresholds, told, START, not_after, at):
            raised.append(found.threshold.text)
            told.update(found.covers)
        if at > not_after + 2 * DAY:
            break
        at = next_check(at, 12 * HOUR, 0.5, [(START, not_after)], thresholds)
    assert sorted(raised) == sorted({one.text for one in thresholds})


# When is looked again


def test_a_look_is_an_interval_away_a_tenth_more_or_less() -> None:
    ends = [(NOW - 10 * DAY, NOW + 80 * DAY)]
    assert next_check(NOW, 12 * HOUR, 0.0, ends, parse_all([])) == NOW + 10.8 * HOUR
    assert next_check(NOW, 12 * HOUR, 1.0, ends, parse_all([])) == NOW + 13.2 * HOUR


def test_it_is_soon_where_less_than_a_day_is_left_or_nothing_could_be_read() -> None:
    minutes = timedelta(minutes=15)
    for left, wait in ((23 * HOUR, minutes), (-23 * HOUR, minutes), (-25 * HOUR, 12 * HOUR)):
        ends = [(NOW - 90 * DAY, NOW + left)]
        assert next_check(NOW, 12 * HOUR, 0.5, ends, [parse("50d")]) == NOW + wait
    assert next_check(NOW, 12 * HOUR, 0.5, [], [], failing=True) == NOW + HOUR


def test_what_passes_a_threshold_within_the_hour_is_looked_at_together() -> None:
    def look(minutes: int) -> datetime:
        ends = [(NOW - 60 * DAY, NOW + 30 * DAY + timedelta(minutes=minutes))]
        return next_check(NOW, 12 * HOUR, 0.5, ends, [parse("30d")])

    assert {look(minutes) for minutes in range(1, 60)} == {NOW + HOUR}
    assert look(60) == NOW + 2 * HOUR


def test_any_dates_have_a_next_look() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    for ends in ((first, last), (last, first), (first, first), (last, last)):
        assert next_check(NOW, 12 * HOUR, 0.5, [ends], parse_all(["100%", "36525d", "0"])) > NOW
