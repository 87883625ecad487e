"""E-mail against a mail server that fails at every stage, and against one that speaks all of SMTP."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from django.core import mail

from notifications.exceptions import DeliveryError, PermanentError, TransientError, UnknownOutcome
from notifications.notifiers.base import Delivered
from tests.notifiers.smtp_wire import MailWire
from tests.notifiers.support import (
    a_message,
    attempt,
    attempt_all,
    email_notifier,
    mail_settings,
    outcomes,
)
from tests.notifiers.table import (
    BUSY,
    CLIENT,
    CONFIG,
    DEFERRED,
    HELD,
    NETWORK,
    OTHER,
    SENT,
    SERVER,
    SMTP,
    SMTP_BREAKS,
    TIMEOUT,
    UNKNOWN,
    Verdict,
)
from tests.receiver import MailReceiver

PASSWORD = "correct-horse-battery"
MAIL = a_message(channel="Email", recipient="pki@example.com")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (what it waits for happens in another thread)
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("EmailNotifier"):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(("stage", "code"), SMTP, ids=lambda value: str(value))
def test_every_refusal_at_every_stage(stage: str, code: int, settings: Any) -> None:
    with MailWire({stage: f"{code} 5.7.1 the server's own words"}) as server:
        login = {"username": "certctl", "password": PASSWORD} if stage == "auth" else {}
        mail_settings(settings, server.port, **login)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == SMTP[stage, code]
    assert isinstance(error, DeliveryError)
    assert error.status == code
    assert "the server's own words" in error.text
    assert error.advice or not isinstance(error, PermanentError)


@pytest.mark.parametrize(("stage", "how"), SMTP_BREAKS)
def test_every_break_at_every_stage(stage: str, how: str, settings: Any) -> None:
    with MailWire({stage: how}) as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(timeout=0.2 if how == "hang" else 5), MAIL)
    assert Verdict.of(error) == SMTP_BREAKS[stage, how]
    assert isinstance(error, DeliveryError)
    assert ("may have arrived" in str(error)) == (stage == "dot")


TOO_MANY = [
    "421 4.7.0 mail.test Error: too many connections from 203.0.113.9",
    "421 Too many concurrent SMTP connections; please try again later.",
    "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit",
    "421 4.3.2 Connection rate limit exceeded.",
    "421-4.7.0 mail.test\r\n421 4.7.0 Maximum number of connections reached",
]


@pytest.mark.parametrize("reply", TOO_MANY)
@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail"])
def test_too_many_connections_is_no_attempt(stage: str, reply: str, settings: Any) -> None:
    with MailWire({stage: reply}) as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == BUSY
    assert isinstance(error, DeliveryError)
    assert (error.spends_attempt, error.blames_endpoint, error.status) == (False, False, 421)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 60


def test_a_server_that_shuts_down_is_not_merely_busy(settings: Any) -> None:
    for reply in ("421 4.3.2 Service shutting down", "421 mail.test closing connection"):
        with MailWire({"greeting": reply}) as server:
            mail_settings(settings, server.port)
            error = attempt(email_notifier(), MAIL)
        assert Verdict.of(error) == SERVER
        assert isinstance(error, DeliveryError)
        assert error.spends_attempt


@pytest.mark.parametrize("stage", ["rcpt", "data", "dot"])
@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        ("450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted", DEFERRED),
        ("451 4.7.1 Greylisting in action, please come back later", DEFERRED),
        ("452 4.2.2 The mailbox is full", DEFERRED),
        ("451 4.3.0 Temporary lookup failure", SERVER),
        ("452 4.3.1 Insufficient system storage", SERVER),
        ("421 4.3.2 Service shutting down", SERVER),
    ],
)
def test_whose_matter_a_mail_that_is_put_off_is(
    stage: str, reply: str, meaning: Verdict, settings: Any
) -> None:
    with MailWire({stage: reply}) as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == meaning
    assert isinstance(error, DeliveryError)
    assert error.blames_endpoint == (meaning is SERVER)
    assert error.spends_attempt


@pytest.mark.parametrize("reply", ["220", "250", "450"])
@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot", "quit"])
def test_a_reply_of_endless_lines_is_not_kept(stage: str, reply: str, settings: Any) -> None:
    with MailWire({stage: f"{reply}-flood"}) as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(timeout=60), MAIL)
        assert server.flooded < 20_000_000  # what the sockets on both sides hold, and no more
    assert Verdict.of(error) == (SENT if stage == "quit" else UNKNOWN if stage == "dot" else NETWORK)


def test_a_reply_that_is_neither(settings: Any) -> None:
    with MailWire({"dot": "354 more?"}) as server:
        mail_settings(settings, server.port)
        assert Verdict.of(attempt(email_notifier(), MAIL)) == OTHER


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "dot"])
def test_the_deadline_holds_however_slowly_the_server_drips(stage: str, settings: Any) -> None:
    with MailWire({stage: "drip"}) as server:
        mail_settings(settings, server.port)
        began = time.monotonic()
        error = attempt(email_notifier(timeout=0.3), MAIL)
        assert time.monotonic() - began < 2
    assert Verdict.of(error) == (UNKNOWN if stage == "dot" else TIMEOUT)


def test_no_server(settings: Any) -> None:
    with MailWire() as server:
        port = server.port
    mail_settings(settings, port)
    assert Verdict.of(attempt(email_notifier(), MAIL)) == NETWORK
    mail_settings(settings, 25, host="nowhere.invalid")
    assert Verdict.of(attempt(email_notifier(), MAIL)) == NETWORK


def test_a_full_house_is_not_an_unknown_outcome(settings: Any) -> None:
    """Mails that found no thread in time were certainly not sent."""
    with MailWire({"dot": "hang"}) as server:
        mail_settings(settings, server.port)
        results = attempt_all(email_notifier(timeout=0.5), [MAIL._replace(id=f"n-{n}") for n in range(20)])
        meanings = [Verdict.of(result) for result in results]
        assert set(meanings) == {UNKNOWN, TIMEOUT}


def test_a_cancelled_mail_frees_its_thread(settings: Any) -> None:
    with MailWire({"rcpt": "hang"}) as server:
        mail_settings(settings, server.port)
        made = email_notifier(timeout=30)

        async def run() -> None:
            task = asyncio.create_task(made.send(MAIL))
            await until(lambda: "rcpt" in server.heard)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await made.close()

        asyncio.run(run())


def test_connections_are_kept_and_left_with_a_goodbye(settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        results = outcomes([(email_notifier(), MAIL)] * 1, in_turn=True)
        made = email_notifier()
        results += outcomes([(made, MAIL)] * 10, in_turn=True)
        assert {Verdict.of(result) for result in results} == {SENT}
        assert server.connections == 2
        assert server.heard.count("quit") == 2
        assert len(server.mails) == 11


def test_many_at_once(settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        results = attempt_all(
            email_notifier(), [a_message(id=f"n-{n}", recipient=f"u{n}@example.com") for n in range(60)]
        )
        assert {Verdict.of(result) for result in results} == {SENT}
        assert server.connections <= 8
        assert len({line for m in server.mails for line in m.split(b"\r\n") if b"Message-ID" in line}) == 60


def test_one_refusal_does_not_cost_the_next_mail(settings: Any) -> None:
    with MailWire({"rcpt": "550 nobody here"}) as server:
        mail_settings(settings, server.port)
        made = email_notifier()

        async def run() -> list[Any]:
            first = await asyncio.gather(made.send(MAIL), return_exceptions=True)
            server.replies["rcpt"] = "250 ok"
            second = await asyncio.gather(made.send(MAIL), return_exceptions=True)
            await made.close()
            return [*first, *second]

        assert [Verdict.of(result) for result in asyncio.run(run())] == [CLIENT, SENT]


@pytest.mark.parametrize("farewell", ["close", "421 idle for too long"])
def test_a_kept_connection_that_the_server_left_is_replaced_at_once(farewell: str, settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        made = email_notifier()

        async def run() -> list[Any]:
            first = await made.send(MAIL)
            server.once["mail"] = farewell
            second = await made.send(MAIL)
            await made.close()
            return [first, second]

        assert [Verdict.of(result) for result in asyncio.run(run())] == [SENT, SENT]
        assert server.connections == 2
        assert len(server.mails) == 2


def test_idle_connections_are_left(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.notifiers.email.IDLE_SECONDS", 0.05)
    with MailWire() as server:
        mail_settings(settings, server.port)
        made = email_notifier()

        async def run() -> None:
            await made.send(MAIL)
            await until(lambda: "quit" in server.heard)
            await made.send(MAIL)
            await made.close()

        asyncio.run(asyncio.wait_for(run(), 5))
        assert server.connections == 2


def test_close_does_not_wait_for_a_server_that_hangs(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.notifiers.email.GOODBYE_SECONDS", 0.1)
    with MailWire({"quit": "hang"}) as server:
        mail_settings(settings, server.port)
        made = email_notifier(timeout=30)
        began = time.monotonic()
        assert Verdict.of(attempt(made, MAIL)) == SENT
        assert time.monotonic() - began < 5


# Against aiosmtpd: the protocol in full


@pytest.fixture
def trusted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's TLS context whose certificate this process trusts."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return context


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_starttls_login_and_the_mail_itself(trusted: ssl.SSLContext, settings: Any) -> None:
    with MailReceiver(login=("certctl", PASSWORD), starttls=trusted) as server:
        mail_settings(settings, server.port, username="certctl", password=PASSWORD, use_tls=True)
        assert Verdict.of(attempt(email_notifier(), MAIL)) == SENT
        mail_settings(settings, server.port, username="certctl", password="wrong-password", use_tls=True)
        error = attempt(email_notifier(), MAIL)
        assert Verdict.of(error) == HELD
        assert "wrong-password" not in str(error)
    [got] = server.mails
    parsed = got.parsed
    assert (got.sender, got.recipients) == ("certctl@example.com", ["pki@example.com"])
    assert parsed["Subject"] == "*.example.com expires in 7 days (30 Nov)"
    assert parsed["Message-ID"] == "<n-1@example.com>"
    assert parsed["Auto-Submitted"] == "auto-generated"
    text = parsed.get_body(("plain",))
    assert text is not None
    for part in (MAIL.message, "Expiry warning", MAIL.certificate_id, MAIL.url):
        assert part in text.get_content()


def test_implicit_tls(trusted: ssl.SSLContext, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailWire(tls=trusted) as server:
        mail_settings(settings, server.port, use_ssl=True)
        made = email_notifier()
        assert {Verdict.of(r) for r in outcomes([(made, MAIL)] * 3, in_turn=True)} == {SENT}
        assert server.connections == 1
        monkeypatch.delenv("SSL_CERT_FILE")  # nobody vouches for the server
        error = attempt(email_notifier(), MAIL)
        assert Verdict.of(error) == HELD
        assert "certificate" in str(error)


def test_the_deadline_holds_over_tls(trusted: ssl.SSLContext, settings: Any) -> None:
    with MailWire({"dot": "drip"}, tls=trusted) as server:
        mail_settings(settings, server.port, use_ssl=True)
        assert Verdict.of(attempt(email_notifier(timeout=0.5), MAIL)) == UNKNOWN


def test_a_tls_handshake_that_hangs(settings: Any) -> None:
    with MailWire({"greeting": "hang"}) as server:
        mail_settings(settings, server.port, use_ssl=True)
        assert Verdict.of(attempt(email_notifier(timeout=0.2), MAIL)) == TIMEOUT
    with MailWire() as server:  # plain text where TLS was expected
        mail_settings(settings, server.port, use_ssl=True)
        assert Verdict.of(attempt(email_notifier(), MAIL)) == NETWORK


def test_starttls_that_the_server_does_not_have(settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port, use_tls=True)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == HELD
    assert isinstance(error, DeliveryError)
    assert "CERTCTL_SMTP_USE_TLS" in error.advice


def test_a_login_that_the_server_does_not_have(settings: Any) -> None:
    with MailWire({"ehlo": "250 mail.test"}) as server:
        mail_settings(settings, server.port, username="certctl", password=PASSWORD)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == HELD
    assert "CERTCTL_SMTP_USERNAME" in str(error)


@pytest.mark.parametrize("said", [PASSWORD, PASSWORD.upper(), "AGNlcnRjdGwAY29ycmVjdC1ob3JzZS1iYXR0ZXJ5"])
def test_a_password_that_the_server_repeats(said: str, settings: Any) -> None:
    with MailWire({"auth": f"535 bad credentials: {said}"}) as server:
        mail_settings(settings, server.port, username="certctl", password=PASSWORD)
        error = attempt(email_notifier(), MAIL)
    assert said not in str(error)
    assert "[redacted]" in str(error)


@pytest.mark.parametrize(("reply", "meaning"), [("451 greylisted", DEFERRED), ("550 no such user", CLIENT)])
def test_aiosmtpd_refuses_a_recipient(
    reply: str, meaning: Verdict, mail_receiver: MailReceiver, settings: Any
) -> None:
    mail_receiver.rcpt.append(reply)
    mail_settings(settings, mail_receiver.port)
    assert Verdict.of(attempt(email_notifier(), MAIL)) == meaning
    assert mail_receiver.mails == []


def test_aiosmtpd_drops_the_mail_on_the_floor(mail_receiver: MailReceiver, settings: Any) -> None:
    mail_receiver.data.append("drop")
    mail_settings(settings, mail_receiver.port)
    assert Verdict.of(attempt(email_notifier(), MAIL)) == UNKNOWN


# What a row may hold


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "nobody",
        "a@b@c.example",
        "a@example.com\nBcc: x@example.com",
        "a@example.com\r\nBcc: x@example.com",
        "a\r\nRCPT TO:<x@example.com>@example.com",
        "a@example.com>",
        "a@exa mple.com",
        "a@",
        "@example.com",
    ],
)
def test_what_is_not_one_address(recipient: str, settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(), a_message(recipient=recipient))
        assert server.mails == []
    assert Verdict.of(error) == CONFIG


@pytest.mark.parametrize(
    "recipient", ["a.b+c@example.com", "root@localhost", "ops@mailhost", "o'neil@example.com"]
)
def test_what_is_an_address(recipient: str, mail_receiver: MailReceiver, settings: Any) -> None:
    mail_settings(settings, mail_receiver.port)
    assert Verdict.of(attempt(email_notifier(), a_message(recipient=recipient))) == SENT
    assert mail_receiver.mails[0].recipients == [recipient]


INJECTION = "x\r\nBcc: victim@example.com\r\n\r\nbody"


@pytest.mark.parametrize(
    "changes",
    [
        {"type": INJECTION},
        {"certificate_id": INJECTION},
        {"id": INJECTION},
        {"message": "a\r\n.\r\nMAIL FROM:<x@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nb"},
        {"message": "\n.\n"},
        {"message": "x" * 5_000},
        {"message": "läuft ab \N{KEY}" * 500},
        {"type": "ä" * 255, "certificate_id": "c" * 5_000},
        {"message": "y" * 2_000_000},
        {"message": "half of a pair: \ud83d"},
        {"type": "\x00\x1b[31m"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_nothing_in_a_row_adds_a_header_or_a_mail(
    changes: dict[str, Any], mail_receiver: MailReceiver, settings: Any
) -> None:
    mail_settings(settings, mail_receiver.port)
    result = attempt(email_notifier(), a_message(recipient="pki@example.com", **changes))
    assert Verdict.of(result) == SENT
    [got] = mail_receiver.mails
    assert got.recipients == ["pki@example.com"]
    head = got.content.split(b"\r\n\r\n")[0]
    assert set(got.parsed.keys()) - {"Content-Transfer-Encoding"} == {
        "Content-Type",
        "MIME-Version",
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "X-Certctl-Notification",
        "Auto-Submitted",
        "List-Id",
        "References",
    }
    assert b"victim" not in b"".join(line for line in head.split(b"\r\n") if line.lower().startswith(b"bcc"))
    assert all(len(line) <= 998 for line in got.content.split(b"\r\n"))
    assert len(got.content) < 1_500_000


def test_the_same_message_id_on_every_attempt(mail_receiver: MailReceiver, settings: Any) -> None:
    mail_settings(settings, mail_receiver.port)
    messages = [a_message(recipient="pki@example.com", attempt=number) for number in (1, 2, 3)]
    made = email_notifier()
    outcomes([(made, message) for message in messages], in_turn=True)
    assert {m.parsed["Message-ID"] for m in mail_receiver.mails} == {"<n-1@example.com>"}


def test_another_mail_backend_than_smtp(mailoutbox: list[mail.EmailMessage]) -> None:
    """Django's test backend stands for whatever a site configured."""
    assert Verdict.of(attempt(email_notifier(), MAIL)) == SENT
    assert mailoutbox[0].to == ["pki@example.com"]


def test_a_lost_connection_of_another_backend_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: object, messages: object) -> int:
        raise ConnectionResetError

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", lose)
    assert isinstance(attempt(email_notifier(), MAIL), UnknownOutcome)


def test_without_a_sender() -> None:
    error = attempt(email_notifier(FROM_ADDRESS=""), MAIL)
    assert Verdict.of(error) == CONFIG
    assert "FROM_ADDRESS" in str(error)


def test_the_endpoint() -> None:
    made = email_notifier()
    assert made.endpoint(MAIL).key == "email"
    assert made.endpoint(MAIL).recipient_prefix is None
    assert made.endpoint_concurrency == 8
    asyncio.run(made.close())


def test_the_kinds() -> None:
    """The table tells UnknownOutcome from TransientError, its base class."""
    assert Verdict.of(UnknownOutcome("x")) != Verdict.of(TransientError("x"))
    assert Verdict.of(Delivered()) == SENT
