"""prune beside other programs: SQLite has one writer at a time, so only PostgreSQL can show it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from notifications.management import pruning
from notifications.models import NotificationEvent
from tests import factories
from tests.management.test_prune import OLD_SENT, left


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_is_changing_is_left_alone() -> None:
    busy, idle = factories.sent(**OLD_SENT), factories.sent(**OLD_SENT)
    pruned: list[pruning.Pruned] = []

    def prune() -> None:
        pruned.extend(pruning.prune(timezone.now() - timedelta(days=90), ["sent"]))
        connections.close_all()

    with transaction.atomic():
        NotificationEvent.objects.filter(pk=busy.pk).update(status="pending")
        thread = threading.Thread(target=prune)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert [step.notifications for step in pruned] == [1]
    assert left() == {busy.pk}
    assert idle.pk not in left()
