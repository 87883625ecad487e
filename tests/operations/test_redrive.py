"""What died of an outage is requeued: by itself, once, on record, a bounded batch a sweep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from notifications.database import database_now
from notifications.models import BulkOperation, Hold, NotificationEvent, Outage, Requeue, Status
from notifications.operations import bulk, redrive
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.scripted import ACCEPTED, Script
from tests.sweeping import DOWN, Time, kill

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects


@pytest.fixture
def time() -> Time:
    return Time()


def recovered(script: Script, time: Time, number: int = 3) -> list[NotificationEvent]:
    """An outage that killed, and is over."""
    script.otherwise = DOWN
    victims = kill(time, number)
    time.sweep(concurrency=5)
    assert EVENTS.dead().count() == number
    time.now += timedelta(minutes=1)
    Hold.objects.update(until=time.now)
    script.otherwise = ACCEPTED
    factories.pending(created_at=time.begin)
    time.sweep()
    return victims


def test_by_default_nothing_is_redriven(script: Script, time: Time) -> None:
    recovered(script, time)
    time.sweep()
    assert EVENTS.dead().count() == 3


def test_a_recovery_redrives_what_died_on_record_and_once(
    script: Script, time: Time, configure: Configure
) -> None:
    configure(REDRIVE_ON_RECOVERY=True)
    victims = {event.pk for event in recovered(script, time)}
    for _ in range(3):
        time.now += timedelta(minutes=1)
        time.sweep()
    assert EVENTS.filter(pk__in=victims, status=Status.SENT).count() == 3
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.via, operation.changed) == ("system", "redrive", 3)
    assert operation.ended_at is not None
    outage = Outage.objects.get()
    assert operation.filters.startswith(f"status=dead&outage={outage.pk}")
    assert (outage.redriven_by, outage.operation_id) == ("system", operation.pk)
    assert set(Requeue.objects.values_list("by", "via", "operation")) == {("system", "redrive", operation.pk)}


def test_what_dies_again_is_not_redriven_again(script: Script, time: Time, configure: Configure) -> None:
    [victim] = recovered(script, time, 1)
    configure(REDRIVE_ON_RECOVERY=True, MAX_ATTEMPTS=1)
    script.answers = {victim.pk: DOWN}
    for _ in range(6):
        time.now += timedelta(minutes=1)
        Hold.objects.update(until=time.now)
        factories.pending(created_at=time.begin)
        time.sweep()
    assert EVENTS.get(pk=victim.pk).status == Status.DEAD
    assert Requeue.objects.filter(notification=victim).count() == 1
    assert Outage.objects.filter(died__gt=0).count() >= 2


def test_a_redrive_goes_a_batch_a_sweep(
    script: Script, time: Time, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STEP", 2)
    recovered(script, time, 4)
    configure(REDRIVE_ON_RECOVERY=True)
    dead = []
    for _ in range(4):
        redrive.redrive(now=time.now)
        dead.append(EVENTS.dead().count())
    assert dead == [2, 0, 0, 0]
    assert BulkOperation.objects.get().ended_at is not None


def test_a_redrive_looks_at_a_bounded_number_of_dead_letters(
    script: Script, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovered(script, time, 4)
    for n in range(7):
        factories.dead(created_at=time.begin - timedelta(minutes=n))
    monkeypatch.setattr(redrive, "LOOKED_AT", 3)
    dead = []
    for _ in range(6):
        redrive.redrive(now=time.now)
        dead.append(EVENTS.dead().count())
    assert dead == [11, 11, 9, 7, 7, 7]
    assert BulkOperation.objects.get().changed == 4


def test_nothing_is_redriven_to_an_endpoint_that_is_failing_again_nor_long_afterwards(
    script: Script, time: Time
) -> None:
    recovered(script, time)
    outage = Outage.objects.get()
    again = Outage.objects.create(
        endpoint=outage.endpoint, channel="Webhook", since=time.now, error="e", reason="server"
    )
    assert redrive.redrive(now=time.now) == 0
    again.delete()
    assert redrive.redrive(now=time.now + timedelta(days=2)) == 0
    assert redrive.redrive(now=time.now) == 3


@pytest.mark.django_db(transaction=True)
def test_workers_that_redrive_at_once_share_the_work(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a thread and on a connection of its own: one operation, and every victim requeued once."""
    monkeypatch.setattr(bulk, "STEP", 3)
    now = database_now()
    Outage.objects.create(
        endpoint="webhook",
        channel="Webhook",
        since=ago(hours=2),
        ended_at=now,
        died=20,
        error="e",
        reason="server",
    )
    for _ in range(20):
        factories.attempt(factories.dead(created_at=ago(hours=3)), started_at=ago(hours=1))

    def work(_: int) -> int:
        requeued = 0
        try:
            while EVENTS.dead().exists():  # who finds the outage locked goes on, as the next sweep does
                requeued += redrive.redrive(now=now)
            return requeued
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 20
    assert BulkOperation.objects.get().changed == Requeue.objects.count() == 20
    assert EVENTS.pending().count() == 20


