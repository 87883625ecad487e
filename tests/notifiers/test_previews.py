"""What each channel says that it would send: all of it, no secret, and nothing is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications.exceptions import DeliveryError, Reason
from notifications.models import NotificationEvent
from notifications.notifiers.base import Message, Notifier
from notifications.notifiers.loading import preview_of
from notifications.reporting.preview import previews
from tests.notifiers.support import (
    HTTP_CHANNELS,
    PAGERDUTY,
    WEBHOOK,
    Channel,
    a_message,
    attempt,
    email_notifier,
    mail_settings,
    notifier,
)
from tests.receiver import Answer, HttpReceiver

every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)


@every_channel
def test_it_is_what_is_sent(channel: Channel, receiver: HttpReceiver) -> None:
    made = notifier(channel, receiver.url(channel.path))
    shown = preview_of(made, a_message())
    assert receiver.requests == []
    assert channel.secret not in shown
    receiver.always(Answer(channel.status, body=channel.body))
    attempt(made)
    sent = json.loads(receiver.requests[0].body)
    assert json.loads(shown) == {**sent, **({"routing_key": "[redacted]"} if channel is PAGERDUTY else {})}


def test_a_mail_is_shown_with_its_head(settings: Any) -> None:
    mail_settings(settings, 1)
    shown = preview_of(email_notifier(), a_message(recipient="pki@example.com"))
    head, _, body = shown.partition("\n\n")
    assert "To: pki@example.com" in head.splitlines()
    assert "Subject: *.example.com expires in 7 days (30 Nov)" in head.splitlines()
    assert a_message().message in body


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (notifier(WEBHOOK, ""), a_message(recipient="ops")),
        (notifier(PAGERDUTY, "https://host.example", ROUTING_KEY=""), a_message()),
        (email_notifier(), a_message(recipient="nobody")),
    ],
    ids=["Webhook", "PagerDuty", "Email"],
)
def test_what_cannot_be_sent_says_why(made: Notifier, message: Message) -> None:
    with pytest.raises(DeliveryError) as caught:
        preview_of(made, message)
    assert caught.value.reason == Reason.CONFIG


class Faulty(Notifier):
    def preview(self, message: Message) -> str:
        raise ImproperlyConfigured("no such spool") if message.type == "known" else ZeroDivisionError


@pytest.mark.parametrize(
    ("type", "fault"), [("known", "no such spool"), ("other", "its notifier failed: ZeroDivisionError")]
)
def test_a_site_s_faulty_preview_does_not_break_the_page(type: str, fault: str, settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"Own": {"NOTIFIER": f"{__name__}.Faulty"}}}
    event = NotificationEvent(type=type, channel="own", recipient="r", message="m")
    [shown] = previews(event)
    assert (shown.own, shown.text, shown.fault) == (True, "", fault)
