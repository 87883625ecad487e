"""How many died in the last hour, as the verdict has it, and the filter."""

from __future__ import annotations

import pytest
from django.utils import timezone

from notifications.operations.filters import Filters, matching
from notifications.reporting import parts, snapshot, verdict
from tests.factories import ago, attempt, dead, failed, sent
from tests.scripted import Script

pytestmark = pytest.mark.django_db


def test_the_last_failure_tells_when_one_died(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    young, old = dead(), dead(created_at=ago(days=2))
    for _ in range(2):
        attempt(old, "permanent", started_at=ago(minutes=50))
    attempt(dead(created_at=ago(days=2)), "permanent", started_at=ago(minutes=70))
    attempt(dead(created_at=ago(days=2)), "sent", started_at=ago(minutes=5))
    attempt(failed(created_at=ago(days=2)), "transient", started_at=ago(minutes=5))
    again = dead(created_at=ago(days=2))
    attempt(again, "permanent", started_at=ago(minutes=5))
    again.requeue(by="ada")
    sent()
    shown = snapshot.snapshot()
    assert (shown.died_last_hour, shown.died_more) == (2, False)
    meant = matching(Filters(status="dead", dead_since=ago(hours=1)))
    assert {young.pk, old.pk} <= set(meant.values_list("pk", flat=True))
    assert "2 died in the last hour; 4 dead letters wait" in verdict.sentence(timezone.now())
    assert snapshot.summary(shown)["notifications_died_last_hour"] == 2
    monkeypatch.setattr(parts, "MOST_DIED", 1)
    assert "at least 1 died in the last hour;" in verdict.sentence(timezone.now())
