"""What prune deletes goes oldest first, past what is kept, and stops between two batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications.models import NotificationEvent
from notifications.operations.prune import count, prune
from tests import factories
from tests.factories import ago

pytestmark = pytest.mark.django_db

OLD_SENT = {"created_at": ago(days=91), "sent_at": ago(days=91)}


def left() -> set[str]:
    return set(NotificationEvent.objects.values_list("pk", flat=True))


def test_it_deletes_in_batches_oldest_first() -> None:
    events = [factories.sent(created_at=ago(days=100 - n), sent_at=ago(days=91)) for n in range(5)]
    steps = prune(timezone.now() - timedelta(days=90), ["sent"], batch=2)
    assert next(steps).notifications == 2
    assert left() == {event.pk for event in events[2:]}
    assert [step.notifications for step in steps] == [4, 5]


def test_it_stops_between_batches() -> None:
    for _ in range(5):
        factories.sent(**OLD_SENT)
    stops = iter([False, True, True, True])
    steps = list(prune(timezone.now() - timedelta(days=90), ["sent"], batch=2, stop=lambda: next(stops)))
    assert len(steps) == 1
    assert len(left()) == 3


NOT_SENT = datetime(1, 1, 1, tzinfo=UTC)  # as certctl writes it


def test_what_was_adopted_goes_by_the_time_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its created_at is the time when it got that column. However few rows one look takes in."""
    monkeypatch.setattr("notifications.operations.walk.LOOKED_AT", 3)
    adopted = ago(days=2)
    for _ in range(7):
        factories.sent(created_at=adopted, sent_at=ago(days=91))
    factories.read(created_at=adopted, sent_at=ago(days=400))
    kept = {
        factories.sent(created_at=adopted, sent_at=ago(days=89)).pk,
        factories.read(created_at=adopted, sent_at=NOT_SENT).pk,  # a dead letter, dismissed since
        factories.failed(created_at=adopted, sent_at=NOT_SENT).pk,
        factories.sent(created_at=ago(days=1), sent_at=ago(days=1)).pk,
    }
    gone = [factories.read(created_at=ago(days=91), sent_at=NOT_SENT), factories.sent(**OLD_SENT)]
    before = timezone.now() - timedelta(days=90)
    assert count(before, ["sent", "read"]).notifications == 8 + len(gone)
    *_, last = prune(before, ["sent", "read"], batch=2)
    assert last.notifications == 8 + len(gone)
    assert left() == kept


def test_it_looks_no_further_where_nothing_was_adopted(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr("notifications.operations.walk.LOOKED_AT", 2)
    for days in range(1, 20):
        factories.sent(created_at=ago(days=days), sent_at=ago(days=days))
    with django_assert_max_num_queries(12):
        assert not list(prune(timezone.now() - timedelta(days=90), ["sent"]))
