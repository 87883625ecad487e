"""What died of an outage is requeued: by itself, once, on record, a bounded batch a sweep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
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
    assert dead == sorted(dead, reverse=True)
    assert (dead[-1], BulkOperation.objects.get().changed) == (7, 4)


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
