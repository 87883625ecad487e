"""One walk, whoever goes: every row once, ties in created_at, new rows, left and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.database.values import UnknownTime
from notifications.models import NotificationEvent, NotificationQuerySet
from notifications.operations import walk
from notifications.operations.walk import Place, Walk, beyond
from tests import factories

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
EVENTS = NotificationEvent.objects


def row(minute: int, name: str, **fields: Any) -> NotificationEvent:
    return factories.dead(id=name, created_at=BEGIN + timedelta(minutes=minute), **fields)


def slack(rows: NotificationQuerySet) -> NotificationQuerySet:
    return rows.on_channel("Slack")


def through(
    going: Walk, most: int, cursor: Sequence[str] | None = None, batches: int | None = None
) -> tuple[list[str], Sequence[str] | None]:
    """(the ids met, where it stands): to the end, or so many batches."""
    met: list[str] = []
    for number in count(1):
        found, cursor = going.batch(cursor, most)
        met += [pk for _, pk, *_ in found]
        if cursor is None or number == batches:
            break
    return met, cursor


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["Slack", "Email"])), max_size=12),
    most=st.integers(1, 5),
    looks_at=st.integers(1, 5),
    newest_first=st.booleans(),
)
def test_every_row_that_is_meant_is_met_once_and_in_order(
    rows: list[tuple[int, str]], most: int, looks_at: int, newest_first: bool
) -> None:
    EVENTS.all().delete()
    for number, (minute, channel) in enumerate(rows):
        row(minute, f"n{number:02}", channel=channel)
    met, _ = through(Walk({"all": EVENTS.all()}, slack, newest_first=newest_first, looks_at=looks_at), most)
    wanted = sorted((minute, f"n{n:02}") for n, (minute, channel) in enumerate(rows) if channel == "Slack")
    assert met == [name for _, name in (reversed(wanted) if newest_first else wanted)]


@pytest.mark.parametrize("newest_first", [True, False])
def test_it_is_left_and_gone_on_with_though_the_row_it_stands_on_is_gone(newest_first: bool) -> None:
    names = [row(0, f"n{n}").pk for n in range(7)]
    going = Walk({"all": EVENTS.all()}, lambda rows: rows, newest_first=newest_first)
    first, cursor = through(going, 3, batches=1)
    EVENTS.filter(pk__in=first).delete()
    rest, end = through(going, 3, cursor)
    assert (first + rest, end) == (names[::-1] if newest_first else names, None)


def test_what_is_raised_meanwhile_is_met_by_nobody_who_reads_the_newest_first() -> None:
    before = [row(n, f"n{n}").pk for n in range(6)]
    going = Walk({"all": EVENTS.all()}, lambda rows: rows)
    first, cursor = through(going, 2, batches=1)
    for n in range(3):
        row(60 + n, f"late{n}")
    row(5, "zz")  # raised at the moment that has been passed, with an id that has been passed
    rest, _ = through(going, 2, cursor)
    assert first + rest == before[::-1]


def test_one_part_after_the_other_fills_one_batch() -> None:
    for n in range(3):
        row(n, f"dead{n}")
        factories.failed(id=f"failed{n}", created_at=BEGIN)
    parts = {"dead": EVENTS.dead(), "failed": EVENTS.failed()}
    found, cursor = Walk(parts, lambda rows: rows, fields=("status",)).batch(None, 5)
    assert [status for *_, status in found] == ["dead"] * 3 + ["failed"] * 2
    assert cursor is not None
    assert cursor[0] == "failed"
    assert Walk({}, lambda rows: rows).batch(None, 5) == ([], None)


def test_a_batch_reads_a_bounded_number_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walk, "LOOKED_AT", 4)
    for n in range(10):
        row(n, f"n{n}", channel="Slack" if n == 0 else "Email")
    found, cursor = Walk({"all": EVENTS.all()}, slack).batch(None, 3)
    assert (found, cursor) == ([], ["all", (BEGIN + timedelta(minutes=6)).isoformat(), "n6"])
    assert through(Walk({"all": EVENTS.all()}, slack), 3) == (["n0"], None)


def test_a_place_is_written_and_read() -> None:
    for at in (BEGIN + timedelta(microseconds=1), BEGIN.replace(year=2600), BEGIN.replace(year=2)):
        place = Place(at, "a.b (1)")
        assert Place.of(place.text) == place
    for nonsense in ("", "1", "1.", "x.y", "1.\x00", f"{'9' * 20}.a", "infinity", "(soon).a"):
        with pytest.raises(ValueError, match="not a cursor"):
            Place.of(nonsense)


@pytest.mark.parametrize(
    ("as_stored", "again"),
    [
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
        ("0045-02-29 12:00:00.5+00 BC", "0045-02-29 12:00:00.500000+00 BC"),
        ("4713-01-02 00:00:00+00 BC", "4713-01-02 00:00:00.000000+00 BC"),
        ("20000-02-29 23:59:59.999999+05:30", "20000-02-29 18:29:59.999999+00"),
        ("294275-12-31 23:00:00+00", "294275-12-31 23:00:00.000000+00"),
    ],
)
def test_a_place_beyond_the_calendar_is_written_and_read(as_stored: str, again: str) -> None:
    place = Place.of(Place(UnknownTime.of(as_stored), "a.b 1").text)
    assert (getattr(place.created_at, "as_stored", ""), place.pk) == (again, "a.b 1")


def test_every_number_is_a_place_that_the_database_takes() -> None:
    for number in (-(10**19 - 1), -(10**17), 10**17, 10**18, 10**19 - 1):
        assert not list(beyond(EVENTS.all(), Place.of(f"{number}.a")))
