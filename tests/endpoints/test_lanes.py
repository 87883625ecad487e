"""Whose turn it is, without a database or a network."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.endpoints.breaker import Breaker, Learned, OnRecord, Records, Rules, State
from notifications.endpoints.lanes import START, WAITING_PER_SLOT, Lane, Lanes, Limits
from notifications.exceptions import DeliveryError, PermanentError, Reason, TransientError
from notifications.notifiers.base import Endpoint

RULES, LIMITS = Rules(), Limits(ceiling=50)
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
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    assert fill(lanes, BAD, 1000) == START * WAITING_PER_SLOT
    assert len(take_all(lanes)) == START


def test_an_endpoint_that_never_answers_leaves_the_turns_to_others() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    fill(lanes, BAD, 1000)
    take_all(lanes)
    fill(lanes, GOOD, 3)
    assert take_all(lanes) == ["good 0", "good 1", "good 2"]
    assert lanes.closed() == {BAD}


def test_many_endpoints_that_never_answer_leave_a_quarter_to_those_that_do() -> None:
    lanes: Lanes[str] = Lanes(Limits(ceiling=50, at_once=16), RULES)
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
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    fill(lanes, BAD, 3)
    fill(lanes, GOOD, 3)
    assert take_all(lanes) == ["bad 0", "good 0", "bad 1", "good 1", "bad 2", "good 2"]


def test_every_answer_earns_one_more_up_to_the_ceiling() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, GOOD, None, times=3)
    assert lanes.lane(GOOD).limit == START + 3
    attempt(lanes, GOOD, None, times=200)
    assert lanes.lane(GOOD).limit == LIMITS.ceiling


def test_a_failure_halves_what_was_earned() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, GOOD, None, times=15)
    attempt(lanes, GOOD, DOWN)
    assert lanes.lane(GOOD).limit == (START + 15) // 2


def test_failures_in_a_row_hold_the_endpoint_and_give_its_rows_back() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
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


@pytest.mark.parametrize(("asked", "seconds"), [(7.0, 7.0), (1e9, 3600.0), (-5.0, 0.0)])
def test_retry_after_holds_at_once_for_what_the_provider_asked(asked: float, seconds: float) -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, BAD, TransientError("429", reason=Reason.RATE_LIMITED, retry_after=asked))
    assert [change.seconds for change in lanes.changes] == [seconds]


def test_who_is_told_to_slow_down_and_not_for_how_long_backs_off_as_ever() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, BAD, TransientError("429", reason=Reason.RATE_LIMITED), times=4)
    assert not lanes.changes
    attempt(lanes, BAD, TransientError("429", reason=Reason.RATE_LIMITED))
    assert [change.seconds for change in lanes.changes] == [RULES.hold]


def test_a_fault_of_the_row_says_nothing_about_the_endpoint() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, GOOD, PermanentError("400", reason=Reason.CLIENT), times=10)
    attempt(lanes, GOOD, PermanentError("no address", reason=Reason.CONFIG), times=10)
    assert (lanes.changes, lanes.lane(GOOD).held) == ([], False)


PROBE = OnRecord(BAD, State.HELD, times=1, ours=True, until=SOON)


def test_a_probe_is_one_attempt_and_its_success_opens_the_endpoint() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([PROBE]))
    fill(lanes, BAD, 10)
    lane, _ = lanes.take(0.0) or pytest.fail("no probe")
    assert lanes.take(0.0) is None
    lanes.ended(lane, None)
    [change] = lanes.changes
    assert change.what == Learned.DELIVERS
    # Of the four rows that a single slot keeps in hand the next goes, and the others at the pace of recovery.
    assert [len(take_all(lanes, now)) for now in (0.0, 0.06, 0.11)] == [1, 1, 1]


def test_the_next_sweep_leaves_our_probe_alone() -> None:
    """The pending sweep reads a moment after the retry sweep that somebody probes: we do."""
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([PROBE]))
    fill(lanes, BAD, 2)
    lane, _ = lanes.take(0.0) or pytest.fail("no probe")
    theirs = replace(PROBE, ours=False)
    lanes.read(Records([theirs]))
    assert lanes.drain() == []
    lanes.ended(lane, None)
    assert [change.what for change in lanes.changes] == [Learned.DELIVERS]
    # Nor does one that was made before this is written.
    lanes.read(Records([theirs]))
    assert (lane.held, lanes.drain()) == (False, [])


def test_anothers_probe_holds_the_endpoint_and_its_rows_are_due_at_once() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([PROBE]))
    fill(lanes, BAD, 1)
    lanes.read(Records([replace(PROBE, ours=False, until=SOON + timedelta(minutes=2))]))
    assert lanes.drain() == [("bad 0", 0.0)]


def test_a_probe_that_fails_holds_twice_as_long() -> None:
    for times, seconds in [(1, 60.0), (2, 120.0), (3, 240.0), (4, 300.0), (40, 300.0)]:
        lanes: Lanes[str] = Lanes(LIMITS, RULES)
        lanes.read(Records([replace(PROBE, times=times)]))
        attempt(lanes, BAD, DOWN)
        assert [(change.seconds, change.times) for change in lanes.changes] == [(seconds, times + 1)]


def test_a_probe_that_found_no_row_is_given_back() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([PROBE]))
    lanes.give_back_probes()
    assert [(change.what, change.endpoint) for change in lanes.changes] == [(Learned.PROBE_UNUSED, BAD)]


def test_an_endpoint_past_its_limit_spends_attempts_and_is_not_held_again() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([OnRecord(BAD, State.PAST_LIMIT)]))
    attempt(lanes, BAD, DOWN, times=20)
    assert (lanes.changes, lanes.lane(BAD).breaker.state) == ([], State.PAST_LIMIT)
    attempt(lanes, BAD, None)
    assert [change.what for change in lanes.changes] == [Learned.DELIVERS]


def test_what_nobody_holds_any_more_is_open() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    held = [OnRecord(endpoint, State.HELD, until=SOON) for endpoint in (BAD, GOOD)]
    lanes.read(Records(held))
    assert lanes.closed() == {BAD, GOOD}
    lanes.read(Records(held[1:]))
    assert (lanes.lane(BAD).held, lanes.lane(GOOD).held) == (False, True)


def test_what_was_learned_outlives_a_table_that_does_not_know_it_yet() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, BAD, DOWN, times=RULES.failures)
    lanes.read(Records([]))
    assert lanes.lane(BAD).held
    lanes.written(lanes.changes[:])
    lanes.read(Records([]))
    assert (lanes.lane(BAD).held, lanes.changes) == (False, [])


# A host that serves many: what it answers is its recipient's own matter first


def to(lanes: Lanes[str], recipient: str, error: DeliveryError | None) -> Breaker | None:
    """One attempt at the host GOOD."""
    lane = lanes.apart("Webhook", recipient) or lanes.lane(GOOD)
    assert lanes.put(recipient, lane)
    turn = lanes.take(0.0)
    assert turn is not None
    return lanes.ended(turn[0], error, door=("Webhook", recipient) if turn[0].serves_many else None)


ANSWERED = TransientError("500", reason=Reason.SERVER, status=500)
WAIT = TransientError("429", reason=Reason.RATE_LIMITED, status=429, retry_after=60.0)


@pytest.mark.parametrize(("error", "times"), [(ANSWERED, RULES.failures), (WAIT, 1)])
def test_one_recipient_that_fails_closes_its_own_door(error: DeliveryError, times: int) -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    for _ in range(times):
        to(lanes, "https://good/a", error)
    [change] = lanes.changes
    assert (change.endpoint.recipient_prefix, change.endpoint.exact) == ("https://good/a", True)
    assert not lanes.lane(GOOD).held
    assert to(lanes, "https://good/b", None) is None


def test_several_recipients_that_fail_in_a_row_close_the_host() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    for recipient in "abcabc":
        if not lanes.lane(GOOD).held:
            to(lanes, f"https://good/{recipient}", ANSWERED)
    assert lanes.lane(GOOD).held


def test_one_that_is_reached_clears_the_host() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    for recipient in ["a", "b", "ok", "a", "b", "ok", "a", "b"]:
        to(lanes, f"https://good/{recipient}", None if recipient == "ok" else ANSWERED)
    assert not lanes.lane(GOOD).held


def test_a_host_that_takes_no_connection_is_to_blame_itself() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    for _ in range(RULES.failures):
        assert to(lanes, "https://good/a", DOWN) is lanes.lane(GOOD).breaker
    assert lanes.lane(GOOD).held


def test_failing_endpoints_are_remembered_however_many() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    hosts = [Endpoint(f"h{n}", "Webhook", f"https://h{n}/") for n in range(12_000)]
    for host in hosts:
        attempt(lanes, host, DOWN, times=RULES.failures - 1)
    lanes.read(Records([]))
    attempt(lanes, hosts[0], DOWN)
    assert [change.what for change in lanes.changes] == [Learned.HELD]


def test_a_pace_is_kept() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lane = lanes.lane(GOOD, per_second=1.0)
    assert sum(lanes.put(str(n), lane) for n in range(100)) == START
    started = [(now, row) for now in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5) for row in take_all(lanes, now)]
    assert started == [(0.0, "0"), (1.0, "1"), (2.0, "2")]


STEPS = st.sampled_from(["put", "put", "start", "start", "unstarted", "ok", "down", "gone", "drain"])


@given(st.lists(st.tuples(st.sampled_from("abc"), STEPS), max_size=200))
def test_no_row_is_lost_or_handed_out_twice(steps: list[tuple[str, str]]) -> None:
    lanes: Lanes[int] = Lanes(Limits(ceiling=50, at_once=8), RULES)
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
        assert lanes.ready == sum(len(lane.waiting) for lane in known if lane.answers)
        assert lanes.running == sum(lane.running for lane in known) == len(running)
        assert lanes.silent == sum(lane.running for lane in known if not lane.answers)
    assert {row for row, _ in lanes.drain(everything=True)} == inside
    assert (lanes.waiting, lanes.ready) == (0, 0)


def test_an_endpoint_that_is_busy_gets_fewer_and_is_neither_held_nor_opened() -> None:
    busy = TransientError("421 too many connections", reason=Reason.BUSY, retry_after=10.0)
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    attempt(lanes, GOOD, None, times=11)
    attempt(lanes, GOOD, busy, times=2)
    assert (lanes.lane(GOOD).limit, lanes.changes) == (4, [])
    lanes.read(Records([replace(PROBE, endpoint=GOOD)]))
    attempt(lanes, GOOD, busy)
    assert (lanes.lane(GOOD).breaker.state, lanes.changes) == (State.PROBING, [])
