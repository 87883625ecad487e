"""FORMAT "certctl": what a receiver that was written for certctl is sent, and how it verifies that."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications import delivery
from notifications.models import Status
from notifications.notifiers.loading import preview_of
from notifications.notifiers.webhook import as_go, rfc3339
from tests import factories
from tests.fixtures import Configure
from tests.notifiers.support import OLD_SECRET, SECRET, WEBHOOK, a_message, attempt, notifier
from tests.notifiers.table import SENT, Verdict
from tests.receiver import Answer, HttpReceiver, Request

FREE = "correct horse, battery staple"


def verifies(request: Request, secret: str) -> bool:
    """As certctl's documentation has its receivers do it: the whole secret is the key."""
    expected = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    algorithm, _, given = request.headers["X-Signature"].partition("=")
    return algorithm == request.headers["X-Signature-Algorithm"] == "sha256" and given == expected


def delivered(receiver: HttpReceiver, secrets: list[str], **changes: Any) -> Request:
    made = notifier(WEBHOOK, receiver.url(), SECRETS=secrets, FORMAT="certctl")
    assert Verdict.of(attempt(made, a_message(**changes))) == SENT
    return receiver.requests[-1]


@pytest.mark.django_db
@pytest.mark.parametrize("secret", [FREE, SECRET])
def test_a_receiver_that_verifies_takes_it_and_no_other(
    secret: str, receiver: HttpReceiver, configure: Configure
) -> None:
    receiver.answer = lambda request: Answer(200 if verifies(request, secret) else 401)
    options = {"NOTIFIER": WEBHOOK.options("")["NOTIFIER"], "URL": receiver.url(), "FORMAT": "certctl"}
    events = []
    for secrets in ([secret], ["another"]):
        configure(CHANNELS={"Webhook": {**options, "SECRETS": secrets}})
        events.append(factories.pending(recipient="alice@example.com", channel="Webhook"))
        delivery.send_pending()
        events[-1].refresh_from_db()
    assert [event.status for event in events] == [Status.SENT, Status.DEAD]


def test_the_body_is_certctls(receiver: HttpReceiver) -> None:
    """In the order and with the escapes of Go's encoding/json."""
    told = "The certificate for <a&b> läuft ab.\n\n[threshold:7]"
    request = delivered(receiver, [FREE], message=told, recipient="alice@example.com")
    known = re.fullmatch(
        rb'\{"body":"The certificate for \\u003ca\\u0026b\\u003e l\xc3\xa4uft ab.\\n\\n\[threshold:7\]",'
        rb'"created_at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d*[1-9])?Z)","event_id":"([0-9a-f]{32})",'
        rb'"event_type":"notification","recipient":"alice@example.com","subject":"ExpirationWarning",'
        rb'"type":"event"\}',
        request.body,
    )
    assert known
    assert abs(datetime.fromisoformat(known[1].decode()) - datetime.now(UTC)) < timedelta(minutes=1)
    assert request.json["body"] == told


def test_the_headers_are_certctls(receiver: HttpReceiver) -> None:
    headers = delivered(receiver, [FREE]).headers
    ours = {name for name in headers if name not in ("Host", "Accept", "Accept-Encoding", "Content-Length")}
    assert ours == {"Content-Type", "User-Agent", "X-Signature", "X-Signature-Algorithm"}
    assert headers["Content-Type"] == "application/json"
    assert headers.getall("User-Agent") == ["certctl-notifier/1.0"]


def test_a_repeat_has_the_same_event_id(receiver: HttpReceiver) -> None:
    ids = [delivered(receiver, [FREE], id=key).json["event_id"] for key in ("n-1", "n-1", "n-2")]
    assert ids[0] == ids[1] != ids[2]


def test_of_several_secrets_the_first_signs(receiver: HttpReceiver) -> None:
    request = delivered(receiver, [SECRET, OLD_SECRET])
    assert verifies(request, SECRET)
    assert len(request.headers.getall("X-Signature")) == 1


def test_without_a_secret_there_is_no_signature(receiver: HttpReceiver) -> None:
    assert not [name for name in delivered(receiver, []).headers if name.startswith("X-")]


def test_the_preview_shows_it() -> None:
    made = notifier(WEBHOOK, "https://alerts.example.com/hook", FORMAT="certctl")
    shown = preview_of(made, a_message())
    assert '"event_type": "notification"' in shown
    assert '"subject": "ExpirationWarning"' in shown


@pytest.mark.parametrize(
    ("microseconds", "written"), [(0, "00Z"), (250_000, "00.25Z"), (1, "00.000001Z"), (100_000, "00.1Z")]
)
def test_a_time_as_go_writes_it(microseconds: int, written: str) -> None:
    at = datetime(2026, 11, 26, 9, 30, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert rfc3339(at) == f"2026-11-26T09:30:{written}"


def test_what_go_escapes() -> None:
    """json.Marshal of {"k": "<>&\\u2028\\u2029\\x01\\x7f\\"\\\\/ü"}, as Go 1.22 and later write it."""
    text = '<>&\u2028\u2029\x01\x7f"\\/ü'
    said = r'{"k":"\u003c\u003e\u0026\u2028\u2029\u0001' + '\x7f\\"\\\\/ü"}'
    assert as_go({"k": text}) == said.encode()
    assert as_go({"k": "\ud83d"}) == b'{"k":"?"}'
