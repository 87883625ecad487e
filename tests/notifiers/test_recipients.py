"""Several addresses are one mail, and each has its own end: on a mail server that answers per address."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import hypothesis
import pytest
from django.core.mail import EmailMultiAlternatives
from hypothesis import given
from hypothesis import strategies as st

from notifications import delivery
from notifications.database import connection
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, RecipientAnswer, Status
from notifications.notifiers.mail.addresses import addresses
from notifications.notifiers.mail.form import LINE_ENDS, form
from notifications.text import one_line
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.notifiers.support import mail_settings
from tests.receiver import MailReceiver

pytestmark = pytest.mark.django_db

EMAIL = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "pki@example.com"}
FOUR = "a@example.com, Ops Team <b@example.com>; mailto:c@example.com,d@example.com"
NOT_NOW = "450 4.2.1 try later"
NEVER = "550 5.1.1 No such user"


@pytest.fixture
def mailbox(mail_receiver: MailReceiver, configure: Configure, settings: Any) -> MailReceiver:
    mail_settings(settings, mail_receiver.port)
    configure(CHANNELS={"Email": EMAIL})
    return mail_receiver


@pytest.fixture(params=["SMTPUTF8", "8BITMIME"])
def without(request: Any, configure: Configure, settings: Any) -> Iterator[tuple[str, MailReceiver]]:
    with MailReceiver(without=[request.param]) as server:
        mail_settings(settings, server.port)
        configure(CHANNELS={"Email": EMAIL})
        yield request.param, server


def alert(recipient: str = FOUR, **fields: Any) -> NotificationEvent:
    return factories.pending(channel="Email", recipient=recipient, **fields)


def sweep(event: NotificationEvent) -> tuple[str, str]:
    """Attempt it once more. Its status and the error of this attempt."""
    rows = NotificationEvent.objects.filter(pk=event.pk)
    rows.failed().update(next_retry_at=ago(minutes=1))
    delivery.send_pending()
    delivery.retry_failed()
    event.refresh_from_db()
    return event.status, DeliveryAttempt.objects.filter(notification=event).latest("id").error or ""


@pytest.mark.parametrize(
    ("recipient", "reached"),
    [
        ("a@example.com, b@example.com", ["a@example.com", "b@example.com"]),
        ("a@example.com; b@example.com", ["a@example.com", "b@example.com"]),
        ("Ops Team <ops@example.com>", ["ops@example.com"]),
        (" ops@example.com \n", ["ops@example.com"]),
        ("mailto:ops@example.com?subject=x", ["ops@example.com"]),
        ('"odd user"@example.com', ['"odd user"@example.com']),
        ('"Müller, Hans" <h@bücher.example>', ["h@xn--bcher-kva.example"]),
        ("müller@example.com", ["müller@example.com"]),
    ],
)
def test_what_any_mail_program_takes(mailbox: MailReceiver, recipient: str, reached: list[str]) -> None:
    event = alert(recipient)
    assert sweep(event) == (Status.SENT, "")
    [mail] = mailbox.mails
    assert mail.recipients == reached
    assert not RecipientAnswer.objects.exists()


def test_who_has_it_is_not_sent_it_again(mailbox: MailReceiver) -> None:
    event = alert()
    mailbox.by_address = {"d@example.com": NOT_NOW}
    status, error = sweep(event)
    assert (status, event.retry_count) == (Status.FAILED, 1)
    assert error.startswith("3 of 4 recipients have it; not d@example.com: SMTP 450: 4.2.1 try later")
    assert not Hold.objects.exists()
    mailbox.by_address, before = {}, mailbox.mails[0]
    assert sweep(event) == (Status.SENT, "")
    assert [mail.recipients for mail in mailbox.mails] == [
        [f"{n}@example.com" for n in "abc"],
        ["d@example.com"],
    ]
    for header in ("Message-ID", "To", "References"):
        assert mailbox.mails[1].parsed[header] == before.parsed[header]


def test_who_is_refused_for_good_is_not_asked_again_until_a_requeue(mailbox: MailReceiver) -> None:
    event = alert()
    mailbox.by_address = {"b@example.com": NEVER, "d@example.com": NOT_NOW}
    assert sweep(event)[0] == Status.FAILED
    del mailbox.by_address["d@example.com"]
    status, error = sweep(event)
    assert (status, mailbox.asked.count("b@example.com")) == (Status.DEAD, 1)
    assert "3 of 4 recipients have it; not b@example.com: SMTP 550: 5.1.1 No such user" in error
    mailbox.by_address, before = {}, len(mailbox.asked)
    event.requeue(by="ada")
    assert sweep(event) == (Status.SENT, "")
    assert mailbox.asked[before:] == ["b@example.com"]


def test_a_notification_that_nobody_takes_is_dead_and_names_them_all(mailbox: MailReceiver) -> None:
    mailbox.by_address = {f"{n}@example.com": NEVER for n in "abcd"}
    status, error = sweep(alert())
    assert status == Status.DEAD
    assert error.count("@example.com: SMTP 550") == 4


def test_what_is_remembered_goes_with_the_notification(mailbox: MailReceiver) -> None:
    """In PostgreSQL also when certctl deletes it behind Django's back."""
    event = alert()
    mailbox.by_address = {"d@example.com": NOT_NOW}
    sweep(event)
    assert RecipientAnswer.objects.count() == 3
    if connection().vendor == "postgresql":
        with connection().cursor() as cursor:
            cursor.execute("DELETE FROM notification_events WHERE id = %s", [event.pk])
    else:
        event.delete()
    assert not RecipientAnswer.objects.exists()


