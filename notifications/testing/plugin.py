"""The fixture for pytest: `pytest_plugins = ["notifications.testing.plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..models import NotificationEvent
from . import outbox


@pytest.fixture
def notification_outbox() -> Iterator[list[NotificationEvent]]:
    """The alerts that the test raises: see notifications.testing.outbox."""
    with outbox() as raised:
        yield raised
