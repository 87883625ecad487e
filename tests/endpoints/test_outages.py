"""Outages empty no budget: what waits behind them, what flows back, and whom they killed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import Q

from notifications import conf, delivery
from notifications.endpoints import holds
from notifications.endpoints.breaker import Change, Learned, Rules
from notifications.endpoints.lanes import Lanes, Limits
from notifications.engine.loop import deliver
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import Hold, NotificationEvent, Outage, Status
from notifications.notifiers.base import Endpoint
from notifications.operations.filters import died_of
from notifications.queue.claim import claim
from tests import factories
from tests.engine.support import hand_over
from tests.factories import ago
from tests.fixtures import Configure
from tests.receiver import Answer, HttpReceiver
from tests.scripted import ACCEPTED, Script
from tests.sweeping import DOWN, Time, kill

pytestmark = pytest.mark.django_db

REFUSED = PermanentError("HTTP 401", reason=Reason.AUTH, status=401, advice="correct the key, then requeue")
LATER = TransientError("HTTP 429", reason=Reason.RATE_LIMITED, status=429, retry_after=600.0)
LIMIT = timedelta(hours=4)
ROWS = 12
EVENTS = NotificationEvent.objects


@pytest.fixture
def time() -> Time:
    return Time()


def raise_many(time: Time, number: int = ROWS) -> list[NotificationEvent]:
    return [factories.pending(created_at=time.begin) for _ in range(number)]


def spent() -> dict[str, int]:
    """How many rows have spent how many attempts, and how many are dead."""
    undelivered = EVENTS.filter(status__in=("pending", "failed"))
    return {
        "untouched": undelivered.filter(retry_count=0).count(),
        "touched": undelivered.filter(retry_count__gt=0).count(),
        "dead": EVENTS.dead().count(),
    }


def pause_all(time: Time, length: timedelta = timedelta(hours=1), **options: Any) -> Hold:
    return holds.pause("Webhook", length=length, limit=LIMIT, by="ada", **options)


# Up to the limit, and no longer


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (DOWN, {"touched": 5, "dead": 0}),
        (LATER, {"touched": 1, "dead": 0}),
        (REFUSED, {"touched": 0, "dead": 1}),
    ],
    ids=["open breaker", "429 with Retry-After", "refused credentials"],
)
def test_an_outage_of_less_than_the_limit_costs_what_waits_no_attempt(
    script: Script, time: Time, error: Exception, first: dict[str, int]
) -> None:
    script.otherwise = error
    raise_many(time)
    time.sweep()
    assert spent() == {"untouched": ROWS - sum(first.values())} | first
    attempts_of_first = set(script.ids)
    time.sweep_until(timedelta(hours=3, minutes=59), every=timedelta(minutes=3))
    waited = EVENTS.exclude(pk__in=attempts_of_first)
    assert set(waited.values_list("retry_count", flat=True)) == {0}
    assert not waited.filter(status=Status.DEAD).exists()
    assert spent()["dead"] == first["dead"]
    script.otherwise = ACCEPTED
    time.sweep_until(timedelta(hours=4, minutes=14), every=timedelta(minutes=5))
    assert EVENTS.filter(status=Status.SENT).count() == ROWS - first["dead"]


@pytest.mark.parametrize("error", [DOWN, LATER, REFUSED], ids=["open breaker", "429", "401"])
def test_a_longer_one_dead_letters(script: Script, time: Time, error: Exception) -> None:
    script.otherwise = error
    raise_many(time)
    time.sweep_until(timedelta(hours=6), every=timedelta(minutes=4))
    assert spent() == {"untouched": 0, "touched": 0, "dead": ROWS}


def test_a_pause_costs_no_attempt_and_its_end_lets_all_go(script: Script, time: Time) -> None:
    raise_many(time)
    pause_all(time, length=timedelta(hours=4))
    time.sweep_until(timedelta(hours=3, minutes=59), every=timedelta(minutes=20))
    assert (spent()["untouched"], script.messages) == (ROWS, [])
    time.sweep_until(timedelta(hours=4, minutes=1))
    assert (EVENTS.filter(status=Status.SENT).count(), Hold.objects.count()) == (ROWS, 0)


def test_after_a_pause_the_attempts_are_spent_as_ever(script: Script, time: Time) -> None:
    script.otherwise = PermanentError("HTTP 400")
    raise_many(time)
    pause_all(time, length=timedelta(hours=4))
    time.sweep_until(timedelta(hours=4, minutes=1), every=timedelta(minutes=20))
    assert spent()["dead"] == ROWS


def test_one_row_alone_survives_an_outage_of_hours(script: Script, time: Time) -> None:
    """It fails too seldom to fail five times in a row in one sweep: the streak is kept for all sweeps."""
    script.otherwise = DOWN
    raise_many(time, 1)
    time.sweep_until(timedelta(hours=3, minutes=50))
    assert spent() == {"untouched": 0, "touched": 1, "dead": 0}
    assert EVENTS.get().retry_count == 3
    assert Outage.objects.get().since == time.begin + timedelta(minutes=1)
    script.otherwise = ACCEPTED
    time.sweep_until(timedelta(hours=4))
    assert EVENTS.get().status == Status.SENT
    assert not Outage.objects.exists()  # it killed nothing


def test_a_row_that_its_endpoint_cannot_bear_does_not_keep_it_closed(script: Script, time: Time) -> None:
    """Probes go from row to row, so that one of them opens the endpoint."""
    script.otherwise = DOWN
    poison, *_ = raise_many(time)
    time.sweep()
    script.otherwise = lambda message: DOWN if message.id == poison.pk else ACCEPTED
    time.sweep_until(timedelta(minutes=20))
    assert EVENTS.filter(status=Status.SENT).count() == ROWS - 1


# Pauses


def test_a_pause_is_shared_recorded_and_lifted(script: Script, time: Time) -> None:
    hold = pause_all(time, why="they move to another host")
    assert (hold.reason, hold.by, hold.error, hold.times) == (
        "paused",
        "ada",
        "they move to another host",
        0,
    )
    factories.pending()
    assert delivery.send_pending().claimed == 0
    assert holds.lift(hold, by="bob")
    assert not holds.lift(hold, by="bob")
    assert delivery.send_pending().sent == 1


@pytest.mark.parametrize(
    ("recipient", "exact", "left"),
    [
        ("", True, set()),
        ("https://a/1", True, {"https://a/12", "https://b/1"}),
        ("https://a/", False, {"https://b/1"}),
    ],
    ids=["a channel", "a recipient", "a host"],
)
def test_what_a_pause_covers(script: Script, time: Time, recipient: str, exact: bool, left: set[str]) -> None:
    for to in ("https://a/1", "https://a/12", "https://b/1"):
        factories.pending(recipient=to)
    pause_all(time, recipient=recipient, exact=exact)
    delivery.send_pending()
    assert {message.recipient for message in script.messages} == left


def test_a_pause_also_stops_what_was_handed_to_a_task_engine(script: Script, time: Time) -> None:
    factories.pending()
    claimed = claim(EVENTS.pending(), 1, now=time.now, lease=timedelta(minutes=2))
    pause_all(time)
    deliver("batch", claimed, conf.current())
    assert script.messages == []
    assert EVENTS.get().leased_until is None


@pytest.mark.parametrize("length", [timedelta(0), LIMIT + timedelta(seconds=1)])
def test_a_pause_is_never_longer_than_the_limit(time: Time, length: timedelta) -> None:
    with pytest.raises(ValueError, match="a pause is at most"):
        pause_all(time, length=length)


def test_pausing_again_moves_the_end_but_not_past_the_limit(time: Time) -> None:
    first = pause_all(time, length=timedelta(hours=1))
    Hold.objects.update(since=ago(hours=3))
    again = pause_all(time, length=timedelta(hours=3))
    assert again.pk == first.pk
    assert timedelta(minutes=59) < again.until - time.now < timedelta(minutes=61)


def test_neither_a_delivery_nor_a_failure_nor_a_test_ends_a_pause(time: Time) -> None:
    """What is in flight when it begins comes to its end, and the pause stands."""
    pause_all(time)
    endpoint = Endpoint("webhook", "Webhook")
    holds.write([Change(Learned.HELD, endpoint, DOWN, 30.0, times=1)], now=time.now)
    holds.write([Change(Learned.DELIVERS, endpoint)], now=time.now)
    holds.reopen(Q(channel="Webhook"), now=time.now)
    assert Hold.objects.filter(reason="paused", reopened_at=None, until__gt=time.now).count() == 1


# Lifting a hold


def test_a_hold_that_is_lifted_gets_its_probe_at_once_and_loses_nothing(script: Script, time: Time) -> None:
    script.otherwise = DOWN
    raise_many(time)
    time.sweep()
    assert holds.lift(Hold.objects.get(), by="ada")
    before = spent()
    delivery.send_pending()
    assert (len(script.messages), spent()) == (6, before)
    assert holds.lift(Hold.objects.get(), by="ada")
    script.otherwise = ACCEPTED
    assert delivery.send_pending().sent == 6


# The way back


def test_a_backlog_flows_at_a_bounded_rate(script: Script, time: Time, configure: Configure) -> None:
    configure(RECOVERY_RATE=10)
    script.otherwise = DOWN
    for _ in range(30):
        factories.pending()
    delivery.send_pending(concurrency=1)
    Hold.objects.update(until=ago(seconds=1))
    script.otherwise = ACCEPTED
    result = delivery.send_pending()
    assert (result.sent, result.seconds > 2.0) == (25, True)  # 25 at ten a second


def test_every_worker_keeps_the_rate_and_for_a_while_only(script: Script, time: Time) -> None:
    script.otherwise = DOWN
    raise_many(time)
    time.sweep()
    Hold.objects.update(until=ago(seconds=1))
    script.otherwise = ACCEPTED
    delivery.send_pending()
    hold = Hold.objects.get()
    assert hold.reopened_at

    def pace_at(now: datetime) -> float | None:
        """Of another worker, which was not there."""
        lanes: Lanes[str] = Lanes(Limits(ceiling=50, recovery=20.0), Rules())
        lanes.read(holds.read(now=now, probe_for=timedelta(minutes=2), limit=LIMIT))
        lane = lanes.lane(Endpoint("webhook", "Webhook"))
        assert not lane.held
        return lane.pace

    assert pace_at(hold.reopened_at + timedelta(minutes=9)) == 20.0
    assert pace_at(hold.reopened_at + timedelta(minutes=11)) is None
    assert not Hold.objects.exists()


def test_an_endpoint_that_fails_while_it_recovers_is_held_anew(script: Script, time: Time) -> None:
    script.otherwise = DOWN
    raise_many(time)
    time.sweep()
    Hold.objects.update(until=time.now, since=time.now - timedelta(hours=3))
    script.otherwise = ACCEPTED
    time.sweep()
    time.now += timedelta(minutes=1)
    script.otherwise = DOWN
    for _ in range(8):
        factories.pending()
    time.sweep()
    hold = Hold.objects.get()
    assert (hold.reopened_at, hold.since) == (None, time.now)


def test_one_recipient_that_was_closed_is_probed_and_opened(webhook: HttpReceiver, time: Time) -> None:
    """A host that serves many: the closed door's rows wait for their own probe, and cost nothing."""
    webhook.answer = lambda request: Answer(410 if request.path == "/gone" else 200)
    for _ in range(6):
        factories.pending(recipient=webhook.url("/gone"))
    assert delivery.send_pending(concurrency=1).dead == 1
    Hold.objects.update(until=ago(seconds=1))
    assert delivery.send_pending().dead == 0
    assert (len(webhook.requests), Hold.objects.get().times) == (2, 2)
    Hold.objects.update(until=ago(seconds=1))
    webhook.always(200)
    factories.pending(recipient=webhook.url("/other"))
    time.sweep(clock=None)
    assert EVENTS.filter(status=Status.SENT).count() >= 5
    outage = Outage.objects.get()
    assert (outage.died, outage.exact, outage.ended_at is not None) == (1, True, True)
    assert died(outage) == set(EVENTS.dead().values_list("pk", flat=True))