def test_one_recipient_costs_no_query_more(
    mailbox: MailReceiver, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.by_address = {"a@example.com": NOT_NOW}
    monkeypatch.setattr(RecipientAnswer, "objects", None)  # whoever asks it fails
    event = alert("Ops <a@example.com>")
    assert sweep(event)[0] == Status.FAILED


def test_a_server_that_takes_one_recipient_a_mail_gets_several_mails(mailbox: MailReceiver) -> None:
    no = "452 4.5.3 Too many recipients"
    mailbox.rcpt.extend(["250 OK", no, no, "250 OK", no])
    event = alert("a@example.com, b@example.com, c@example.com")
    assert sweep(event) == (Status.SENT, "")
    assert [mail.recipients for mail in mailbox.mails] == [[f"{n}@example.com"] for n in "abc"]
    assert DeliveryAttempt.objects.filter(notification=event).count() == 1


def test_a_lost_second_mail_does_not_repeat_the_first(mailbox: MailReceiver) -> None:
    mailbox.rcpt.extend(["250 OK", "452 4.5.3 Too many recipients"])
    mailbox.data.extend(["250 taken", "drop"])
    event = alert("a@example.com, b@example.com")
    assert sweep(event)[0] == Status.FAILED
    sweep(event)
    assert [mail.recipients for mail in [*mailbox.mails, *mailbox.dropped]] == [
        ["a@example.com"],
        ["b@example.com"],
        ["b@example.com"],
    ]


def test_an_extension_that_is_not_there(without: tuple[str, MailReceiver]) -> None:
    """SMTPUTF8: only who needs it is dead, and says so. 8BITMIME: the mail passes as it is."""
    missing, server = without
    event = alert("müller@example.com, b@example.com", message="läuft ab 🔐" * 40)
    status, error = sweep(event)
    [mail] = server.mails
    if missing == "SMTPUTF8":
        assert status == Status.DEAD
        assert (
            "1 of 2 recipients have it; not müller@example.com: the mail server does not offer SMTPUTF8"
            in error
        )
        assert mail.recipients == ["b@example.com"]
        assert mail.content.isascii()
    else:
        assert (status, mail.recipients) == (Status.SENT, ["müller@example.com", "b@example.com"])
        assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.options)
    _, _, body = mail.content.partition(b"\r\n\r\n")
    assert body.isascii()
    assert "läuft ab 🔐" in text_of(mail.parsed)


def test_a_mail_is_seven_bits_wherever_no_address_needs_more(mailbox: MailReceiver) -> None:
    event = alert("Jörg <j@example.com>", message="läuft ab 🔐\n" + "ü" * 2_000, type="Ü" * 200)
    assert sweep(event) == (Status.SENT, "")
    [mail] = mailbox.mails
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert "ü" * 2_000 in text_of(mail.parsed)
    assert not {"SMTPUTF8", "BODY=8BITMIME"} & set(mail.options)