def test_without_a_new_alert_one_of_the_dead_finds_out(
    script: Script, time: Time, configure: Configure
) -> None:
    """The endpoint is repaired, nothing new is raised, and the outage ends all the same."""
    configure(REDRIVE_ON_RECOVERY=True)
    script.otherwise = DOWN
    victims = kill(time, 5)
    time.sweep(concurrency=5)
    assert Outage.objects.get().ended_at is None
    time.sweep()
    assert EVENTS.dead().count() == 5, "held, or failing just now: nothing is risked"
    time.now += timedelta(minutes=10)
    Hold.objects.update(until=time.now)
    before = len(script.messages)
    time.sweep()
    time.sweep()
    assert len(script.messages) == before + 1, "one, as long as it is down"
    script.otherwise = ACCEPTED
    for _ in range(6):
        time.now += timedelta(minutes=10)
        Hold.objects.update(until=time.now)
        time.sweep()
    assert Outage.objects.get().ended_at is not None
    assert EVENTS.filter(pk__in=[v.pk for v in victims], status=Status.SENT).count() == 5


def outage(**fields: Any) -> Outage:
    """Of the webhook, in which two died."""
    defaults = {"endpoint": "webhook", "channel": "Webhook", "died": 2, "error": "e", "reason": "server"}
    made: Outage = Outage.objects.create(**{**defaults, "since": ago(hours=2), **fields})
    return made


def died_in_it(*, redriven_before: bool) -> NotificationEvent:
    """In the outage; perhaps it had died in an earlier one, and was requeued by itself."""
    event = factories.dead(created_at=ago(hours=5))
    if redriven_before:
        EVENTS.filter(pk=event.pk).requeue(by="system", via="redrive", now=ago(hours=4))
        EVENTS.filter(pk=event.pk).update(status=Status.DEAD, retry_count=4)
    factories.attempt(event, started_at=ago(hours=1))
    return event


def test_a_second_outage_redrives_only_what_was_never_redriven() -> None:
    outage(ended_at=ago(minutes=1))
    again, first = died_in_it(redriven_before=True), died_in_it(redriven_before=False)
    assert redrive.redrive(now=database_now()) == 1
    assert dict(EVENTS.values_list("pk", "status")) == {again.pk: Status.DEAD, first.pk: Status.PENDING}
    assert BulkOperation.objects.get().changed == 1


def test_an_operator_redrives_what_was_redriven_before_too() -> None:
    over = outage(ended_at=ago(minutes=1))
    died_in_it(redriven_before=True)
    operation = redrive.take_over(over, by="ada", via="admin", now=database_now())
    assert bulk.finish(operation).changed == 1


