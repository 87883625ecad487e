"""Whose turn it is, without a database or a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.endpoints.lanes import START, WAITING_PER_SLOT, Lane, Lanes, Rules, Standing
from notifications.exceptions import DeliveryError, PermanentError, Reason, TransientError
from notifications.notifiers.base import Endpoint

RULES = Rules(ceiling=50)
GOOD = Endpoint("good", "Webhook", "https://good/")
BAD = Endpoint("bad", "Webhook", "https://bad/")
SOON = datetime(2026, 1, 17, 3, 2, tzinfo=UTC)
DOWN = TransientError("no connection", reason=Reason.NETWORK)


def fill(lanes: Lanes[str], endpoint: Endpoint, rows: int) -> int:
    """How many rows the endpoint's lane takes."""
    lane = lanes.lane(endpoint)
    return sum(lanes.put(f"{endpoint.key} {n}", lane) for n in range(rows))


def take_all(lanes: Lanes[str], now: float = 0.0) -> list[str]:
    rows = []
    while turn := lanes.take(now):
        rows.append(turn[1])
    return rows


def attempt(lanes: Lanes[str], endpoint: Endpoint, error: DeliveryError | None, times: int = 1) -> None:
    for _ in range(times):
        fill(lanes, endpoint, 1)
        turn = lanes.take(0.0)
        assert turn is not None
        lanes.ended(turn[0], error)


def test_a_new_endpoint_gets_few_attempts_and_few_rows() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    assert fill(lanes, BAD, 1000) == START * WAITING_PER_SLOT
    assert len(take_all(lanes)) == START


def test_an_endpoint_that_never_answers_leaves_the_turns_to_others() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    fill(lanes, BAD, 1000)
    take_all(lanes)
    fill(lanes, GOOD, 3)
    assert take_all(lanes) == ["good 0", "good 1", "good 2"]
    assert lanes.closed() == {BAD}


def test_many_endpoints_that_never_answer_leave_a_quarter_to_those_that_do() -> None:
    lanes: Lanes[str] = Lanes(Rules(ceiling=50, at_once=16))
    attempt(lanes, GOOD, None)
    one, *others = [Endpoint(f"silent {n}", "Webhook", f"https://silent-{n}/") for n in range(20)]
    fill(lanes, one, 20)
    assert len(take_all(lanes)) == START
    for silent in others:
        fill(lanes, silent, 20)
    assert len(take_all(lanes)) == 12 - START, "each gets one, as long as there are any"
    assert lanes.ready == 0
    assert fill(lanes, GOOD, 10) == lanes.ready == 10
    assert len(take_all(lanes)) == START + 1


def test_endpoints_take_turns() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    fill(lanes, BAD, 3)
    fill(lanes, GOOD, 3)
    assert take_all(lanes) == ["bad 0", "good 0", "bad 1", "good 1", "bad 2", "good 2"]


def test_every_answer_earns_one_more_up_to_the_ceiling() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    attempt(lanes, GOOD, None, times=3)
    assert lanes.lane(GOOD).limit == START + 3
    attempt(lanes, GOOD, None, times=200)
    assert lanes.lane(GOOD).limit == RULES.ceiling


def test_a_failure_halves_what_was_earned() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    attempt(lanes, GOOD, None, times=15)
    attempt(lanes, GOOD, DOWN)
    assert lanes.lane(GOOD).limit == (START + 15) // 2


def test_failures_in_a_row_hold_the_endpoint_and_give_its_rows_back() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    attempt(lanes, BAD, DOWN, times=4)
    attempt(lanes, BAD, None)
    attempt(lanes, BAD, DOWN, times=4)
    assert not lanes.lane(BAD).held
    fill(lanes, BAD, 2)
    turn = lanes.take(0.0)
    assert turn is not None
    lanes.ended(turn[0], DOWN)
    [change] = lanes.changes
    assert (change.endpoint, change.seconds, change.error) == (BAD, RULES.hold, DOWN)
    assert lanes.drain() == [("bad 1", RULES.hold)]
    assert (lanes.waiting, lanes.running, fill(lanes, BAD, 1)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("asked", "seconds"), [(7.0, 7.0), (None, RULES.auth_hold), (1e9, 3600.0), (-5.0, 0.0)]
)
def test_retry_after_holds_at_once_for_what_the_provider_asked(asked: float | None, seconds: float) -> None:
    lanes: Lanes[str] = Lanes(RULES)
    attempt(lanes, BAD, TransientError("429", reason=Reason.RATE_LIMITED, retry_after=asked))
    assert [change.seconds for change in lanes.changes] == [seconds]


def test_a_fault_of_the_row_says_nothing_about_the_endpoint() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    attempt(lanes, GOOD, PermanentError("400", reason=Reason.CLIENT), times=10)
    attempt(lanes, GOOD, PermanentError("no address", reason=Reason.CONFIG), times=10)
    assert (lanes.changes, lanes.lane(GOOD).held) == ([], False)