@pytest.mark.usefixtures("time")
def test_a_task_engines_worker_does_the_probe(script: Script, settings: Any, configure: Configure) -> None:
    hand_over(settings, configure)
    script.otherwise = DOWN
    for _ in range(30):
        factories.pending()
    delivery.send_pending()
    assert len(script.messages) < 15  # what the first batch's worker learned stops the others
    script.otherwise = ACCEPTED
    Hold.objects.update(until=ago(seconds=1))
    assert delivery.send_pending().claimed == EVENTS.filter(status=Status.SENT).count()
    assert Hold.objects.get().reopened_at is not None


# Outages on record


def died(outage: Outage) -> set[str]:
    return set(died_of(EVENTS.all(), outage).values_list("pk", flat=True))


def test_what_dies_of_a_failing_endpoint_opens_an_outage_and_a_delivery_ends_it(
    script: Script, time: Time
) -> None:
    script.otherwise = DOWN
    victims = kill(time)
    time.sweep()
    outage = Outage.objects.get()
    assert (outage.since, outage.died, outage.ended_at) == (time.now, 3, None)
    assert (outage.reason, outage.error) == ("server", "HTTP 503")
    time.now += timedelta(minutes=1)
    script.otherwise = ACCEPTED
    factories.pending()
    time.sweep()
    outage.refresh_from_db()
    assert outage.ended_at == time.now
    assert died(outage) == {event.pk for event in victims}


