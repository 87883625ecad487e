"""Fixtures that the folders' conftest files take in: channels that really answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.receiver import HttpReceiver, MailReceiver
from tests.scripted import Script, channel

LOOPBACK = ["127.0.0.0/8", "::1/128"]
WEBHOOK = "notifications.notifiers.webhook.WebhookNotifier"

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Change some of settings.NOTIFICATIONS for this test."""

    def change(**options: Any) -> None:
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, **options}

    return change


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as server:
        yield server


@pytest.fixture
def mail_receiver() -> Iterator[MailReceiver]:
    with MailReceiver() as server:
        yield server


@pytest.fixture
def webhook(receiver: HttpReceiver, configure: Configure) -> HttpReceiver:
    """The receiver, with the Webhook channel pointing at it for recipients that are no URL."""
    options = {"NOTIFIER": WEBHOOK, "URL": receiver.url(), "ALLOWED_NETWORKS": LOOPBACK}
    configure(CHANNELS={"Webhook": options})
    return receiver


@pytest.fixture
def script(configure: Configure) -> Script:
    """The Webhook channel without the web: its notifier plays this script."""
    script = Script()
    configure(CHANNELS={"Webhook": channel(script)})
    return script
