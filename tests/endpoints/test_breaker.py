"""The state of one endpoint, without a sweep: what each failure, delivery and record makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from notifications.endpoints.breaker import Breaker, Learned, OnRecord, Rules, State
from notifications.exceptions import DeliveryError, PermanentError, Reason, TransientError
from notifications.notifiers.base import Endpoint

RULES = Rules()
HOST = Endpoint("host", "Webhook", "https://host/")
NOW = datetime(2026, 1, 17, 3, 2, tzinfo=UTC)
DOWN = TransientError("no connection", reason=Reason.NETWORK)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker("host", RULES, [], {HOST})


def fail(breaker: Breaker, times: int, at: datetime = NOW) -> None:
    for _ in range(times):
        breaker.failed(DOWN, at)


def test_as_many_failures_in_a_row_as_the_rules_say_hold_it(breaker: Breaker) -> None:
    fail(breaker, RULES.failures - 1)
    assert breaker.state == State.OPEN
    fail(breaker, 1)
    assert breaker.state == State.HELD
    [change] = breaker.changes
    assert (change.what, change.endpoint, change.error) == (Learned.HELD, HOST, DOWN)
    assert (change.seconds, change.times, change.since) == (RULES.hold, 1, NOW)
    assert (change.failures, change.died) == (RULES.failures, 0)


def test_few_failures_hold_it_where_they_last_long(breaker: Breaker) -> None:
    fail(breaker, RULES.few - 1)
    breaker.failed(DOWN, NOW + RULES.over - timedelta(seconds=1))
    assert breaker.state == State.OPEN
    breaker.failed(DOWN, NOW + RULES.over)
    assert breaker.state == State.HELD
    assert breaker.since == NOW


def test_the_first_failure_counts_whatever_the_order_they_are_told_in(breaker: Breaker) -> None:
    fail(breaker, 1, NOW)
    fail(breaker, 1, NOW - timedelta(seconds=9))
    assert breaker.since == NOW - timedelta(seconds=9)


def test_a_death_is_reported_as_one_with_what_is_known_of_the_failures(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.killed(DOWN)
    [change] = breaker.changes
    assert (change.what, change.died, change.failures, change.since) == (Learned.FAILS, 1, 2, NOW)
    assert breaker.recorded == 2
    breaker.report_failures()
    assert len(breaker.changes) == 1, "nothing new to report"


def test_each_hold_is_twice_the_one_before_up_to_the_longest(breaker: Breaker) -> None:
    lengths = []
    for _ in range(6):
        breaker.read(OnRecord(HOST, State.HELD, times=breaker.times, ours=True))
        fail(breaker, 1)
        lengths.append(breaker.seconds)
    assert lengths == [30, 60, 120, 240, 300, 300]


def test_a_failed_probe_holds_it_at_once_and_a_good_one_lets_it_recover(breaker: Breaker) -> None:
    probe = OnRecord(HOST, State.HELD, times=3, ours=True, until=NOW)
    breaker.read(probe)
    assert (breaker.state, breaker.times, breaker.probe_ends) == (State.PROBING, 3, NOW)
    breaker.delivered()
    assert (breaker.state, breaker.times, breaker.streak, breaker.recorded) == (State.RECOVERING, 0, 0, 0)
    assert [change.what for change in breaker.changes] == [Learned.DELIVERS]


def test_what_began_before_the_hold_does_not_end_it(breaker: Breaker) -> None:
    fail(breaker, RULES.failures)
    breaker.delivered()
    assert (breaker.state, breaker.streak) == (State.HELD, RULES.failures)


def test_past_its_limit_it_is_not_held_again_and_a_delivery_lets_it_recover(breaker: Breaker) -> None:
    breaker.read(OnRecord(HOST, State.PAST_LIMIT))
    fail(breaker, 2 * RULES.failures)
    assert (breaker.state, breaker.changes) == (State.PAST_LIMIT, [])
    breaker.delivered()
    assert breaker.state == State.RECOVERING


@pytest.mark.parametrize(("wish", "seconds"), [(None, 900), (7.0, 7), (-1.0, 0), (1e9, 3600)])
def test_one_refusal_holds_it_for_what_it_asks_for_within_bounds(
    breaker: Breaker, wish: float | None, seconds: float
) -> None:
    breaker.hold(PermanentError("401", reason=Reason.AUTH, retry_after=wish) if wish is None else asked(wish))
    assert (breaker.state, breaker.seconds) == (State.HELD, seconds)


def asked(wish: float) -> TransientError:
    return TransientError("429", reason=Reason.RATE_LIMITED, retry_after=wish)


def test_a_host_is_to_blame_when_several_recipients_failed(breaker: Breaker) -> None:
    for recipient in ["a"] * 10 + ["b"] * 10:
        breaker.failed(DOWN, NOW, recipient)
    assert breaker.state == State.OPEN
    breaker.failed(DOWN, NOW, "c")
    assert breaker.state == State.HELD


def test_what_is_not_written_yet_is_newer_than_what_the_table_says(breaker: Breaker) -> None:
    fail(breaker, RULES.failures)
    breaker.read(None)
    assert (breaker.state, breaker.unwritten) == (State.HELD, 1)
    breaker.unwritten = 0
    breaker.read(None)
    assert (breaker.state, breaker.times, breaker.seconds) == (State.OPEN, 0, 0.0)


def test_a_probe_that_no_row_came_for_is_given_back(breaker: Breaker) -> None:
    breaker.read(OnRecord(HOST, State.HELD, ours=True))
    breaker.give_back_probe()
    assert (breaker.state, [change.what for change in breaker.changes]) == (
        State.OPEN,
        [Learned.PROBE_UNUSED],
    )
    breaker.give_back_probe()
    assert len(breaker.changes) == 1


def test_what_all_sweeps_know_of_its_failures_only_adds_up(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.read_failures(NOW - timedelta(hours=1), 7)
    breaker.read_failures(NOW, 1)
    assert (breaker.since, breaker.streak, breaker.recorded) == (NOW - timedelta(hours=1), 7, 7)
    assert not breaker.idle


def test_failures_are_counted_anew_after_a_hold_and_after_a_recovery(breaker: Breaker) -> None:
    fail(breaker, RULES.failures)
    assert breaker.failures == 0
    breaker.move(State.RECOVERING)
    assert (breaker.failures, breaker.times, breaker.seconds) == (0, 0, 0.0)


def test_what_fails_at_the_end_of_a_sweep_is_reported_once(breaker: Breaker) -> None:
    fail(breaker, 1)
    for _ in range(2):
        breaker.report_failures()
    [change] = breaker.changes
    assert (change.what, change.error, change.failures) == (Learned.FAILS, DOWN, 1)
    assert (breaker.recorded, breaker.unwritten) == (1, 1)
    breaker.killed(DOWN)
    assert (breaker.changes[-1].error, breaker.unwritten) == (DOWN, 2)


def test_few_failures_are_enough_exactly_where_they_last(breaker: Breaker) -> None:
    for minutes in range(RULES.few):
        assert breaker.state == State.OPEN
        breaker.failed(DOWN, NOW + minutes * RULES.over)
    assert breaker.state == State.HELD


def test_a_delivery_forgets_which_recipients_failed(breaker: Breaker) -> None:
    for recipient in ("a", "b"):
        breaker.failed(DOWN, NOW, recipient)
    breaker.delivered()
    for recipient in ["c"] * 10:
        breaker.failed(DOWN, NOW, recipient)
    assert breaker.state == State.OPEN


def test_it_may_be_forgotten_only_while_nothing_is_known_of_it(breaker: Breaker) -> None:
    assert breaker.idle
    assert not breaker.closed
    breaker.unwritten = 1
    assert not breaker.idle
    breaker.move(State.HELD)
    assert breaker.closed


def test_a_failure_more_than_is_on_record_is_reported(breaker: Breaker) -> None:
    breaker.read_failures(NOW, 1)
    breaker.report_failures()
    assert breaker.changes == []
    fail(breaker, 1)
    breaker.report_failures()
    assert [change.failures for change in breaker.changes] == [2]


def test_a_failure_that_is_not_on_record_yet_is_not_forgotten(breaker: Breaker) -> None:
    fail(breaker, 1)
    assert (breaker.recorded, breaker.unwritten) == (0, 0)
    assert not breaker.idle


HELD_FOR = "SMTP 535: login refused: ask the postmaster"


def probed(breaker: Breaker, text: str) -> DeliveryError | None:
    breaker.read(OnRecord(HOST, State.HELD, ours=True, error=HELD_FOR))
    return breaker.repeated(PermanentError(text, reason=Reason.CLIENT, status=535))


def test_a_probe_that_is_refused_in_the_words_of_the_hold_says_the_same_of_the_endpoint(
    breaker: Breaker,
) -> None:
    error = probed(breaker, "SMTP 535 login")
    assert error
    assert (error.text, error.reason, error.status, error.retry_after) == (HELD_FOR, Reason.AUTH, 535, 300)


@pytest.mark.parametrize(
    "text",
    ["SMTP 535", "SMTP 535 mailbox full", "SMTP 535 loginX", "SMTP 535 login\xa0refused", HELD_FOR + " now"],
)
def test_other_words_or_too_few_of_them_are_the_rows_own(breaker: Breaker, text: str) -> None:
    assert probed(breaker, text) is None


def test_only_a_probe_repeats_what_the_endpoint_is_held_for(breaker: Breaker) -> None:
    breaker.held_for = HELD_FOR
    assert breaker.repeated(PermanentError(HELD_FOR)) is None
