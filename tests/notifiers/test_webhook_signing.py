"""The Webhook channel: signatures as Standard Webhooks wants them, and which rows share an endpoint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from notifications.notifiers.base import Endpoint
from notifications.notifiers.webhook import WebhookNotifier, origin
from notifications.notifiers.wording import kind_of
from tests.notifiers.support import OLD_SECRET, SECRET, WEBHOOK, a_message, attempt, notifier, outcomes
from tests.notifiers.table import CONFIG, SENT, Verdict
from tests.receiver import HttpReceiver, Request


def delivered(receiver: HttpReceiver, *, secrets: list[str], **changes: Any) -> Request:
    made = notifier(WEBHOOK, receiver.url(), SECRETS=secrets)
    assert Verdict.of(attempt(made, a_message(**changes))) == SENT
    return receiver.requests[-1]


def verifies(secret: str, request: Request) -> bool:
    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


def test_a_receiver_can_verify(receiver: HttpReceiver) -> None:
    request = delivered(receiver, secrets=[SECRET], message="läuft ab \N{KEY}")
    assert verifies(SECRET, request)
    assert not verifies(OLD_SECRET, request)
    assert request.headers["webhook-id"] == request.headers["Idempotency-Key"] == "n-1"
    assert request.json["type"] == "certificate.expiration_warning"
    assert request.json["data"]["message"] == "läuft ab \N{KEY}"


def test_during_a_rotation_both_secrets_verify(receiver: HttpReceiver) -> None:
    request = delivered(receiver, secrets=[SECRET, OLD_SECRET])
    signatures = request.headers["webhook-signature"].split()
    assert [signature[:3] for signature in signatures] == ["v1,", "v1,"]
    assert len(set(signatures)) == 2
    assert verifies(SECRET, request)
    assert verifies(OLD_SECRET, request)


def test_without_a_secret_there_is_no_signature(receiver: HttpReceiver) -> None:
    request = delivered(receiver, secrets=[])
    assert "webhook-signature" not in request.headers
    assert int(request.headers["webhook-timestamp"]) > 0


def test_an_id_that_does_not_fit_the_header_is_hashed_and_signed(receiver: HttpReceiver) -> None:
    """The specification wants no dots: they separate what is signed."""
    first = delivered(receiver, secrets=[SECRET], id="cert.example.com/7 days\n")
    again = delivered(receiver, secrets=[SECRET], id="cert.example.com/7 days\n", attempt=2)
    assert first.headers["webhook-id"].isalnum()
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert verifies(SECRET, first)
    assert first.json["data"]["id"] == "cert.example.com/7 days\n"


def test_every_attempt_is_signed_afresh(receiver: HttpReceiver) -> None:
    made = notifier(WEBHOOK, receiver.url())
    assert isinstance(made, WebhookNotifier)
    headers = made.signature(a_message(), b"{}")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5


@pytest.mark.parametrize(
    "secret",
    [
        "",
        " ",
        "whsec_",
        "whsec_not base64!",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        None,
    ],
)
def test_what_is_no_secret(secret: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        notifier(WEBHOOK, "https://host.example", SECRETS=[secret])
    assert secret in ("", " ", "whsec_", None) or secret not in str(caught.value)
    assert "channel Webhook: has one that" in str(caught.value)


@pytest.mark.parametrize("secret", ["hunter2", "läuft, ab: täglich", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_secret_that_is_written_freely_signs_with_its_bytes(secret: str, receiver: HttpReceiver) -> None:
    request = delivered(receiver, secrets=[secret])
    signed = b".".join(
        [*(request.headers[f"webhook-{n}"].encode() for n in ("id", "timestamp")), request.body]
    )
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("length", [24, 32, 64])
@pytest.mark.parametrize("padded", [True, False])
def test_what_is_a_secret(length: int, padded: bool) -> None:
    text = base64.b64encode(b"x" * length).decode()
    made = notifier(
        WEBHOOK, "https://host.example", SECRETS=["whsec_" + (text if padded else text.rstrip("="))]
    )
    assert isinstance(made, WebhookNotifier)
    assert len(made.signers) == 1


def test_the_recipient_is_the_url_or_else_the_setting_is(receiver: HttpReceiver) -> None:
    made = notifier(WEBHOOK, receiver.url("/default"))
    recipients = ["ops", receiver.url("/own"), receiver.url("/own").upper().replace("/OWN", "/Own"), ""]
    results = outcomes([(made, a_message(recipient=r)) for r in recipients], in_turn=True)
    assert {Verdict.of(result) for result in results} == {SENT}
    assert [request.path for request in receiver.requests] == ["/default", "/own", "/Own", "/default"]


@pytest.mark.parametrize(
    "recipient", ["ops", "ftp://host.example/", "http://", "https://ho st/", "http:host", ""]
)
def test_a_recipient_that_is_neither(recipient: str) -> None:
    error = attempt(notifier(WEBHOOK, ""), a_message(recipient=recipient))
    assert Verdict.of(error) == CONFIG
    assert "CERTCTL_WEBHOOK_URL" in str(error)


def test_a_malformed_url_does_not_fall_back_to_the_default(receiver: HttpReceiver) -> None:
    made = notifier(WEBHOOK, receiver.url())
    assert Verdict.of(attempt(made, a_message(recipient="https://ho st/"))) == CONFIG
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("recipient", "key", "prefix", "exact"),
    [
        ("https://host:8443/hook", "webhook https://host:8443", "https://host:8443/", False),
        ("https://host/hook", "webhook https://host", "https://host/", False),
        ("HTTPS://Host:443/hook", "webhook https://host", "HTTPS://Host:443/", False),
        ("http://host:80?a=b", "webhook http://host", "http://host:80?", False),
        ("https://host", "webhook https://host", "https://host", True),
        ("https://user:secret@host/", "webhook https://host", "https://user:secret@host/", False),
        ("http://[::1]:8080/", "webhook http://[::1]:8080", "http://[::1]:8080/", False),
        ("ops", "webhook https://default.example", None, True),
        ("", "webhook https://default.example", None, True),
        ("https://", "webhook nowhere", "https://", True),
        ("https://host:99999/", "webhook invalid", "https://host:99999/", False),
    ],
)
def test_the_endpoint(recipient: str, key: str, prefix: str | None, exact: bool) -> None:
    made = notifier(WEBHOOK, "https://default.example/hook")
    assert made.endpoint(a_message(recipient=recipient)) == Endpoint(key, "Webhook", prefix, exact)


def test_a_prefix_never_covers_another_host() -> None:
    made = notifier(WEBHOOK, "")
    endpoint = made.endpoint(a_message(recipient="https://host.example/hook"))
    assert endpoint.recipient_prefix is not None
    for other in ("https://host.example.evil/", "https://host.example:8443/", "https://host.example@evil/"):
        assert not other.startswith(endpoint.recipient_prefix)
        assert made.endpoint(a_message(recipient=other)).key != endpoint.key


@pytest.mark.parametrize(
    ("name", "snaked"),
    [
        ("ExpirationWarning", "expiration_warning"),
        ("expiration_warning", "expiration_warning"),
        ("PolicyViolation", "policy_violation"),
        ("Revocation", "revocation"),
        ("", ""),
    ],
)
def test_one_spelling_of_the_type(name: str, snaked: str) -> None:
    assert kind_of(name) == snaked


def test_what_is_signed_is_what_is_sent(receiver: HttpReceiver) -> None:
    request = delivered(receiver, secrets=[SECRET], message="x" * 50_000 + "\ud83d\x00\u2028")
    assert verifies(SECRET, request)
    assert len(request.body) <= 20_000
    json.loads(request.body)


def test_origin() -> None:
    assert origin("https://Host.Example.:443/x") == "https://host.example"


def test_close_twice(receiver: HttpReceiver) -> None:
    made = notifier(WEBHOOK, receiver.url())

    async def run() -> None:
        await made.send(a_message())
        await made.close()
        await made.http.close()
        await made.http.close()

    asyncio.run(run())
