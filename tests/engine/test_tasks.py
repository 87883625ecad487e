"""The hand-over to a task engine, through Django's Tasks API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from notifications import conf, delivery
from notifications.database import database_now
from notifications.engine import handover
from notifications.engine.loop import deliver
from notifications.models import HandOver, NotificationEvent, Status, SweepRun
from notifications.queue.claim import claim
from notifications.queue.reap import reap
from tests import factories
from tests.engine.support import hand_over
from tests.factories import ago
from tests.fixtures import Configure
from tests.reporting.rows import held
from tests.scripted import Script

pytestmark = pytest.mark.django_db


@pytest.fixture
def engine(settings: Any, configure: Configure) -> None:
    hand_over(settings, configure)


@pytest.mark.usefixtures("engine")
def test_batches_are_claimed_and_delivered_by_the_engine(script: Script) -> None:
    events = {factories.pending().pk for _ in range(25)}
    result = delivery.send_pending()
    assert (result.claimed, result.sent) == (25, 0)
    assert set(script.ids) == events
    assert NotificationEvent.objects.filter(status=Status.SENT, leased_until=None).count() == 25
    assert [run.claimed for run in SweepRun.objects.all()] == [25]


@pytest.mark.usefixtures("engine")
def test_a_batch_whose_lease_has_ended_delivers_nothing(script: Script) -> None:
    from notifications.engine.task_api import deliver_batch

    events = [factories.pending() for _ in range(3)]
    now = ago(minutes=10)
    claimed = claim(NotificationEvent.objects.pending(), 10, now=now, lease=timedelta(minutes=2))
    leased_until = claimed[0].leased_until
    reap(NotificationEvent.objects.all(), now=ago(minutes=1), max_attempts=5, limit=100)
    answer = deliver_batch.func([event.pk for event in events], leased_until.isoformat())
    assert (answer["claimed"], script.messages) == (0, [])


@pytest.mark.usefixtures("engine")
def test_a_batch_that_another_worker_has_begun_with_is_its_own(script: Script) -> None:
    """A task engine runs a task again when it believes that its worker died."""
    from notifications.engine.task_api import deliver_batch

    factories.pending()
    [row] = claim(NotificationEvent.objects.pending(), 1, now=conf_now(), lease=conf.current().lease)
    HandOver.objects.create(leased_until=row.leased_until, notifications=1, handed_over_at=conf_now())
    assert handover.begin(row.leased_until)
    answer = deliver_batch.func([row.id], row.leased_until.isoformat())
    assert (answer["claimed"], script.messages) == (0, [])
    assert NotificationEvent.objects.get().leased_until == row.leased_until


@pytest.mark.usefixtures("engine")
def test_a_batch_that_is_larger_than_a_lane_is_delivered_whole(script: Script) -> None:
    from notifications.engine.task_api import deliver_batch

    for _ in range(300):
        factories.pending()
    now = conf_now()
    claimed = claim(NotificationEvent.objects.pending(), 300, now=now, lease=conf.current().lease)
    leased_until = claimed[0].leased_until.isoformat()
    answer = deliver_batch.func([event.id for event in claimed], leased_until)
    assert answer["sent"] == len(script.messages) == 300


@pytest.mark.usefixtures("script")
def test_what_the_engine_cannot_take_is_given_back(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.pending()
    from notifications.engine.task_api import deliver_batch

    def broken(*args: Any, **options: Any) -> None:
        raise ConnectionError("the broker is away")

    monkeypatch.setattr(type(deliver_batch), "enqueue", broken)
    with pytest.raises(ConnectionError):
        delivery.send_pending()
    assert NotificationEvent.objects.pending().filter(leased_until=None).count() == 1


def conf_now() -> Any:
    from notifications.database import database_now

    return database_now()


@pytest.mark.usefixtures("engine")
def test_a_batch_that_waits_for_one_probe_comes_to_its_end(script: Script) -> None:
    """One slot takes in few rows: the others wait where the batch is, and are counted once."""
    for _ in range(10):
        factories.pending()
    held("webhook", until=ago(seconds=1))
    claimed = claim(NotificationEvent.objects.pending(), 10, now=database_now(), lease=timedelta(minutes=2))
    result = deliver("batch", claimed, conf.current())
    assert (result.claimed, result.sent) == (10, 10)
