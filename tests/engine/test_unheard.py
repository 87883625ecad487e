"""The database did what it was asked, and its answer was lost on the way: nothing is spent or sent twice."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import OperationalError

from notifications import conf
from notifications.engine import leases
from notifications.engine.loop import Engine
from notifications.engine.recorder import Recorder
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options
from notifications.models import DeliveryAttempt, NotificationEvent, Status, SweepKind
from notifications.queue.release import take_back
from tests import factories
from tests.engine.delivering import lost_once
from tests.fixtures import Configure
from tests.scripted import Script, channel

SECONDS = 30.0  # much shorter than a lease
pytestmark = pytest.mark.django_db(transaction=True)


def deliver(configure: Configure, script: Script, source: type[DueRows] = DueRows) -> None:
    """A worker runs until nothing is undelivered, or time is up."""
    configure(CHANNELS={"Slack": channel(script)})
    settings, since = conf.current(), time.monotonic()

    def stop() -> bool:
        delivered = bool(script.messages) and not engine.recorder.ended
        return (delivered and not engine.database.away) or time.monotonic() > since + SECONDS

    options = Options(limit=100, stop=stop, grace=5.0, patient=True)
    engine = Engine(settings, options, [Schedule(source(SweepKind.PENDING, settings, options), 1.0)])
    engine.run()


def assert_delivered_once(script: Script, count: int) -> None:
    rows = NotificationEvent.objects.values_list("status", "retry_count", "leased_until")
    assert list(rows) == [(Status.SENT, 0, None)] * count
    assert [attempt.outcome for attempt in DeliveryAttempt.objects.all()] == ["sent"] * count
    assert len(script.messages) == count


def test_what_a_claim_took_unheard_is_given_back(script: Script, configure: Configure) -> None:
    class Unheard(DueRows):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.claim = lost_once(super().claim)  # type: ignore[method-assign]

    for _ in range(3):
        factories.pending(channel="Slack", recipient="#pki")
    deliver(configure, script, Unheard)
    assert_delivered_once(script, 3)


def test_a_lease_that_was_extended_unheard_is_still_ours(
    script: Script, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record fails first, so that all that is in hand is renewed; then the renewal's answer is lost."""
    record, tries = Recorder._record, list[int]()

    def failing(self: Recorder, *args: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("the server closed the connection unexpectedly")
        return record(self, *args)

    monkeypatch.setattr(Recorder, "_record", failing)
    monkeypatch.setattr(leases, "renew", lost_once(leases.renew))
    factories.pending(channel="Slack", recipient="#pki")
    deliver(configure, script)
    assert_delivered_once(script, 1)


def test_only_that_claim_is_taken_back() -> None:
    now = factories.ago(seconds=1)
    mine, other = factories.leased(until=now), factories.leased(until=factories.ahead(minutes=1))
    assert take_back(now, due_at=now) == (1, frozenset())
    assert set(NotificationEvent.objects.filter(leased_until=None)) == {mine}
    assert NotificationEvent.objects.get(pk=other.pk).leased_until == other.leased_until