def test_the_sender_s_options(mailbox: MailReceiver, configure: Configure) -> None:
    more = {
        "REPLY_TO": "Help <help@example.com>",
        "ENVELOPE_FROM": "bounces@example.com",
        "EHLO_NAME": "x.example",
    }
    configure(
        CHANNELS={"Email": {**EMAIL, **more, "FROM_ADDRESS": "Zertifikate für alle <pki@bücher.example>"}}
    )
    first, other = alert("a@example.com"), alert("a@example.com", certificate_id="other")
    assert sweep(first) == sweep(other) == (Status.SENT, "")
    mails = [mail.parsed for mail in mailbox.mails]
    assert {mail.sender for mail in mailbox.mails} == {"bounces@example.com"}
    for mail in mails:
        assert (mail["From"], mail["Reply-To"]) == (
            "Zertifikate für alle <pki@xn--bcher-kva.example>",
            "Help <help@example.com>",
        )
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["List-Id"] == "certctl notifications <certctl.xn--bcher-kva.example>"
        assert mail["Message-ID"].endswith("@xn--bcher-kva.example>")
    assert mails[0]["References"] != mails[1]["References"]


def test_the_html_part(mailbox: MailReceiver, configure: Configure) -> None:
    configure(BASE_URL="https://certctl.example.com")
    event = alert("a@example.com", message="<img src='https://evil.example/x.png'> & \u202e <script>")
    assert sweep(event) == (Status.SENT, "")
    part = mailbox.mails[0].parsed.get_body(("html",))
    assert part is not None
    html = part.get_content()
    assert "&lt;img src=&#x27;https://evil.example/x.png&#x27;&gt; &amp;" in html
    assert html.count("<a ") == html.count("https://certctl.example.com/admin/") == 1
    assert '<th scope="row">Certificate</th><td><bdi>mc-api-prod</bdi></td>' in html
    for nothing in ("<img", "<script", "<link", "url(", "@import", 'src="'):
        assert nothing not in html
    assert 'name="color-scheme" content="light dark"' in html


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


@pytest.mark.parametrize(
    "faulty", ["a@example.com, b", "a@b@c.example", "a@", "mailto:a@x.example%0d%0aBcc:b@x.example"]
)
def test_what_is_no_address_says_which(faulty: str) -> None:
    with pytest.raises(ValueError, match="is not an e-mail address"):
        addresses(faulty)


def test_a_refusal_from_before_a_requeue_is_forgotten(mailbox: MailReceiver) -> None:
    """By the times of both: nothing is deleted."""
    event = alert("a@example.com, b@example.com")
    RecipientAnswer.objects.create(
        notification=event,
        recipient="a@example.com",
        refusal="no",
        at=event.created_at - timedelta(seconds=1),
    )
    assert sweep(event) == (Status.SENT, "")
    assert mailbox.mails[0].recipients == ["a@example.com", "b@example.com"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.text(
    " .-=?_ä漢\t\r\n\x00", max_size=300
)


@hypothesis.settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_whatever_a_mail_says_it_can_be_read_again(text: str, html: str, subject: str) -> None:
    subject = one_line(subject)
    email = EmailMultiAlternatives(subject, text, headers={"Message-ID": f"<{'x' * 200}@example.com>"})
    email.attach_alternative(html, "text/html")
    [sender], recipients = addresses("Jörg <j@example.com>"), addresses("a@example.com, Ö <b@example.com>")
    written = form(email, sender, recipients, utf8=False)
    assert written.isascii()
    assert max(map(len, written.split(b"\r\n"))) <= 998
    assert b"\n" not in written.replace(b"\r\n", b"")
    read = message_from_bytes(written, policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert read["Message-ID"] == f"<{'x' * 200}@example.com>"
    assert read["From"] == "Jörg <j@example.com>"
    assert read["To"] == "a@example.com, Ö <b@example.com>"
    for kind, said in (("plain", text), ("html", html)):
        part = read.get_body((kind,))
        assert part is not None
        content = str(part.get_content())
        assert lines(content) == lines(said)


def lines(text: str) -> list[str]:
    return LINE_ENDS.split(text.rstrip("\r\n"))
