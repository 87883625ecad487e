"""A channel's own page and the tools on its row: a test alert, a pause, the log of its last attempts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from notifications.admin import channel
from notifications.models import DeliveryAttempt, Hold, NotificationEvent
from tests.admin.outages import hold
from tests.admin.support import LIST, LOGIN, PEOPLE, REFUSED, SEEN, As, answer, text
from tests.factories import attempt, dead, sent
from tests.fixtures import Configure
from tests.receiver import HttpReceiver
from tests.reporting.rows import held
from tests.scripted import Script

pytestmark = pytest.mark.django_db
PAGE = LIST + "channel/?name=Webhook"
ROWS = (LIST + "dashboard/", LIST + "endpoints/")


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def try_out(client: Client, recipient: str, address: str = PAGE) -> Any:
    return client.post(address, {"test": "1", "recipient": recipient})


def test_a_test_alert_is_sent_and_its_answer_told(client: Client, webhook: HttpReceiver) -> None:
    held(f"webhook http://127.0.0.1:{webhook.port}", recipient_prefix=f"http://127.0.0.1:{webhook.port}/")
    page = text(try_out(client, webhook.url("/hook")))
    assert "Delivered in 0." in page
    assert "1 held endpoint delivers again." in page
    [request] = webhook.requests
    assert "This is a test of certctl's notifications." in request.body.decode()
    assert not NotificationEvent.objects.exists(), "no row stands behind it"
    assert Hold.objects.get().reopened_at
    [entry] = LogEntry.objects.all()
    assert entry.change_message.startswith(f"Test alert on Webhook to {webhook.url('/hook')}: Delivered in ")
    webhook.always(503)
    page = text(try_out(client, webhook.url("/hook"), PAGE.replace("Webhook", "WEBHOOK")))
    assert "Not delivered: HTTP 503" in page
    assert f'value="{webhook.url("/hook")}"' in try_out(client, webhook.url("/hook")).content.decode()


@pytest.mark.parametrize(
    ("recipient", "name", "why"),
    [
        ("", "Webhook", "Say to whom."),
        ("x" * 256, "Webhook", "Say to whom."),
        ("ops", "Fax", "Fax is not configured."),
        ("ops", "Broken", "channel Broken: "),
    ],
)
def test_what_is_not_sent_says_why(
    client: Client,
    webhook: HttpReceiver,
    configure: Configure,
    settings: Any,
    recipient: str,
    name: str,
    why: str,
) -> None:
    broken = {"NOTIFIER": "notifications.notifiers.slack.NoSuchNotifier"}
    configure(CHANNELS={**settings.NOTIFICATIONS["CHANNELS"], "Broken": broken})
    page = try_out(client, recipient, f"{LIST}channel/?name={name}")
    assert page.status_code == 200
    assert f"Not sent: {why}" in text(page)
    assert webhook.requests == []


def test_who_may_look_and_who_may_send_to_whom(signed_in: As, webhook: HttpReceiver) -> None:
    """Who may requeue sends to those who were owed something; who may raise alerts, to anybody."""
    event = dead(recipient=webhook.url("/known"))
    for who, seen, sends in zip(
        PEOPLE,
        (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN),
        (LOGIN, REFUSED, REFUSED, REFUSED, SEEN, SEEN),
        strict=True,
    ):
        client = signed_in(who)
        assert answer(client, "GET", PAGE, {}) == seen, who
        for recipient in (event.recipient, webhook.url("/other")):
            webhook.requests.clear()
            assert answer(client, "POST", PAGE, {"test": "1", "recipient": recipient}) == sends, who
            allowed = sends == SEEN and (who == "superuser" or recipient == event.recipient)
            assert len(webhook.requests) == allowed, (who, recipient)
        if seen == SEEN:
            for address in (*ROWS, PAGE):
                markup = client.get(address).content.decode()
                assert ("Send test alert" in markup) == (sends == SEEN), (who, address)
                assert ('name="ask"' in markup) == (sends == SEEN), (who, address)
        User.objects.all().delete()


def test_rows_pause_what_they_are_about_after_showing_what_that_covers(
    client: Client, script: Script
) -> None:
    hold()
    for address in ROWS:
        assert "Pause: Webhook " in client.get(address).content.decode()
    row = {"channel": "Webhook", "recipient": "https://hooks.example.com/", "match": "prefix", "length": "1h"}
    markup = client.get(ROWS[1]).content.decode()
    assert (
        'name="recipient" value="https://hooks.example.com/"><input type="hidden" name="match" value="prefix"'
        in markup
    )
    page = client.post(ROWS[1], {**row, "ask": "1"})
    assert "It covers Webhook to https://hooks.example.com/…: 0 wait now." in text(page)
    assert not Hold.objects.filter(reason="paused").exists()
    client.post(ROWS[1], {**row, "pause": "1"})
    assert Hold.objects.get(reason="paused").recipient_prefix == row["recipient"]
    paused = [shown.paused for shown in client.get(ROWS[1]).context["rows"]]
    assert sorted(paused) == [False, True]


def test_the_log_of_its_last_attempts(
    client: Client, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, other = sent(recipient="first\u202e"), sent(channel="Slack")
    attempt(event, "transient", channel="webhook", number=1, error="HTTP 503 <b>", status_code=503)
    attempt(other, "sent")
    attempt(event, "sent", number=2, duration_ms=812)
    page = client.get(PAGE)
    said = text(page)
    assert [(found.number, tone) for found, tone in page.context["attempts"]] == [(2, "sent"), (1, "failed")]
    for wanted in (
        "first[U+202E]",
        "812 ms",
        "failed, and may succeed later 503 HTTP 503 <b>",
        "worker-1:1",
        "attempt 2",
    ):
        assert wanted in said
    assert page.context["recipient"] == "first\u202e", "to whom it sent last"
    failures = client.get(PAGE + "&failed=1").context["attempts"]
    assert [found.number for found, _ in failures] == [1]
    monkeypatch.setattr(channel, "LOOKED_AT", 2)
    monkeypatch.setattr(channel, "SHOWN", 1)
    met, address = [], f"?{urlencode({'name': 'Webhook'})}#log"
    for _ in range(DeliveryAttempt.objects.count() + 2):
        page = client.get(f"{LIST}channel/{address.partition('#')[0]}")
        met += [found.number for found, _ in page.context["attempts"]]
        if not (address := page.context["further"]):
            break
    assert (met, address) == ([2, 1], ""), "each once, and an end"
    assert "None among" in text(client.get(f"{LIST}channel/?name=Fax&before=bogus"))
    for nonsense in ("", "?name=%00", f"?name={'x' * 256}"):
        assert client.get(f"{LIST}channel/{nonsense}").status_code == 400
