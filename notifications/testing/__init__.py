"""For a site's own tests: what was raised, without a channel, a worker or a look into the table.

    with outbox() as raised:
        renew(certificate)
    assert [event.recipient for event in raised] == ["#pki"]

A `unittest` test takes `self.enterContext(outbox())`; for pytest there is the fixture `notification_outbox`
(`pytest_plugins = ["notifications.testing.plugin"]` in the first conftest.py). For sweeps in tests there is a
channel that only keeps what it is given: MemoryNotifier.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..models import NotificationEvent
from ..models.raising import OUTBOXES
from ..notifiers.base import Delivered, Message, Notifier

__all__ = ["MemoryNotifier", "outbox"]


@contextmanager
def outbox() -> Iterator[list[NotificationEvent]]:
    """The alerts that this process raises meanwhile, in their order, each as `notify` answers it.

    One whose dedup_key was there before is not raised, and so not in it; one whose transaction is undone
    later is. It may be emptied (`clear`) between two parts of a test, and be nested.
    """
    raised: list[NotificationEvent] = []
    OUTBOXES.append(raised)
    try:
        yield raised
    finally:
        OUTBOXES[:] = [other for other in OUTBOXES if other is not raised]


class MemoryNotifier(Notifier):
    """Delivers to `MemoryNotifier.sent`, a list of messages, which a test empties before it begins.

    Its NOTIFIER is `notifications.testing.MemoryNotifier`; it takes any options.
    """

    sent: list[Message] = []

    async def send(self, message: Message) -> Delivered:
        self.sent.append(message)
        return Delivered()