def test_no_probe_is_made_of_what_was_redriven_before() -> None:
    outage()
    again = died_in_it(redriven_before=True)
    assert redrive.requeue_probes(now=database_now()) == 0
    first = died_in_it(redriven_before=False)
    assert redrive.requeue_probes(now=database_now()) == 1
    assert dict(EVENTS.values_list("pk", "status")) == {again.pk: Status.DEAD, first.pk: Status.PENDING}


# Row by row


NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)


def over(**fields: Any) -> Outage:
    """An outage of two hours that ended an hour ago."""
    return outage(**{"since": NOW - 3 * HOUR, "ended_at": NOW - HOUR, **fields})


def victim(at: datetime = NOW - 2 * HOUR, **fields: Any) -> NotificationEvent:
    event = factories.dead(**{"created_at": NOW - 9 * HOUR, **fields})
    factories.attempt(event, started_at=at)
    return event


def test_how_many_died_of_it_among_the_newest_and_whether_there_may_be_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    which = over()
    factories.dead(created_at=NOW - 4 * HOUR)  # of something else
    for n in range(3):
        victim(created_at=NOW - (5 + n) * HOUR)
    assert redrive.count(which) == (3, False)
    for most, counted in {1: (0, True), 2: (1, True), 4: (3, False), 5: (3, False)}.items():
        monkeypatch.setattr(redrive, "LOOKED_THROUGH", most)
        assert redrive.count(which) == counted
    monkeypatch.setattr(redrive, "COUNTED", 2)
    assert redrive.count(which) == (2, True)


@pytest.mark.parametrize("again", [True, False])
def test_who_takes_an_outage_over_is_on_record_and_who_had_it_stops(again: bool) -> None:
    which, other = over(endpoint="webhook a", died=7), over()
    first = redrive.take_over(which, by="system", via="redrive", now=NOW - HOUR, again=False)
    which.refresh_from_db()
    second = redrive.take_over(which, by="ada", via="admin", now=NOW, again=again)
    which.refresh_from_db()
    assert (which.redriven_at, which.redriven_by, which.operation_id) == (NOW, "ada", second.pk)
    assert (second.by, second.via, second.requested, second.started_at) == ("ada", "admin", 7, NOW)
    assert second.reason == "webhook a delivers again"
    assert second.filters == f"status=dead&outage={which.pk}" + ("" if again else "&redriven=no")
    stopped = BulkOperation.objects.get(pk=first.pk)
    assert (stopped.stopped_by, stopped.ended_at is not None) == ("ada", True)
    assert Outage.objects.get(pk=other.pk).redriven_at is None


def test_an_outage_that_goes_on_can_be_taken_over_too() -> None:
    assert redrive.take_over(outage(), by="a", via="b", now=NOW).reason == "webhook was down"


@pytest.mark.parametrize(
    ("fields", "redriven"),
    [
        ({}, 1),
        ({"died": 1}, 1),
        ({"died": 0}, 0),
        ({"ended_at": NOW - 24 * HOUR, "since": NOW - 48 * HOUR}, 1),
        ({"ended_at": NOW - 24 * HOUR - TICK, "since": NOW - 48 * HOUR}, 0),
        ({"redriven_at": NOW, "redriven_by": "ada"}, 0),
    ],
)
def test_which_outages_are_redriven(fields: dict[str, Any], redriven: int) -> None:
    which = over(**fields)
    victim(which.since + TICK, created_at=which.since)
    assert redrive.redrive(now=NOW) == redriven


def test_an_operator_who_has_begun_is_left_alone_and_the_system_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "STEP", 1)
    which = over()
    for _ in range(3):
        victim()
    assert [redrive.redrive(now=NOW) for _ in range(2)] == [1, 1]
    which.refresh_from_db()
    redrive.take_over(which, by="ada", via="admin", now=NOW)
    assert redrive.redrive(now=NOW) == 0


def test_what_an_operator_took_over_since_the_sweep_looked_is_the_operators() -> None:
    seen_before = over()
    victim()
    redrive.take_over(seen_before, by="ada", via="admin", now=NOW)
    assert redrive._redrive(seen_before, NOW) == 0
    assert EVENTS.dead().count() == 1