def test_an_outage_begins_with_the_first_failure_of_the_streak(script: Script, time: Time) -> None:
    """Of any sweep: the one that killed nothing yet is another process."""
    script.otherwise = DOWN
    factories.failed(due_at=time.now)
    time.sweep()
    first = time.now
    time.now += timedelta(minutes=1)
    kill(time, 1)
    time.sweep()
    outage = Outage.objects.get()
    assert (outage.since, outage.failures, outage.died) == (first, 2, 1)


def test_exactly_those_that_died_of_it(script: Script, time: Time) -> None:
    faulty, other_channel = {}, kill(time, 1, channel="Gone")
    kill(time, 1)  # dies of another outage, before
    script.otherwise = DOWN
    time.sweep()
    time.now += timedelta(minutes=1)
    script.otherwise = ACCEPTED
    factories.pending()
    time.sweep()
    time.now += timedelta(minutes=1)
    victims, requeued, dismissed = kill(time, 2), *kill(time, 1), *kill(time, 1)
    [faulty] = kill(time, 1)
    script.otherwise = lambda m: PermanentError("HTTP 400") if m.id == faulty.pk else DOWN
    script.answers = {faulty.pk: PermanentError("HTTP 400")}
    time.sweep()
    EVENTS.get(pk=requeued.pk).requeue(by="ada")
    EVENTS.get(pk=dismissed.pk).mark_read(by="ada")
    time.now += timedelta(minutes=1)
    script.otherwise = ACCEPTED
    time.sweep()
    newest = Outage.objects.filter(ended_at__isnull=False).order_by("-since")[0]
    assert died(newest) == {event.pk for event in victims}
    assert other_channel[0].pk not in died(newest)
    later = factories.dead()  # killed by hand, without an attempt
    assert later.pk not in died(newest)


def test_a_test_that_arrives_ends_the_outage(webhook: HttpReceiver, time: Time) -> None:
    webhook.always(503)
    [victim] = kill(time, 1, recipient=webhook.url("/hook"))
    time.sweep()
    webhook.always(200)
    call_command("notifications", "test", "Webhook", webhook.url("/hook"))
    outage = Outage.objects.get()
    assert outage.ended_at is not None
    assert died(outage) == {victim.pk}


def test_two_workers_write_one_outage(time: Time) -> None:
    endpoint, first = Endpoint("slack", "Slack"), time.now - timedelta(minutes=3)
    for since, failures in ((time.now, 2), (first, 4)):
        change = Change(Learned.FAILS, endpoint, error=DOWN, since=since, failures=failures, died=1)
        holds.write([change], now=time.now)
    outage = Outage.objects.get()
    assert (outage.since, outage.failures, outage.died) == (first, 4, 2)
