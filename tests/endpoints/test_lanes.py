"""Whose turn it is, without a database or a network."""

from __future__ import annotations

import hashlib
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


def test_a_recipient_that_fails_now_and_then_is_not_closed_by_rows_that_were_there_before_its_door() -> None:
    """They began in the host's lane, and end there: what they say of the recipient counts all the same."""
    lanes, door = new(), ("Webhook", "https://good/a")
    host = lanes.lane(GOOD)
    for _ in range(3 * RULES.failures):
        for error in (ANSWERED, None):
            lanes.put("row", host)
            assert lanes.take(0.0)
            lanes.ended(host, error, door=door)
    assert (lanes.doors[door].held, lanes.doors[door].breaker.failures, host.held) == (False, 0, False)
    assert lanes.doors[door].answers


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


# Number by number


RECOVERING = OnRecord(GOOD, State.RECOVERING)


def new(limits: Limits = LIMITS) -> Lanes[str]:
    return Lanes(limits, RULES)


def read(lanes: Lanes[str], *held: OnRecord) -> None:
    lanes.read(Records(held))


@pytest.mark.parametrize(("at_once", "silent"), [(1, 1), (2, 1), (4, 3), (100, 75)])
def test_three_quarters_of_all_attempts_may_be_silent_and_always_one(at_once: int, silent: int) -> None:
    assert Limits(ceiling=9, at_once=at_once).silent == silent


@pytest.mark.parametrize(
    ("seconds", "rows"), [(10.0, 20), (1.0, 20), (0.25, 20), (0.2, 25), (0.1, 50), (0.05, 100), (0.001, 100)]
)
def test_a_quick_endpoint_has_more_rows_in_hand(seconds: float, rows: int) -> None:
    lane = new().lane(GOOD)
    lane.seconds = seconds
    assert lane.capacity == rows


@pytest.mark.parametrize(
    ("per_second", "pace", "rows"),
    [(None, None, 20), (1.0, 1.0, 5), (0.1, 0.1, 1), (0.5, 0.5, 2), (40.0, 40.0, 200)],
)
def test_a_pace_says_how_many_rows_are_in_hand(
    per_second: float | None, pace: float | None, rows: int
) -> None:
    lane = new().lane(GOOD, per_second=per_second)
    assert (lane.pace, lane.capacity) == (pace, rows)


@pytest.mark.parametrize(("per_second", "pace"), [(None, 7.0), (3.0, 3.0), (100.0, 7.0)])
def test_a_recovery_has_a_pace_and_never_a_quicker_one_than_its_own(
    per_second: float | None, pace: float
) -> None:
    lanes = new(Limits(ceiling=50, recovery=7.0))
    lane = lanes.lane(GOOD, per_second=per_second)
    read(lanes, RECOVERING)
    assert (lane.pace, lane.capacity) == (pace, round(pace * START))


def test_a_lane_is_full_at_its_capacity_and_starts_up_to_its_slots() -> None:
    lanes = new()
    lane = lanes.lane(GOOD, per_second=0.5)
    assert (lane.full, lane.may_start(0.0)) == (False, False)
    assert [lanes.put(row, lane) for row in "abc"] == [True, True, False]
    assert (lane.full, lane.may_start(0.0)) == (True, True)
    lane.running = lane.slots - 1
    assert lane.may_start(0.0)
    lane.running = lane.slots
    assert not lane.may_start(0.0)
    lane.running, lane.not_before = 0, 2.0
    assert (lane.may_start(1.9), lane.may_start(2.0)) == (False, True)


