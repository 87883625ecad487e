"""What prune deletes goes oldest first, past what is kept, and stops between two batches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.models import NotificationEvent
from notifications.operations.prune import prune
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