def test_a_recovery_is_redriven_as_the_systems_own() -> None:
    which = over()
    victim()
    assert redrive.redrive(now=NOW) == 1
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.via, operation.started_at) == ("system", "redrive", NOW)
    assert operation.filters == f"status=dead&outage={which.pk}&redriven=no"
    assert EVENTS.get().requeued_at == NOW


def test_some_outages_a_sweep_those_that_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrive, "MOST", 1)
    late = over(endpoint="a")
    early = over(endpoint="b", ended_at=NOW - 2 * HOUR)
    for which in (early, late):
        redrive.redrive(now=NOW)
        assert Outage.objects.filter(redriven_at=NOW).latest("operation_id") == which


def test_only_the_same_endpoint_that_fails_again_is_in_the_way() -> None:
    over(endpoint="a")
    outage(endpoint="b")
    victim()
    assert redrive.redrive(now=NOW) == 1


# The probe of an outage that goes on


@pytest.mark.parametrize(
    ("fields", "probed"),
    [
        ({}, 1),
        ({"died": 1}, 1),
        ({"died": 0}, 0),
        ({"ended_at": NOW}, 0),
        ({"since": NOW - timedelta(minutes=5)}, 0),
        ({"since": NOW - timedelta(minutes=5) - TICK}, 1),
    ],
)
def test_which_outages_are_probed(fields: dict[str, Any], probed: int) -> None:
    which = outage(**{"since": NOW - 3 * HOUR, **fields})
    victim(which.since, created_at=which.since)
    assert redrive.requeue_probes(now=NOW) == probed
    assert EVENTS.pending().count() == probed


@pytest.mark.parametrize(
    ("endpoint", "until", "probed"),
    [("webhook", NOW, 1), ("webhook", NOW + TICK, 0), ("slack", NOW + HOUR, 1)],
)
def test_what_is_held_is_not_probed(endpoint: str, until: datetime, probed: int) -> None:
    outage(since=NOW - 3 * HOUR)
    victim()
    Hold.objects.create(endpoint=endpoint, reason="server", error="e", since=NOW, until=until)
    assert redrive.requeue_probes(now=NOW) == probed


@pytest.mark.parametrize(
    ("fields", "probed"),
    [({}, 0), ({"status": "failed"}, 0), ({"status": "sent"}, 1), ({"channel": "Slack"}, 1)],
)
def test_where_something_waits_already_that_is_the_probe(fields: dict[str, Any], probed: int) -> None:
    outage(since=NOW - 3 * HOUR)
    victim()
    factories.notification(**fields)
    assert redrive.requeue_probes(now=NOW) == probed


def test_the_probe_is_the_newest_of_the_dead_and_says_what_for() -> None:
    outage(since=NOW - 3 * HOUR)
    newest, _ = victim(created_at=NOW - 4 * HOUR), victim()
    assert redrive.requeue_probes(now=NOW) == 1
    found = Requeue.objects.get()
    assert (found.notification_id, found.by, found.via, found.at) == (newest.pk, "system", "redrive", NOW)
    assert found.reason == "to find out whether webhook delivers again"


def test_the_longest_outages_are_probed_first_and_the_newest_dead_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redrive, "MOST", 1)
    outage(endpoint="slack", channel="Slack", since=NOW - 4 * HOUR)
    outage(since=NOW - 3 * HOUR)
    victim()
    first = victim(channel="Slack")
    assert redrive.requeue_probes(now=NOW) == 1
    assert EVENTS.pending().get() == first
    EVENTS.pending().delete()
    Outage.objects.filter(endpoint="slack").delete()
    monkeypatch.setattr(redrive, "PROBED", 1)
    factories.dead(created_at=NOW - 5 * HOUR)  # newer, of something else
    assert redrive.requeue_probes(now=NOW) == 0
