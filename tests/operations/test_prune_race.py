"""prune beside other programs: SQLite has one writer at a time, so only PostgreSQL can show it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from notifications.models import NotificationEvent
from notifications.operations import prune
from tests import factories
from tests.factories import ago

OLD_SENT = {"created_at": ago(days=91), "sent_at": ago(days=91)}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_is_changing_is_left_alone() -> None:
    busy, idle = factories.sent(**OLD_SENT), factories.sent(**OLD_SENT)
    pruned: list[prune.Pruned] = []

    def delete() -> None:
        pruned.extend(prune.prune(timezone.now() - timedelta(days=90), ["sent"]))
        connections.close_all()

    with transaction.atomic():
        NotificationEvent.objects.filter(pk=busy.pk).update(status="pending")
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert [step.notifications for step in pruned] == [1]
    left = set(NotificationEvent.objects.values_list("pk", flat=True))
    assert left == {busy.pk}
    assert idle.pk not in left