def test_a_probe_is_one_attempt_and_its_success_opens_the_endpoint() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lanes.probe(BAD, holds=3)
    fill(lanes, BAD, 10)
    lane, _ = lanes.take(0.0) or pytest.fail("no probe")
    assert lanes.take(0.0) is None
    lanes.ended(lane, None)
    [change] = lanes.changes
    assert change.delivers
    # Of the four rows that a single slot keeps in hand the next goes, and the others at the pace of recovery.
    assert [len(take_all(lanes, now)) for now in (0.0, 0.06, 0.11)] == [1, 1, 1]


def test_the_next_survey_leaves_our_probe_alone() -> None:
    """The pending sweep surveys a moment after the retry sweep, and reads that somebody probes: we do."""
    lanes: Lanes[str] = Lanes(RULES)
    lanes.know([Standing(BAD, 1, worn=False, ours=True, until=SOON)])
    fill(lanes, BAD, 2)
    lane, _ = lanes.take(0.0) or pytest.fail("no probe")
    lanes.know([Standing(BAD, 1, worn=False, ours=False, until=SOON)])
    assert lanes.drain() == []
    lanes.ended(lane, None)
    assert [change.delivers for change in lanes.changes] == [True]
    # Nor does one that was made before this is written.
    lanes.know([Standing(BAD, 1, worn=False, ours=False, until=SOON)])
    assert (lane.held, lanes.drain()) == (False, [])


def test_anothers_probe_holds_the_endpoint_and_its_rows_are_due_at_once() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lanes.probe(BAD, 1, SOON)
    fill(lanes, BAD, 1)
    lanes.know([Standing(BAD, 1, worn=False, ours=False, until=SOON + timedelta(minutes=2))])
    assert lanes.drain() == [("bad 0", 0.0)]


def test_a_probe_that_fails_holds_twice_as_long() -> None:
    for holds, seconds in [(1, 60.0), (2, 120.0), (3, 240.0), (4, 300.0), (40, 300.0)]:
        lanes: Lanes[str] = Lanes(RULES)
        lanes.probe(BAD, holds=holds)
        attempt(lanes, BAD, DOWN)
        assert [change.seconds for change in lanes.changes] == [seconds]


def test_a_probe_that_found_no_row_is_given_back() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lanes.probe(BAD, holds=1)
    assert [change.endpoint for change in lanes.unused_probes()] == [BAD]


def test_a_worn_endpoint_spends_attempts_and_is_not_held_again() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lanes.wear(BAD)
    attempt(lanes, BAD, DOWN, times=20)
    assert (lanes.changes, lanes.lane(BAD).held) == ([], False)
    attempt(lanes, BAD, None)
    assert [change.delivers for change in lanes.changes] == [True]


def test_what_nobody_holds_any_more_is_opened() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lanes.keep_held(BAD)
    lanes.keep_held(GOOD)
    lanes.reopen_except({"good"})
    assert (lanes.lane(BAD).held, lanes.lane(GOOD).held) == (False, True)


def test_a_pace_is_kept() -> None:
    lanes: Lanes[str] = Lanes(RULES)
    lane = lanes.lane(GOOD, per_second=1.0)
    assert sum(lanes.put(str(n), lane) for n in range(100)) == START
    started = [(now, row) for now in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5) for row in take_all(lanes, now)]
    assert started == [(0.0, "0"), (1.0, "1"), (2.0, "2")]


STEPS = st.sampled_from(["put", "put", "start", "start", "unstarted", "ok", "down", "gone", "drain"])


@given(st.lists(st.tuples(st.sampled_from("abc"), STEPS), max_size=200))
def test_no_row_is_lost_or_handed_out_twice(steps: list[tuple[str, str]]) -> None:
    lanes: Lanes[int] = Lanes(Rules(ceiling=50, at_once=8))
    inside: set[int] = set()
    running: list[Lane[int]] = []
    errors = {"ok": None, "down": DOWN, "gone": PermanentError("410", reason=Reason.GONE)}
    for number, (key, step) in enumerate(steps):
        if step == "put":
            if lanes.put(number, lanes.lane(Endpoint(key, "Webhook"))):
                inside.add(number)
        elif step == "drain":
            inside -= {row for row, _ in lanes.drain()}
        elif step == "start":
            if turn := lanes.take(float(number)):
                inside.remove(turn[1])
                running.append(turn[0])
        elif running and step == "unstarted":
            lanes.unstarted(running.pop())
        elif running:
            lanes.ended(running.pop(0), errors[step])
        known = lanes.lanes.values()
        assert lanes.waiting == sum(len(lane.waiting) for lane in known) == len(inside)
        assert lanes.ready == sum(len(lane.waiting) for lane in known if lane.heard)
        assert lanes.running == sum(lane.running for lane in known) == len(running)
        assert lanes.unheard == sum(lane.running for lane in known if not lane.heard)
    assert {row for row, _ in lanes.drain(everything=True)} == inside
    assert (lanes.waiting, lanes.ready) == (0, 0)
