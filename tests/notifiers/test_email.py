"""The e-mail channel end to end: from a row, through a sweep, to a mail server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from notifications import delivery
from notifications.exceptions import CUT_MARK
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, Status
from notifications.queue.messages import linker
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.notifiers.support import EMAIL, mail_settings
from tests.receiver import Mail, MailReceiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def mailbox(mail_receiver: MailReceiver, configure: Configure, settings: Any) -> MailReceiver:
    """The mail server, with the Email channel pointing at it."""
    mail_settings(settings, mail_receiver.port)
    configure(CHANNELS={"Email": EMAIL})
    return mail_receiver


def alert(**fields: Any) -> NotificationEvent:
    return factories.pending(channel="Email", recipient="pki@example.com", **fields)


def text_of(mail: Mail) -> str:
    part = mail.parsed.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def outcome(event: NotificationEvent) -> tuple[str, DeliveryAttempt]:
    event.refresh_from_db()
    return event.status, DeliveryAttempt.objects.filter(notification=event).latest("id")


def test_the_mail_says_it_all(mailbox: MailReceiver) -> None:
    event = alert(message="api.example.com läuft ab 🔐")
    assert delivery.send_pending().sent == 1
    [mail] = mailbox.mails
    parsed = mail.parsed
    assert (mail.sender, mail.recipients) == ("certctl@example.com", ["pki@example.com"])
    assert parsed["Subject"] == event.message
    for said in (event.message, "Expiry warning", "mc-api-prod", event.pk):
        assert said in text_of(mail)
    assert outcome(event)[1].status_code == 250


@pytest.mark.parametrize("length", [10, 1_200_000])
def test_the_link_is_in_the_mail_however_long_the_message_is(
    mailbox: MailReceiver, configure: Configure, length: int
) -> None:
    configure(CHANNELS={"Email": EMAIL}, BASE_URL="https://certctl.example.com")
    event = alert(message="It begins" + "ä\n" * length)
    assert delivery.send_pending().sent == 1
    text = text_of(mailbox.mails[0])
    assert f"https://certctl.example.com/admin/notifications/notificationevent/{event.pk}/change/" in text
    for said in ("It begins", "Expiry warning", "mc-api-prod"):
        assert said in text
    assert (CUT_MARK in text) == (length > 10)


def test_a_site_writes_its_own_mails(mailbox: MailReceiver, tmp_path: Path, settings: Any) -> None:
    folder = tmp_path / "notifications" / "email"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Achtung: {{ message.certificate_id }}")
    (folder / "body.txt").write_text("{{ message.message|upper }}, {{ message.attempt }}. Versuch")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path, *settings.TEMPLATES[0]["DIRS"]]}]
    alert(message="it expires")
    assert delivery.send_pending().sent == 1
    [mail] = mailbox.mails
    assert mail.parsed["Subject"] == "Achtung: mc-api-prod"
    assert text_of(mail).strip() == "IT EXPIRES, 1. Versuch"


@pytest.mark.parametrize("event_id", ["0b9f5d1e-6f1d-4c7e", "x_41", "a/b c?d#e", "ä_5F"])
def test_the_link_opens_the_notification(admin_client: Client, event_id: str) -> None:
    factories.dead(id=event_id, message=f"This is {event_id}.")
    path = linker("https://certctl.example.com/")(event_id).removeprefix("https://certctl.example.com")
    page = admin_client.get(path)
    assert page.status_code == 200
    assert f"This is {event_id}." in page.content.decode()


@pytest.mark.parametrize(
    ("reply", "becomes", "reason"),
    [
        ("421 come back later", Status.FAILED, "server"),
        ("450 mailbox busy", Status.FAILED, "deferred"),
        ("452 mailbox full", Status.FAILED, "deferred"),
        ("550 no such user", Status.DEAD, "client"),
        ("552 too large", Status.DEAD, "client"),
        ("554 no", Status.DEAD, "client"),
        ("535 who are you", Status.FAILED, "auth"),
    ],
)
@pytest.mark.parametrize("stage", ["rcpt", "data"])
def test_what_a_reply_makes_of_the_row(
    mailbox: MailReceiver, stage: str, reply: str, becomes: str, reason: str
) -> None:
    getattr(mailbox, stage).append(reply)
    event = alert()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason, attempt.status_code) == (becomes, reason, int(reply[:3]))
    assert reply[4:] in str(event.last_error)


def test_greylisted_recipients_do_not_hold_the_server(mailbox: MailReceiver) -> None:
    """Each is new to it once; were they its failures, five in a row would hold the rest."""
    names = [f"new{number}@example.com" for number in range(20)]
    events = [factories.pending(channel="Email", recipient=name) for name in names]
    mailbox.rcpt.extend(["451 4.7.1 Greylisting in action"] * len(events))
    assert delivery.send_pending().rescheduled == len(events)
    assert not Hold.objects.exists()
    NotificationEvent.objects.update(next_retry_at=ago(minutes=1))
    assert delivery.retry_failed().sent == len(events)


def test_a_server_that_takes_no_more_connections_costs_no_attempt(mailbox: MailReceiver) -> None:
    """It says so although none is ours; the row waits a moment and has its whole budget."""
    event = alert()
    mailbox.rcpt.append("421 4.7.0 Too many concurrent SMTP connections")
    assert delivery.send_pending().rescheduled == 1
    rows = NotificationEvent.objects.filter(pk=event.pk)
    assert rows.values_list("status", "retry_count").get() == ("failed", 0)
    assert not Hold.objects.exists()
    # Who is refused so for longer than rows may wait spends its budget: it must not wait for ever.
    rows.update(next_retry_at=ago(minutes=1), created_at=ago(hours=5))
    mailbox.rcpt.append("421 4.7.0 Too many concurrent SMTP connections")
    delivery.retry_failed()
    assert rows.values_list("status", "retry_count").get() == ("failed", 1)


def test_a_connection_lost_after_the_last_dot_may_have_arrived(mailbox: MailReceiver) -> None:
    mailbox.data.append("drop")
    event = alert()
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.outcome) == (Status.FAILED, "unknown")


def test_every_attempt_carries_the_same_message_id(mailbox: MailReceiver) -> None:
    mailbox.data.append("drop")
    event = alert()
    delivery.send_pending()
    [attempt] = DeliveryAttempt.objects.filter(notification=event)
    assert attempt.outcome == "unknown"
    NotificationEvent.objects.filter(pk=event.pk).update(next_retry_at=ago(seconds=1))
    alert()
    assert delivery.retry_failed().sent + delivery.send_pending().sent == 2
    ids = [mail.parsed["Message-ID"] for mail in [*mailbox.dropped, *mailbox.mails]]
    assert len(ids) == 3
    assert ids[0] == ids[1] != ids[2]
    assert event.pk in ids[0]


POISON = "x\r\nBcc: victim@example.com\r\n\r\nbody"


def test_nothing_in_a_row_adds_a_header_or_a_recipient(mailbox: MailReceiver) -> None:
    alert(pk=POISON, type=POISON, certificate_id=POISON, message=POISON)
    assert delivery.send_pending().sent == 1
    [mail] = mailbox.mails
    assert mail.recipients == ["pki@example.com"]
    assert mail.parsed["Bcc"] is None
    assert len(mail.parsed.get_all("Subject")) == 1


@pytest.mark.parametrize(
    "recipient",
    ["a@example.com, b", "a@example.com\r\nBcc: b@example.com", "<a@example.com", "#pki"],
)
def test_what_is_no_address_dies_unsent(mailbox: MailReceiver, recipient: str) -> None:
    event = factories.pending(channel="Email", recipient=recipient)
    delivery.send_pending()
    now, attempt = outcome(event)
    assert (now, attempt.reason, mailbox.connections) == (Status.DEAD, "config", 0)


def test_a_due_row_is_delivered_by_the_retry_sweep_too(mailbox: MailReceiver) -> None:
    event = factories.failed(channel="email", recipient="pki@example.com", due_at=ago(minutes=1))
    assert delivery.retry_failed().sent == 1
    assert event.pk in mailbox.mails[0].parsed["Message-ID"]