def test_the_limits_of_a_lane_are_the_lowest_that_anybody_knew() -> None:
    lanes = new(Limits(ceiling=9))
    lane = lanes.lane(GOOD, per_second=2.0)
    assert (lane.ceiling, lane.limit, lane.per_second) == (9, START, 2.0)
    assert lanes.lane(GOOD, ceiling=10) is lane
    assert (lane.ceiling, lane.limit, lane.per_second) == (9, START, 2.0)
    lanes.lane(GOOD, ceiling=7, per_second=3.0)
    assert (lane.ceiling, lane.limit, lane.per_second) == (7, START, 3.0)
    lanes.lane(GOOD, ceiling=2)
    assert (lane.ceiling, lane.limit) == (2, 2)
    assert new(Limits(ceiling=3)).lane(GOOD).limit == 3
    assert lanes.lane(BAD).key == "bad"
    assert set(lanes.lanes) == {"good", "bad"}


def test_one_host_in_two_spellings_is_one_lane() -> None:
    lanes, other = new(), Endpoint("good", "Webhook", "https://GOOD/")
    assert lanes.lane(GOOD) is lanes.lane(other)
    read(lanes, OnRecord(GOOD, State.HELD))
    assert lanes.closed() == {GOOD, other}
    assert lanes.lane(GOOD).serves_many
    assert not lanes.lane(Endpoint("slack", "Slack")).serves_many


# Doors and pauses


def test_a_row_waits_apart_behind_a_pause_or_its_own_door() -> None:
    lanes, pause = new(), Endpoint("paused", "Webhook", "https://good/x")
    assert lanes.apart("Webhook", "https://good/x1") is None
    read(lanes, OnRecord(pause, State.HELD, paused=True), OnRecord(BAD, State.HELD))
    assert lanes.apart("Webhook", "https://good/x1") is lanes.lane(pause)
    assert lanes.apart("Webhook", "https://good/y") is None
    assert lanes.apart("Webhook", "https://bad/y") is None, "what is held is no pause"
    door = lanes.door(lanes.lane(GOOD), "Webhook", "https://good/y")
    assert lanes.apart("Webhook", "https://good/y") is door
    assert lanes.apart("Slack", "https://good/y") is None


def test_a_door_is_named_alike_by_every_worker() -> None:
    lanes, recipient = new(), "https://good/\udc80y"
    lane = lanes.door(lanes.lane(GOOD), "Webhook", recipient)
    digest = hashlib.sha256(b"https://good/?y").hexdigest()[:12]
    assert lane.breaker.spellings == {Endpoint(f"good {digest}", "Webhook", recipient, exact=True)}
    assert lane.key == f"good {digest}"


def test_a_door_that_is_on_record_is_found_by_its_recipient_as_long_as_it_matters() -> None:
    lanes, door = new(), Endpoint("good 1", "Webhook", "https://good/y", exact=True)
    read(lanes, OnRecord(door, State.HELD), OnRecord(BAD, State.HELD))
    assert lanes.doors == {("Webhook", "https://good/y"): lanes.lane(door)}
    assert lanes.door(lanes.lane(GOOD), "Webhook", "https://good/z") is not lanes.lane(door)
    lanes.doors["Webhook", "https://good/z"].running = 1
    read(lanes)
    assert list(lanes.doors) == [("Webhook", "https://good/z")]
    lanes.doors["Webhook", "https://good/z"].running = 0
    read(lanes)
    assert lanes.doors == {}


