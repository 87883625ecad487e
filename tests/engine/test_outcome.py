"""What an attempt's end means for its notification: decided by numbers alone, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.conf import Conf, made
from notifications.engine import outcome
from notifications.exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from notifications.notifiers.base import Delivered
from notifications.queue.claim import Claimed
from notifications.queue.record import Outcome

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
CONF = made({"CHANNELS": {"Webhook": {"NOTIFIER": "x"}}, "HOLD_LIMIT": timedelta(hours=1)})


def event(**fields: Any) -> Claimed:
    row = Claimed(
        "id-1",
        "Expiry",
        None,
        "webhook",
        "ops",
        "text",
        "pending",
        0,
        0,
        NOW,
        NOW,
        NOW + timedelta(minutes=2),
    )
    return row._replace(**fields)


def decided(
    answer: Delivered | Exception | None, row: Claimed | None = None, settings: Conf = CONF
) -> Outcome:
    return outcome.decide(row or event(), answer, settings, NOW, 12, jitter=lambda: 1.0)


def test_what_the_provider_took_is_sent() -> None:
    assert decided(Delivered(202, "ok")) == Outcome(
        event(), "Webhook", "sent", "sent", NOW, 12, status_code=202
    )


@pytest.mark.parametrize("policy", ["sent", "dead"])
def test_a_channel_without_a_notifier_is_what_the_settings_say_and_says_so(policy: str) -> None:
    row = event(channel="Pager")
    text = "nothing was delivered: the channel Pager has no notifier"
    assert decided(None, row, made({"MISSING_NOTIFIER": policy})) == Outcome(
        row, "Pager", policy, "no_notifier", NOW, 12, error=text
    )


@pytest.mark.parametrize(("error", "kind"), [(TransientError, "transient"), (UnknownOutcome, "unknown")])
def test_a_transient_failure_waits_for_its_turn(error: type[DeliveryError], kind: str) -> None:
    row = event(retry_count=2)
    assert decided(error("down", reason=Reason.SERVER, status=503), row) == Outcome(
        row, "Webhook", "failed", kind, NOW, 12, timedelta(minutes=4), "down", "server", 503
    )


def test_the_wait_is_by_the_sites_settings_and_never_above_their_cap() -> None:
    site = made({"BACKOFF_BASE": 10, "BACKOFF_CAP": 35})
    waits = [decided(TransientError("down"), event(retry_count=n), site).delay for n in range(4)]
    assert waits == [timedelta(seconds=s) for s in (10, 20, 35, 35)]


def test_the_providers_wish_is_spread_by_chance() -> None:
    wish = TransientError("slow down", reason=Reason.RATE_LIMITED, retry_after=600)
    assert decided(wish).delay == timedelta(seconds=660)


def test_chance_is_the_default() -> None:
    wish = TransientError("slow down", retry_after=600)
    waits = {outcome.decide(event(), wish, CONF, NOW, 12).delay for _ in range(9)}
    assert len(waits) > 1


def test_a_permanent_failure_is_dead_at_once() -> None:
    error = PermanentError("no such channel", reason=Reason.GONE, status=404, advice="name another")
    assert decided(error) == Outcome(
        event(), "Webhook", "dead", "permanent", NOW, 12, None, "no such channel: name another", "gone", 404
    )


def test_the_last_attempt_of_the_budget_is_the_last() -> None:
    statuses = [decided(TransientError("down"), event(retry_count=n)).status for n in range(6)]
    assert statuses == ["failed"] * 4 + ["dead"] * 2


@pytest.mark.parametrize(("wish", "wait"), [(None, 10), (3.0, 3)])
def test_an_endpoint_that_is_busy_costs_nothing(wish: float | None, wait: int) -> None:
    row = event(retry_count=4)
    assert decided(TransientError("421", reason=Reason.BUSY, retry_after=wish), row) == Outcome(
        row, "Webhook", "failed", "transient", NOW, 12, timedelta(seconds=wait), "421", "busy", spent=False
    )


@pytest.mark.parametrize(("late", "spent"), [(timedelta(0), True), (timedelta(microseconds=1), False)])
def test_what_is_busy_for_longer_than_the_hold_limit_spends_its_attempts(
    late: timedelta, spent: bool
) -> None:
    """Or it would never come to the dead-letter queue."""
    row = event(due_at=NOW - CONF.hold_limit + late, created_at=NOW - timedelta(days=9))
    found = decided(TransientError("421", reason=Reason.BUSY), row)
    assert (found.spent, found.status) == (spent, "failed")


def test_a_probe_that_failed_costs_its_row_nothing() -> None:
    dead = decided(PermanentError("refused", reason=Reason.AUTH, status=401))
    waits = outcome.unspent(dead, 90)
    assert waits == dead._replace(status="failed", delay=timedelta(seconds=90), spent=False)


class TestWhatANotifierRaised:
    def test_a_fault_of_its_own_code_may_pass_and_its_words_stay_in_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        fault = KeyError("s3cret")
        error = outcome.as_delivery_error(fault)
        assert type(error) is TransientError
        assert str(error) == "the notifier failed: KeyError; the log has the details"
        [logged] = caplog.records
        assert logged.exc_info
        assert logged.exc_info[1] is fault

    @pytest.mark.parametrize("kind", [TransientError, UnknownOutcome, PermanentError])
    def test_a_delivery_error_says_what_it_said(self, kind: type[DeliveryError]) -> None:
        class Own(kind):  # type: ignore[valid-type, misc]
            pass

        said = Own("no", reason=Reason.GONE, status=410, retry_after=5, advice="look")
        error = outcome.as_delivery_error(said)
        assert type(error) is kind
        assert vars(error) == vars(said)

    def test_one_that_is_neither_may_pass(self) -> None:
        assert type(outcome.as_delivery_error(DeliveryError("odd"))) is TransientError

    @pytest.mark.parametrize("kind", [TransientError, PermanentError])
    def test_a_subclass_that_never_called_its_base_is_recorded_all_the_same(
        self, kind: type[DeliveryError]
    ) -> None:
        class Careless(kind):  # type: ignore[valid-type, misc]
            def __init__(self) -> None:
                pass

        error = outcome.as_delivery_error(Careless())
        assert type(error) is kind
        assert error.text == "Careless"
        assert (error.reason, error.status, error.retry_after) == (kind.default_reason, None, None)
        assert error.advice == kind.default_advice

    def test_what_each_address_answered_and_what_was_said_are_kept_as_words(self) -> None:
        said = TransientError("no")
        said.answered = {1: 550}  # type: ignore[dict-item]  (a site's own)
        said.dialogue = ("RCPT", 550)  # type: ignore[assignment]
        error = outcome.as_delivery_error(said)
        assert (error.answered, error.dialogue) == ({"1": "550"}, ("RCPT", "550"))
        assert decided(error).answered == {"1": "550"}
