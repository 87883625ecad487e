"""What died together is not in hand together again; what never began spends nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError

from notifications import conf, delivery
from notifications.database import database_now
from notifications.engine import handover
from notifications.engine.sender import MOST_INTERRUPTED
from notifications.models import (
    INTERRUPTED_AGAIN,
    INTERRUPTED_ERROR,
    INTERRUPTED_OFTEN,
    DeliveryAttempt,
    HandOver,
    NotificationEvent,
    Status,
)
from notifications.notifiers.base import Delivered, Message, Notifier
from notifications.queue.claim import claim
from notifications.queue.reap import reap
from tests import factories
from tests.breakage import execute
from tests.factories import ago
from tests.fixtures import Configure
from tests.scripted import Script

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects


class CountingNotifier(Notifier):
    """Each attempt takes a moment; what was in flight together, by the notification's message."""

    known = None

    def __init__(self, options: Any, http: Any) -> None:
        super().__init__(options, http)
        self.flying: list[str] = []
        self.seen: list[list[str]] = options["SEEN"]

    async def send(self, message: Message) -> Delivered:
        self.flying.append(message.message)
        self.seen.append(list(self.flying))
        await asyncio.sleep(0.005)
        self.flying.remove(message.message)
        return Delivered(200)


@pytest.fixture
def seen(configure: Configure) -> list[list[str]]:
    """What was in flight whenever an attempt began."""
    flights: list[list[str]] = []
    notifier = f"{__name__}.{CountingNotifier.__qualname__}"
    configure(CHANNELS={"Own": {"NOTIFIER": notifier, "SEEN": flights}})
    return flights


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (INTERRUPTED_ERROR, MOST_INTERRUPTED[1]),
        (INTERRUPTED_AGAIN, MOST_INTERRUPTED[2]),
        (INTERRUPTED_OFTEN, 1),
    ],
)
def test_what_died_together_is_in_flight_a_few_at_a_time_then_one(
    seen: list[list[str]], error: str, most: int
) -> None:
    """One sweep, as cron's is, takes up all of it: the next one may be long in coming."""
    for _ in range(most + 4):
        factories.failed(channel="Own", message="suspect", last_error=error, due_at=ago(minutes=2))
        factories.failed(channel="Own", message="innocent", due_at=ago(minutes=1))
    assert delivery.retry_failed().sent == 2 * (most + 4)
    assert max(flight.count("suspect") for flight in seen) <= most
    assert max(len(flight) for flight in seen) > 1


def test_the_second_interruption_is_told_from_the_first() -> None:
    event = factories.leased(until=ago(seconds=1), status=Status.PENDING)
    reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
    event.refresh_from_db()
    assert (event.last_error, event.retry_count) == (INTERRUPTED_ERROR, 1)
    EVENTS.update(leased_until=ago(seconds=1))
    reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
    event.refresh_from_db()
    assert (event.last_error, event.retry_count) == (INTERRUPTED_AGAIN, 2)
    EVENTS.update(leased_until=ago(seconds=1))
    reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
    event.refresh_from_db()
    assert (event.last_error, event.retry_count) == (INTERRUPTED_OFTEN, 3)


def test_a_notification_that_kills_its_workers_dies_alone() -> None:
    """Five deaths of a worker with all that it would have in hand: the poison, and what goes with it."""
    now, lease = database_now(), timedelta(minutes=2)
    poison = factories.pending(created_at=ago(hours=1))
    others = [factories.pending(created_at=ago(minutes=59)) for _ in range(150)]
    room = MOST_INTERRUPTED
    for _ in range(12):
        due = [EVENTS.pending(), EVENTS.retry_eligible(now)]
        claimed = [row for rows in due for row in claim(rows, 200, now=now, lease=lease)]
        in_hand, left = list[str](), dict(room)
        for row in claimed:
            if row.interrupted:
                left[row.interrupted] -= 1
            if not row.interrupted or left[row.interrupted] >= 0:
                in_hand.append(row.id)
        EVENTS.exclude(pk__in=in_hand).update(leased_until=None)
        if poison.pk in in_hand:  # the worker dies, and its leases end
            now += lease + timedelta(seconds=1)
            reap(EVENTS.all(), now=now, max_attempts=5, limit=1000)
        else:
            EVENTS.filter(pk__in=in_hand).update(status=Status.SENT, leased_until=None)
        EVENTS.failed().update(next_retry_at=now)
        EVENTS.filter(pk=poison.pk, status=Status.FAILED).update(next_retry_at=now - timedelta(hours=1))
    assert EVENTS.get(pk=poison.pk).status == Status.DEAD
    assert EVENTS.filter(pk__in=[other.pk for other in others]).dead().count() == 0


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_a_batch_that_no_worker_of_the_task_engine_began_with_spends_nothing(status: str) -> None:
    lease = ago(seconds=1)
    event = factories.leased(until=lease, status=status, retry_count=4)
    HandOver.objects.create(leased_until=lease, notifications=1, handed_over_at=ago(minutes=2))
    for _ in range(5):
        reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
        EVENTS.update(leased_until=lease)
    reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
    event.refresh_from_db()
    assert (event.status, event.retry_count, event.leased_until) == (status, 4, None)
    assert not DeliveryAttempt.objects.exists()
    handover.begin(lease)
    EVENTS.update(leased_until=lease)
    reap(EVENTS.all(), now=database_now(), max_attempts=5, limit=10)
    event.refresh_from_db()
    assert (event.status, DeliveryAttempt.objects.count()) == (Status.DEAD, 1)


def test_a_busy_channel_serves_fresh_alerts_and_the_backlog_alike(configure: Configure) -> None:
    """Ten a second for a channel, two hundred requeued before it: an alert of now is not the last."""
    flights: list[list[str]] = []
    notifier = f"{__name__}.{CountingNotifier.__qualname__}"
    configure(CHANNELS={"Own": {"NOTIFIER": notifier, "SEEN": flights, "MAX_PER_SECOND": 10}})
    for n in range(200):
        factories.dead(channel="Own", message=f"old {n}", created_at=ago(days=30))
    EVENTS.dead().requeue(by="ada")
    factories.pending(channel="Own", message="fresh")
    sent: list[int] = []
    delivery.send_pending(
        progress=lambda result: sent.append(result.sent),
        stop=lambda: any("fresh" in flight for flight in flights) or len(flights) >= 120,
        grace=0.0,
    )
    begun = [flight[-1] for flight in flights]
    assert "fresh" in begun
    assert any(message.startswith("old") for message in begun)
    assert conf.current().channels


@pytest.mark.django_db(transaction=True)
def test_what_was_claimed_is_given_back_where_earlier_answers_cannot_be_read(script: Script) -> None:
    factories.pending(recipient="a@example.com, b@example.com")
    rename = "ALTER TABLE {} RENAME TO {}"
    execute(rename.format("notification_recipients", "elsewhere"))
    try:
        with pytest.raises(DatabaseError):
            delivery.send_pending()
    finally:
        execute(rename.format("elsewhere", "notification_recipients"))
    assert NotificationEvent.objects.get().leased_until is None
    assert delivery.send_pending().sent == 1
