"""The Webhook channel end to end: from a row, through a sweep, to a receiver."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from standardwebhooks.webhooks import Webhook

from notifications import delivery
from notifications.models import DeliveryAttempt, NotificationEvent, Status
from tests import factories
from tests.factories import ago
from tests.fixtures import LOOPBACK, WEBHOOK, Configure
from tests.notifiers.support import OLD_SECRET, SECRET
from tests.receiver import DROP, Answer, HttpReceiver

pytestmark = pytest.mark.django_db


def outcome(event: NotificationEvent) -> tuple[str, DeliveryAttempt]:
    event.refresh_from_db()
    return event.status, DeliveryAttempt.objects.filter(notification=event).latest("id")


def test_the_request_says_it_all(webhook: HttpReceiver) -> None:
    event = factories.pending(message="läuft ab 🔐")
    assert delivery.send_pending().sent == 1
    [request] = webhook.requests
    assert (request.method, request.id) == ("POST", event.pk)
    assert request.json["type"] == "certificate.expiration_warning"
    data = request.json["data"]
    assert (data["id"], data["type"], data["message"]) == (event.pk, event.type, event.message)
    assert (data["certificate_id"], data["recipient"]) == (event.certificate_id, event.recipient)
    assert outcome(event)[1].status_code == 200


def test_every_secret_signs(receiver: HttpReceiver, configure: Configure) -> None:
    options = {"NOTIFIER": WEBHOOK, "URL": receiver.url(), "ALLOWED_NETWORKS": LOOPBACK}
    configure(CHANNELS={"Webhook": {**options, "SECRETS": [SECRET, OLD_SECRET]}})
    factories.pending()
    assert delivery.send_pending().sent == 1
    [request] = receiver.requests
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(request.body, dict(request.headers))


@pytest.mark.parametrize(
    ("status", "becomes", "reason"),
    [
        (200, Status.SENT, ""),
        (202, Status.SENT, ""),
        (204, Status.SENT, ""),
        (302, Status.FAILED, "other"),
        (400, Status.DEAD, "client"),
        (401, Status.DEAD, "auth"),
        (404, Status.FAILED, "other"),
        (408, Status.FAILED, "timeout"),
        (410, Status.DEAD, "gone"),
        (422, Status.DEAD, "client"),
        (429, Status.FAILED, "rate_limited"),
        (500, Status.FAILED, "server"),
        (503, Status.FAILED, "server"),
    ],
)
def test_what_an_answer_makes_of_the_row(
    webhook: HttpReceiver, status: int, becomes: str, reason: str
) -> None:
    webhook.always(status)
    event = factories.pending()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason, attempt.status_code) == (becomes, reason, status)


@pytest.mark.parametrize("status", [429, 503])
def test_a_longer_wait_that_the_receiver_asks_for_is_kept(webhook: HttpReceiver, status: int) -> None:
    webhook.always(Answer(status, headers={"Retry-After": "1800"}))
    event = factories.pending()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason) == (Status.FAILED, "rate_limited")
    assert event.next_retry_at is not None
    assert timedelta(minutes=29) < event.next_retry_at - timezone.now() < timedelta(minutes=34)


def test_a_lost_answer_is_unknown_and_its_repeat_carries_the_same_id(webhook: HttpReceiver) -> None:
    webhook.script(DROP)
    event = factories.pending()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.outcome) == (Status.FAILED, "unknown")
    NotificationEvent.objects.filter(pk=event.pk).update(next_retry_at=ago(seconds=1))
    assert delivery.retry_failed().sent == 1
    assert webhook.ids == [event.pk, event.pk]


def test_the_recipient_is_the_url_where_it_is_one(webhook: HttpReceiver) -> None:
    factories.pending(recipient=webhook.url("/own"))
    factories.pending(recipient="ops")
    assert delivery.send_pending().sent == 2
    assert sorted(request.path for request in webhook.requests) == ["/hook", "/own"]


def test_an_address_inside_dies_unsent(receiver: HttpReceiver, configure: Configure) -> None:
    configure(CHANNELS={"Webhook": {"NOTIFIER": WEBHOOK}})
    for recipient in (receiver.url(), "http://169.254.169.254/latest/meta-data/", "not a url"):
        event = factories.pending(recipient=recipient)
        delivery.send_pending()
        now, attempt = outcome(event)
        assert (now, attempt.reason) == (Status.DEAD, "config")
    assert receiver.requests == []


def test_a_due_row_is_delivered_by_the_retry_sweep_too(webhook: HttpReceiver) -> None:
    event = factories.failed(channel="webhook")
    assert delivery.retry_failed().sent == 1
    assert webhook.ids == [event.pk]
