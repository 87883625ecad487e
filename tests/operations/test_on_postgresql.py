"""What only PostgreSQL can show: several writers at a time, and times that are in no calendar."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from notifications.models import NotificationEvent
from notifications.operations import bulk, prune
from notifications.operations.verbs import REQUEUE
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


@pytest.mark.django_db
def test_a_row_from_before_or_after_all_time_keeps_no_other_from_being_changed() -> None:
    others = [factories.dead(created_at=ago(days=n)) for n in range(3)] + [factories.sent(**OLD_SENT)]
    for time in ("infinity", "-infinity"):
        odd = factories.dead(id=time), factories.sent(id=f"sent {time}", sent_at=ago(days=91))
        moved = "UPDATE notification_events SET created_at = %s WHERE id = ANY(%s)"
        with connection.cursor() as cursor:
            cursor.execute(moved, [time, [event.pk for event in odd]])
    operation = bulk.finish(bulk.start(REQUEUE, filters="status=dead", requested=3, by="ada", via="cli"))
    assert operation.changed == 3
    assert set(NotificationEvent.objects.pending().values_list("pk", flat=True)) == {o.pk for o in others[:3]}
    steps = list(prune.prune(timezone.now() - timedelta(days=90), ["sent"]))
    assert [step.notifications for step in steps] == [1]
