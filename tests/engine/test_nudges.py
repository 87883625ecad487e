"""A call for a new row is answered whenever it comes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from notifications import conf
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options
from notifications.models import NotificationEvent, Status, SweepKind
from tests import factories
from tests.fixtures import Configure
from tests.processes import eventually
from tests.scripted import Script, channel

SECONDS = 20.0


@pytest.mark.django_db(transaction=True)
def test_one_that_comes_while_a_claim_is_under_way_is_not_lost(script: Script, configure: Configure) -> None:
    """The claim has looked before the row was there; what it found says nothing of the row."""
    configure(CHANNELS={"Slack": channel(script)})
    settings, since = conf.current(), time.monotonic()
    sent = NotificationEvent.objects.filter(status=Status.SENT)

    def stop() -> bool:
        return bool(script.messages) or time.monotonic() > since + SECONDS

    class Claiming(DueRows):
        before = 0

        def claim(self, *args: Any, **options: Any) -> Any:
            claimed = super().claim(*args, **options)
            if not self.before:
                self.before = 1
                factories.pending(channel="Slack", recipient="#pki")
                engine.nudge()
                eventually(lambda: not engine._nudged, "the call answered", SECONDS)
            return claimed

    options = Options(limit=100, stop=stop, grace=5.0, patient=True)
    engine = Engine(settings, options, [Schedule(Claiming(SweepKind.PENDING, settings, options), 3600.0)])
    engine.run()
    assert sent.count() == 1
    assert time.monotonic() - since < SECONDS
