"""What a site's own tests are given."""

from __future__ import annotations

import pytest
from django.db import transaction

from notifications import delivery
from notifications.models import NotificationEvent
from notifications.testing import MemoryNotifier, outbox
from notifications.testing.plugin import notification_outbox
from tests.fixtures import Configure
from tests.models.test_raising import alert

__all__ = ["notification_outbox"]
EVENTS = NotificationEvent.objects


@pytest.mark.django_db
def test_the_outbox_has_what_is_raised_and_nothing_else() -> None:
    EVENTS.notify(**alert(dedup_key="before"))
    with outbox() as raised:
        EVENTS.notify(**alert(message="one"))
        EVENTS.notify(**alert(dedup_key="before"))
        with outbox() as inner:
            EVENTS.notify_many([alert(message="two", dedup_key="k"), alert(message="three", dedup_key="k")])
        assert [event.message for event in inner] == ["two"]
    EVENTS.notify(**alert(message="after"))
    assert [event.message for event in raised] == ["one", "two"]
    assert raised[0] == EVENTS.get(message="one")


@pytest.mark.django_db
def test_a_test_that_fails_leaves_no_outbox_behind() -> None:
    with pytest.raises(ZeroDivisionError), outbox() as raised:
        raise ZeroDivisionError
    EVENTS.notify(**alert())
    assert raised == []


@pytest.mark.django_db
def test_the_fixture(notification_outbox: list[NotificationEvent]) -> None:
    with transaction.atomic():
        EVENTS.notify(**alert(recipient="#pki"))
    assert [event.recipient for event in notification_outbox] == ["#pki"]


@pytest.mark.django_db(transaction=True)
def test_a_channel_that_only_keeps(configure: Configure) -> None:
    configure(CHANNELS={"Webhook": {"NOTIFIER": "notifications.testing.MemoryNotifier"}})
    MemoryNotifier.sent.clear()
    event, _ = EVENTS.notify(**alert())
    assert event.warnings == ()
    delivery.send_pending()
    assert [message.id for message in MemoryNotifier.sent] == [event.pk]
