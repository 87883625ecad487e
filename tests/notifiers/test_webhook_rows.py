"""The webhook channel end to end: from a row, through a sweep, to a receiver, and back to the row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from standardwebhooks.webhooks import Webhook

from notifications import delivery
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, Status
from tests import factories
from tests.factories import ago
from tests.fixtures import LOOPBACK, WEBHOOK, Configure
from tests.receiver import Answer, HttpReceiver, Request

pytestmark = pytest.mark.django_db

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def signed(receiver: HttpReceiver, configure: Configure) -> HttpReceiver:
    """The receiver, for alerts that are signed."""
    options = {"NOTIFIER": WEBHOOK, "URL": receiver.url(), "SECRETS": [SECRET], "ALLOWED_NETWORKS": LOOPBACK}
    configure(CHANNELS={"Webhook": options})
    return receiver


def verified(request: Request) -> Any:
    """What a receiver that follows Standard Webhooks makes of the request."""
    return Webhook(SECRET).verify(request.body, dict(request.headers))


def outcome(event: NotificationEvent) -> tuple[str, DeliveryAttempt]:
    event.refresh_from_db()
    return event.status, DeliveryAttempt.objects.filter(notification=event).latest("id")


@pytest.mark.parametrize("message", ["soon", "日本語 🔐 \u2028", "x" * 100_000, '"}{\\u0000'])
def test_what_a_row_says_arrives_and_verifies(signed: HttpReceiver, message: str) -> None:
    event = factories.pending(message=message)
    assert delivery.send_pending().sent == 1
    body = verified(signed.requests[0])
    assert body["type"] == "certificate.expiration_warning"
    assert (body["data"]["id"], body["data"]["certificate_id"]) == (event.pk, "mc-api-prod")
    assert message.startswith(body["data"]["message"].removesuffix("…[cut]"))


def test_a_retry_is_signed_afresh_under_the_same_id(signed: HttpReceiver) -> None:
    signed.script(503)
    event = factories.pending()
    moments = [datetime(2026, 6, 1, 12, minute, tzinfo=UTC) for minute in (0, 10)]
    for moment, sweep in zip(moments, (delivery.send_pending, delivery.retry_failed), strict=True):
        with time_machine.travel(moment):
            sweep()
            verified(signed.requests[-1])
        NotificationEvent.objects.filter(pk=event.pk).update(next_retry_at=ago(days=9000))
    stamps = [int(request.headers["webhook-timestamp"]) for request in signed.requests]
    assert stamps == [moment.timestamp() for moment in moments]
    assert {request.headers["webhook-id"] for request in signed.requests} == {event.pk}
    assert {request.headers["Idempotency-Key"] for request in signed.requests} == {event.pk}


STATUSES = [
    (200, Status.SENT, ""),
    (204, Status.SENT, ""),
    (301, Status.DEAD, "gone"),
    (302, Status.FAILED, "other"),
    (400, Status.DEAD, "client"),
    (401, Status.DEAD, "auth"),
    (403, Status.DEAD, "auth"),
    (404, Status.FAILED, "other"),
    (408, Status.FAILED, "timeout"),
    (409, Status.FAILED, "other"),
    (410, Status.DEAD, "gone"),
    (413, Status.DEAD, "client"),
    (415, Status.DEAD, "client"),
    (422, Status.DEAD, "client"),
    (425, Status.FAILED, "server"),
    (429, Status.FAILED, "rate_limited"),
    (500, Status.FAILED, "server"),
    (503, Status.FAILED, "server"),
]


@pytest.mark.parametrize(("status", "becomes", "reason"), STATUSES)
def test_what_a_status_makes_of_the_row(
    webhook: HttpReceiver, status: int, becomes: str, reason: str
) -> None:
    webhook.always(Answer(status, body=b""))
    event = factories.pending()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason, attempt.status_code) == (becomes, reason, status)


def test_a_redirect_is_a_failure_and_is_not_followed(webhook: HttpReceiver) -> None:
    webhook.always(Answer(307, headers={"Location": webhook.url("/elsewhere")}))
    event = factories.pending()
    delivery.send_pending()
    assert outcome(event)[0] == Status.FAILED
    assert [request.path for request in webhook.requests] == ["/hook"]


HOSTS = ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_address_that_is_not_public_is_refused_unless_allowed(
    receiver: HttpReceiver, configure: Configure, host: str
) -> None:
    configure(CHANNELS={"Webhook": {"NOTIFIER": WEBHOOK}})
    event = factories.pending(recipient=receiver.url("/hook?token=hunter2", host=host))
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason, receiver.requests) == (Status.DEAD, "config", [])
    assert attempt.error
    assert "ALLOWED_NETWORKS" in attempt.error or "correct the address" in attempt.error
    assert "hunter2" not in attempt.error


POISON = ["x\r\nX-Injected: 1", "x\nX-Injected: 1", "x\r\n\r\nPOST /2 HTTP/1.1", "x\tX", "é", "🔐" * 99]


@pytest.mark.parametrize("poison", POISON)
def test_nothing_in_a_row_adds_a_header_or_a_request(signed: HttpReceiver, poison: str) -> None:
    """Not even the id: certctl writes what it likes there."""
    factories.pending(pk=poison, type=poison, certificate_id=poison, message=poison)
    assert delivery.send_pending().sent == 1
    [request] = signed.requests
    assert "X-Injected" not in request.headers
    assert request.headers["webhook-id"].isascii()
    assert verified(request)["data"]["id"] == poison


def test_a_recipient_with_line_breaks_adds_nothing_either(webhook: HttpReceiver) -> None:
    event = factories.pending(recipient=f"{webhook.url('/own')}\r\nX-Injected: 1")
    delivery.send_pending()
    assert outcome(event)[0] in (Status.DEAD, Status.SENT)
    assert not any("X-Injected" in request.headers for request in webhook.requests)
    assert len(webhook.requests) <= 1


def test_one_receivers_refusal_holds_no_other_receiver(webhook: HttpReceiver) -> None:
    with HttpReceiver() as refusing:
        refusing.always(403)
        refused = [factories.pending(recipient=refusing.url()) for _ in range(3)]
        welcome = [factories.pending() for _ in range(3)]
        assert delivery.send_pending().sent == len(welcome)
    states = NotificationEvent.objects.filter(pk__in=[event.pk for event in refused])
    assert Status.DEAD in states.values_list("status", flat=True)
    assert Hold.objects.exists()