@pytest.mark.parametrize("error", [ANSWERED, WAIT])
def test_whom_to_blame_is_the_door_until_several_failed(error: DeliveryError) -> None:
    lanes = new()
    blamed = [to(lanes, f"https://good/{recipient}", error) for recipient in "abc"]
    keys = [breaker.key if breaker else None for breaker in blamed]
    assert all(str(key).startswith("good ") for key in keys[:2])
    assert (keys[2] == "good") == lanes.lane(GOOD).held
    doors = list(lanes.doors.values())
    assert [door.host for door in doors] == [lanes.lane(GOOD)] * 3
    assert {door.limit for door in doors} == {START // 2}


def test_a_door_that_is_reached_clears_its_host() -> None:
    lanes = new()
    for recipient in "ab":
        to(lanes, f"https://good/{recipient}", ANSWERED)
    assert len(lanes.lane(GOOD).breaker.recipients) == 2
    to(lanes, "https://good/a", None)
    assert not lanes.lane(GOOD).breaker.recipients


def test_a_host_that_is_probed_is_to_blame_for_what_its_probe_finds() -> None:
    lanes = new()
    read(lanes, replace(PROBE, endpoint=GOOD))
    assert to(lanes, "https://good/a", ANSWERED) is lanes.lane(GOOD).breaker
    assert lanes.lane(GOOD).held
    assert lanes.doors == {}


# Turns


def test_those_that_answer_and_those_that_do_not_take_turns() -> None:
    lanes = new()
    attempt(lanes, GOOD, None)
    fill(lanes, GOOD, 3)
    fill(lanes, BAD, 2)
    assert (lanes.waiting, lanes.ready, lanes.silent_ones()) == (5, 3, {BAD})
    first, *rest = take_all(lanes)
    order = [row.split()[0] for row in (first, *rest)]
    assert order == ["good", "bad", "good", "bad", "good"]
    assert (lanes.waiting, lanes.ready, lanes.running, lanes.silent) == (0, 0, 5, 2)


def test_who_may_not_start_goes_to_the_end_of_the_line() -> None:
    lanes = new()
    paced = lanes.lane(BAD, per_second=1.0)
    for row in ("bad 0", "bad 1"):
        lanes.put(row, paced)
    fill(lanes, GOOD, 3)
    assert take_all(lanes, 0.0) == ["bad 0", "good 0", "good 1", "good 2"]
    assert lanes.has_paced_rows()
    assert take_all(lanes, 0.99) == []
    assert take_all(lanes, 1.0) == ["bad 1"]
    assert not lanes.has_paced_rows()


def test_a_pace_leaves_a_tenth_of_a_second_of_idleness_to_catch_up() -> None:
    lanes = new()
    lane = lanes.lane(GOOD, per_second=10.0)
    for n in range(9):
        lanes.put(str(n), lane)
    starts = []
    for now in (0.0, 5.0, 5.0, 5.04, 5.11):
        starts.append(lanes.take(now) is not None)
        if lane.not_before > now:
            assert lane.not_before - now <= 0.1 + 1e-9
    assert starts == [True, True, True, False, True]
    assert lane.not_before == pytest.approx(5.2)


def test_half_of_the_silent_share_is_kept_for_those_that_have_nothing_in_flight() -> None:
    lanes = new(Limits(ceiling=50, at_once=8))  # six may be silent
    fill(lanes, BAD, 9)
    assert len(take_all(lanes)) == 3
    others = [Endpoint(f"s{n}", "Webhook", f"https://s{n}/") for n in range(5)]
    for other in others:
        fill(lanes, other, 2)
    assert len(take_all(lanes)) == 3
    assert lanes.silent == 6
    lanes.unstarted(lanes.lane(BAD))
    assert (lanes.silent, lanes.running, lanes.lane(BAD).running) == (5, 5, 2)
    assert len(take_all(lanes)) == 1


def test_who_begins_to_answer_or_stops_changes_the_line_with_all_it_has() -> None:
    lanes = new()
    fill(lanes, GOOD, 4)
    lane, _ = lanes.take(0.0) or pytest.fail("none")
    lanes.take(0.0)
    lanes.ended(lane, None)
    assert (lane.answers, lanes.ready, lanes.silent, lanes.silent_ones()) == (True, 2, 0, frozenset())
    assert [list(lanes.turns[answers]) for answers in (True, False)] == [[lane], []]
    lanes.ended(lane, None)
    for _ in range(2):
        lanes.take(0.0)
    fill(lanes, GOOD, 1)
    lanes.ended(lane, DOWN)
    assert (lane.answers, lanes.ready, lanes.silent, lanes.silent_ones()) == (False, 0, 1, {GOOD})
    assert [list(lanes.turns[answers]) for answers in (True, False)] == [[], [lane]]


# What an attempt's end teaches


def test_how_long_attempts_take_of_late() -> None:
    lanes = new()
    fill(lanes, GOOD, 4)
    lane = lanes.lane(GOOD)
    for took, known in ((2.0, 1.1), (1.0, 1.09)):
        lanes.take(0.0)
        lanes.ended(lane, None, took)
        assert lane.seconds == pytest.approx(known)
    lanes.take(0.0)
    lanes.ended(lane, None)
    assert lane.seconds == pytest.approx(1.081)
    for _ in range(200):
        lanes.put("x", lane)
        lanes.take(0.0)
        lanes.ended(lane, None, 0.0)
    assert lane.seconds == 0.001


@pytest.mark.parametrize(
    ("error", "limit", "answers"),
    [
        (None, START + 1, True),
        (PermanentError("400", reason=Reason.CLIENT), START + 1, True),
        (PermanentError("no address", reason=Reason.CONFIG), START, False),
        (TransientError("421", reason=Reason.BUSY), START // 2, False),
        (DOWN, START // 2, False),
    ],
)
def test_what_an_end_is_worth(error: DeliveryError | None, limit: int, answers: bool) -> None:
    lanes = new()
    attempt(lanes, GOOD, error)
    lane = lanes.lane(GOOD)
    assert (lane.limit, lane.answers, lanes.running, lane.running) == (limit, answers, 0, 0)


@pytest.mark.parametrize("error", [TransientError("421", reason=Reason.BUSY), DOWN])
def test_one_attempt_is_always_allowed(error: DeliveryError) -> None:
    lanes = new(Limits(ceiling=1))
    attempt(lanes, GOOD, error)
    assert lanes.lane(GOOD).limit == 1
    door = lanes.lane(GOOD, ceiling=1)
    lanes.put("x", door)
    lanes.take(0.0)
    lanes.ended(door, ANSWERED, door=("Webhook", "https://good/a"))
    assert lanes.doors["Webhook", "https://good/a"].limit == 1


@pytest.mark.parametrize("ceiling", [3, 50])
def test_who_recovers_or_is_past_its_limit_begins_with_few(ceiling: int) -> None:
    lanes = new(Limits(ceiling=ceiling))
    lane = lanes.lane(GOOD)
    lane.limit = lane.ceiling
    read(lanes, OnRecord(GOOD, State.PAST_LIMIT))
    assert lane.limit == min(START, ceiling)
    lane.limit = lane.ceiling
    read(lanes, OnRecord(GOOD, State.PAST_LIMIT))
    assert lane.limit == ceiling, "it was so before"
    attempt(lanes, GOOD, None)
    assert (lane.breaker.state, lane.limit) == (State.RECOVERING, min(START, ceiling))
    lane.limit = 1
    attempt(lanes, GOOD, None)
    assert lane.limit == 2


@pytest.mark.parametrize("first", [0, 1], ids=["its own first", "a recipient's first"])
def test_when_a_failure_began_counts_for_its_endpoint_and_its_host(first: int) -> None:
    lanes = new()
    lane, door = lanes.lane(GOOD), ("Webhook", "https://good/a")
    begun = [SOON - timedelta(minutes=2), SOON - timedelta(minutes=1)]
    for at, of in zip(begun, [door, None] if first else [None, door], strict=True):
        lanes.put("x", lane)
        lanes.take(0.0)
        lanes.ended(lane, ANSWERED, started_at=at, door=of)
    assert lane.breaker.since == begun[0]
    assert lanes.doors[door].breaker.since == begun[0 if first else 1]


def test_half_of_an_odd_share_is_the_smaller_half() -> None:
    lanes = new(Limits(ceiling=50, at_once=4))  # three may be silent
    fill(lanes, BAD, 9)
    assert len(take_all(lanes)) == 1


# What is claimed, and given back


def test_room_is_what_open_endpoints_can_take_in() -> None:
    lanes = new()
    fill(lanes, GOOD, 3)
    assert lanes.room() == 17
    fill(lanes, BAD, 20)
    assert lanes.room() == 17
    lanes.lane(BAD).limit = 1
    assert lanes.room() == 17, "one that has too many takes from nobody"
    read(lanes, OnRecord(GOOD, State.HELD))
    assert lanes.room() == 0


def test_half_of_what_fits_is_enough_to_claim_no_more() -> None:
    lanes = new()
    lane = lanes.lane(GOOD)
    attempt(lanes, GOOD, None)
    lane.limit = START
    fill(lanes, GOOD, 10)
    assert (lanes.closed(), lanes.answering()) == (frozenset(), {GOOD})
    fill(lanes, GOOD, 1)
    assert (lanes.closed(), lanes.answering()) == ({GOOD}, frozenset())
    fill(lanes, BAD, 1)
    assert lanes.answering() == frozenset(), "it did not answer yet"
    read(lanes, OnRecord(GOOD, State.HELD))
    lanes.drain()
    assert (lanes.closed(), lanes.answering()) == ({GOOD}, frozenset())


def test_what_is_drained_is_what_is_held_or_all() -> None:
    lanes = new()
    attempt(lanes, GOOD, None)
    fill(lanes, GOOD, 2)
    fill(lanes, BAD, 2)
    lanes.lane(BAD).breaker.seconds = 9.0
    assert sorted(lanes.rows()) == ["bad 0", "bad 1", "good 0", "good 1"]
    lanes.lane(BAD).breaker.state = State.HELD
    assert lanes.drain() == [("bad 0", 9.0), ("bad 1", 9.0)]
    assert (lanes.waiting, lanes.ready, list(lanes.rows())) == (2, 2, ["good 0", "good 1"])
    assert lanes.drain(everything=True) == [("good 0", 0.0), ("good 1", 0.0)]
    assert (lanes.waiting, lanes.ready, lanes.take(0.0)) == (0, 0, None)
    assert [len(turns) for turns in lanes.turns.values()] == [0, 0]


# What all workers know


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_holds_of_one_endpoint_the_one_that_lets_nothing_through_counts(order: int) -> None:
    lanes, other = new(), Endpoint("good", "Webhook", "https://GOOD/")
    read(lanes, *[RECOVERING, OnRecord(other, State.HELD)][::order])
    assert lanes.lane(GOOD).held


def test_failures_that_others_saw_are_known_and_forgotten_with_them() -> None:
    lanes = new()
    since = SOON - timedelta(minutes=9)
    lanes.read(Records((), [(GOOD, since, 4), (BAD, SOON, 2)]))
    known = {key: (lane.breaker.since, lane.breaker.streak) for key, lane in lanes.lanes.items()}
    assert known == {"good": (since, 4), "bad": (SOON, 2)}
    lanes.read(Records((), [(BAD, SOON, 2)]))
    known = {key: (lane.breaker.since, lane.breaker.streak) for key, lane in lanes.lanes.items()}
    assert known == {"good": (None, 0), "bad": (SOON, 2)}


def test_what_is_not_written_yet_is_not_forgotten() -> None:
    lanes = new()
    attempt(lanes, GOOD, DOWN)
    lanes.report_failures()
    [change] = lanes.changes
    assert (change.what, change.endpoint, change.failures) == (Learned.FAILS, GOOD, 1)
    read(lanes)
    assert lanes.lane(GOOD).breaker.streak == 1
    lanes.written([change])
    assert (lanes.changes, lanes.lane(GOOD).breaker.unwritten) == ([], 0)
    read(lanes)
    assert lanes.lane(GOOD).breaker.streak == 0, "another worker delivered there"


def test_the_first_changes_are_written_and_the_others_kept() -> None:
    lanes = new()
    for endpoint in (GOOD, BAD):
        attempt(lanes, endpoint, DOWN)
    lanes.report_failures()
    first, second = lanes.changes
    del lanes.lanes[first.endpoint.key]
    lanes.written([first])
    assert lanes.changes == [second]
    assert lanes.lane(second.endpoint).breaker.unwritten == 1


def test_every_endpoint_that_fails_or_is_probed_is_reported() -> None:
    lanes = new()
    read(lanes, PROBE, replace(PROBE, endpoint=GOOD))
    lanes.give_back_probes()
    assert [(c.what, c.endpoint) for c in lanes.changes] == [
        (Learned.PROBE_UNUSED, BAD),
        (Learned.PROBE_UNUSED, GOOD),
    ]


def test_beyond_many_the_idle_are_forgotten_and_what_matters_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.endpoints.lanes.MANY", 3)
    lanes = new()
    waiting, running, failing, idle = (Endpoint(name, "Webhook", f"https://{name}/") for name in "wrfi")
    lanes.lane(idle)
    fill(lanes, running, 1)
    lanes.take(0.0)
    fill(lanes, waiting, 1)
    read(lanes)
    assert set(lanes.lanes) == {"w", "r", "i"}
    lanes.read(Records((), [(failing, SOON, 2)]))
    assert set(lanes.lanes) == {"w", "r", "f"}


# Rows that go out in one attempt


def combining(endpoint: Endpoint, rows: int) -> Lanes[str]:
    """Three at most; who asks for the lane without knowing that changes nothing."""
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    for at_once in (2, 3, 1):
        lanes.lane(endpoint, at_once=at_once)
    lanes.lane(endpoint)
    fill(lanes, endpoint, rows)
    return lanes


def test_rows_that_may_go_along_are_taken_in_their_order_and_the_others_keep_theirs() -> None:
    lanes = combining(GOOD, 0)
    attempt(lanes, GOOD, None)
    fill(lanes, GOOD, 6)
    lane = lanes.lane(GOOD)
    assert lanes.take(0.0) == (lane, "good 0")
    assert lanes.take_with(lane, lambda row: row != "good 1") == ["good 2", "good 3"]
    assert (list(lanes.rows()), lanes.waiting, lanes.ready) == (["good 1", "good 4", "good 5"], 3, 3)
    assert lanes.take_with(lane, lambda _: False) == []
    assert lanes.take(0.0) == (lane, "good 1")
    assert lanes.take_with(lane, lambda _: True) == ["good 4", "good 5"]
    assert (lanes.waiting, lanes.ready, lanes.take(0.0)) == (0, 0, None)
    fill(lanes, GOOD, 1)
    assert take_all(lanes) == ["good 0"]
    assert lanes.take_with(lane, lambda _: True) == []


def test_nobody_waits_for_what_went_along_to_an_endpoint_that_does_not_answer() -> None:
    lanes = combining(BAD, 3)
    assert lanes.take(0.0)
    assert lanes.silent_ones() == {BAD}
    assert lanes.take_with(lanes.lane(BAD), lambda _: True) == ["bad 1", "bad 2"]
    assert (lanes.waiting, lanes.ready, lanes.silent_ones()) == (0, 0, set())


def test_a_paced_lane_keeps_as_many_in_hand_as_its_attempts_take() -> None:
    lane = combining(GOOD, 0).lane(GOOD, per_second=2.0)
    assert (lane.at_once, lane.capacity) == (3, 2 * START * 3)


def test_a_probe_that_repeats_the_words_of_the_hold_holds_it_on() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lanes.read(Records([replace(PROBE, error="SMTP 535: login refused")]))
    attempt(lanes, BAD, PermanentError("SMTP 535: login refused", reason=Reason.CLIENT))
    assert [(change.what, change.seconds) for change in lanes.changes] == [(Learned.HELD, 300.0)]


def test_what_is_urgent_goes_first_and_bounds_the_pace() -> None:
    lanes: Lanes[str] = Lanes(LIMITS, RULES)
    lane = lanes.lane(GOOD, per_second=0.01)
    fill(lanes, GOOD, 2)
    assert take_all(lanes, 0.0) == ["good 0"]
    assert lane.not_before > 90
    assert lanes.put("urgent", lane, within=60.0, now=0.0)
    assert take_all(lanes, 59.9) == []
    assert take_all(lanes, 60.0) == ["urgent"]
