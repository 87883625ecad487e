"""What mail servers' words mean: real answers from answers.toml, the net beneath them, and limits on us."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from environs import ValidationError

from certctl.environment import read
from notifications import delivery
from notifications.exceptions import DeliveryError
from notifications.models import Hold, NotificationEvent
from notifications.notifiers.base import Delivered
from notifications.notifiers.email import EmailNotifier
from notifications.notifiers.mail.refusals import MANY, SEVERAL, InARow, Refusal
from notifications.notifiers.mail.words import Meaning, Stage, explained
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.notifiers import table, wire
from tests.notifiers.smtp_wire import MailWire
from tests.notifiers.support import a_message, attempt, attempt_all, email_notifier, mail_settings, outcomes
from tests.notifiers.table import CLIENT, DEFERRED, HELD, SENT, Verdict
from tests.receiver import MailReceiver

FOLDER = Path(__file__).resolve().parent
REAL = tomllib.loads((FOLDER / "answers.toml").read_text())
TABLE = tomllib.loads(
    (FOLDER.parents[1] / "notifications" / "notifiers" / "mail" / "words.toml").read_text("utf-8")
)
MAIL = a_message(channel="Email", recipient="pki@example.com")
EMAIL = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "pki@example.com"}


@pytest.mark.parametrize("one", REAL["smtp"], ids=lambda one: f"{one['stage']}-{one['reply'][:40]}")
def test_a_server_in_its_own_words(one: dict[str, Any], settings: Any) -> None:
    with MailWire({one["stage"]: one["reply"]}) as server:
        login = {"username": "certctl", "password": "correct-horse"} if one["stage"] == "auth" else {}
        mail_settings(settings, server.port, **login)
        error = attempt(email_notifier(), MAIL)
    assert one["source"] in REAL["sources"]
    assert Verdict.of(error) == getattr(table, one["meaning"])
    assert isinstance(error, DeliveryError)
    assert one["advice"] in error.advice
    assert error.status == int(one["reply"][:3])


def test_every_row_of_the_table_has_its_source_and_means_something() -> None:
    assert {one["source"] for one in TABLE["known"]} == set(TABLE["sources"])
    for one in TABLE["known"]:
        assert one["meaning"] in Meaning.__members__
        assert re.compile(one["words"]).search("") is None


def test_words_cost_little_however_long_a_reply_is() -> None:
    """Counted in characters that are looked at, not in time."""
    for text in ("sender " * 20_000, "too many " * 20_000, "concurrent " * 20_000, "<" * 100_000):
        assert len(Refusal.of(550, text, Stage.DOT, "").text) < 50
        assert explained(text[:2_000], Stage.DOT) in (*Meaning, None)


# The net


def refusal(reply: str = "550 no", stage: Stage = Stage.RCPT) -> Refusal:
    return Refusal.of(int(reply[:3]), reply[4:], stage, reply[4:])


def test_several_recipients_that_are_refused_alike_are_not_at_fault() -> None:
    seen = InARow()
    verdicts = [Verdict.of(seen.judged(refusal(), f"u{n}@example.com")) for n in range(SEVERAL + 2)]
    assert verdicts == [CLIENT] * (SEVERAL - 1) + [HELD] * 3
    assert "different recipients in a row" in str(seen.judged(refusal(), "x@example.com"))


def test_one_recipient_again_and_again_is() -> None:
    seen = InARow()
    assert {Verdict.of(seen.judged(refusal(), "u@example.com")) for _ in range(9)} == {CLIENT}


def test_what_the_server_takes_in_between_ends_the_row() -> None:
    seen = InARow()
    for n in range(9):
        assert Verdict.of(seen.judged(refusal(), f"u{n}@example.com")) == CLIENT
        if n % 2:
            seen.taken()
    for n in range(9):  # nor is one alike to another
        assert Verdict.of(seen.judged(refusal(f"55{n % 2} no"), f"u{n}@example.com")) == CLIENT


def test_recipients_that_are_said_to_be_unknown_have_to_be_many() -> None:
    seen, unknown = InARow(), refusal("550 5.1.1 User unknown")
    verdicts = [Verdict.of(seen.judged(unknown, f"u{n}@example.com")) for n in range(MANY)]
    assert verdicts == [CLIENT] * (MANY - 1) + [HELD]


def test_a_server_that_took_a_mail_of_ours_knows_us_until_several_say_else() -> None:
    """One recipient's domain, behind a relay, may refuse our sender: the others go on."""
    seen, unlike = InARow(), refusal("550 5.7.26 Unauthenticated email", Stage.DOT)
    assert Verdict.of(seen.judged(unlike, "a@example.com")) == HELD
    seen.taken()
    verdicts = [Verdict.of(seen.judged(unlike, f"u{n}@example.com")) for n in range(SEVERAL)]
    assert verdicts == [DEFERRED] * (SEVERAL - 1) + [HELD]


@pytest.fixture
def server(settings: Any, configure: Configure) -> Iterator[MailWire]:
    with MailWire() as server:
        mail_settings(settings, server.port)
        configure(CHANNELS={"Email": EMAIL})
        yield server


def rows(number: int) -> Any:
    for n in range(number):
        factories.pending(channel="Email", recipient=f"u{n}@example.com")
    return NotificationEvent.objects.all()


def again() -> None:
    """Whatever waits is due, and every hold is over."""
    NotificationEvent.objects.failed().update(next_retry_at=ago(minutes=1))
    Hold.objects.update(until=ago(seconds=1))
    delivery.retry_failed()
    delivery.send_pending()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
        ("greeting", "554 5.7.1 Client host blocked using dnsbl"),
        ("ehlo", "504 5.5.2 <localhost>: Helo command rejected"),
        ("rcpt", "530 5.7.0 Must issue a STARTTLS command first"),
    ],
)
def test_what_is_ours_holds_the_server_and_spends_nothing(stage: str, reply: str, server: MailWire) -> None:
    server.replies[stage] = reply
    alerts = rows(30)
    delivery.send_pending()
    hold = Hold.objects.get()
    assert (hold.reason, alerts.dead().count()) == ("auth", 0)
    assert "CERTCTL_SMTP_" in hold.error
    again()  # a probe
    assert not alerts.dead().exists()
    assert not alerts.exclude(retry_count=0).exists()
    del server.replies[stage]
    server.replies = {**MailWire().replies}
    for _ in range(3):
        again()
    assert alerts.filter(status="sent").count() == 30


@pytest.mark.django_db
def test_a_daily_quota_kills_nothing(server: MailWire) -> None:
    server.replies["dot"] = "550 5.4.5 Daily user sending limit exceeded"
    alerts = rows(8)
    delivery.send_pending()
    assert Hold.objects.get().reason == "rate_limited"
    assert not alerts.dead().exists()


@pytest.mark.django_db
def test_the_net_holds_the_server(server: MailWire) -> None:
    server.replies["dot"] = "550 because we say so"
    alerts = rows(40)
    delivery.send_pending(concurrency=1)
    assert alerts.dead().count() == SEVERAL - 1
    assert "seems to refuse us" in Hold.objects.get().error
    assert not alerts.exclude(retry_count=0).exists()


@pytest.mark.django_db
def test_a_probe_that_is_refused_in_the_same_words_costs_its_row_nothing(server: MailWire) -> None:
    """Each sweep of cron is a new process, which knows of the others what is on record."""
    server.replies["dot"] = "550 because we say so to n-17"
    alerts = rows(20)
    delivery.send_pending(concurrency=1)
    for number in range(3):
        server.replies["dot"] = f"550 because we say so to n-{number}"
        again()
        assert alerts.dead().count() == SEVERAL - 1
        assert Hold.objects.get(reopened_at=None).until > ago(seconds=0)
    server.replies["dot"], server.once["dot"] = "250 ok", "550 5.1.1 that one is unknown"
    again()
    assert Hold.objects.get().reopened_at is not None


# Limits on us


@pytest.mark.django_db
def test_a_limit_of_connections_costs_no_row_an_attempt(server: MailWire) -> None:
    server.most = 2
    alerts = rows(60)
    assert delivery.send_pending().sent == 60
    assert not alerts.exclude(retry_count=0).exists()
    assert not Hold.objects.exists()


@pytest.mark.parametrize("each", [1, 7])
def test_a_limit_of_mails_on_a_connection_is_learned(each: int, settings: Any) -> None:
    with MailWire() as server:
        server.each = each
        mail_settings(settings, server.port)
        made = email_notifier()
        results = outcomes([(made, MAIL._replace(id=f"n-{n}")) for n in range(60)], in_turn=True)
        assert {Verdict.of(result) for result in results} == {SENT}
        assert server.heard.count("mail") == 61  # one was refused, and then never more


def test_the_options_bound_connections_and_mails(settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        made = email_notifier(CONNECTIONS=2, MAILS_PER_CONNECTION=5)
        assert made.endpoint_concurrency == 2
        results = attempt_all(made, [MAIL._replace(id=f"n-{n}") for n in range(20)])
        assert {Verdict.of(result) for result in results} == {SENT}
        assert server.connections in (4, 5)  # the last of the two may stay below its five


# What concerns connecting and logging in


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_a_password_is_utf_8(mechanism: str, settings: Any) -> None:
    other = {"PLAIN": "LOGIN", "LOGIN": "PLAIN"}[mechanism]
    with MailReceiver(login=("jörg", "pässwörd-ü"), without=[other]) as server:
        mail_settings(settings, server.port, username="jörg\n", password="pässwörd-ü\r\n")
        assert Verdict.of(attempt(email_notifier(), MAIL)) == SENT


def test_a_short_password_is_not_taken_out_of_every_word(settings: Any) -> None:
    with MailWire({"auth": "535 bad credentials for a user"}) as server:
        mail_settings(settings, server.port, username="certctl", password="a")
        error = attempt(email_notifier(), MAIL)
    assert "bad credentials for a user" in str(error)


@pytest.mark.parametrize(
    "host", ["[::1]", "127.0.0.1:25", "smtp://127.0.0.1", "mail host", "a" * 64 + ".example", "höst..x"]
)
def test_a_host_that_is_none_holds_the_channel_and_check_says_so(host: str, settings: Any) -> None:
    mail_settings(settings, 25, host=host)
    made = email_notifier()
    assert Verdict.of(attempt(made, MAIL)) == HELD
    assert any("HOST" in fault for fault in type(made).faults(EMAIL))


@pytest.mark.parametrize("name", ["FROM_ADDRESS", "ENVELOPE_FROM", "REPLY_TO"])
def test_a_sender_that_is_none_is_not_the_row_s_fault(name: str, settings: Any) -> None:
    with MailWire() as server:
        mail_settings(settings, server.port)
        error = attempt(email_notifier(**{name: "pki at example"}), MAIL)
    assert Verdict.of(error) == HELD
    assert name in str(error)
    assert "CERTCTL_SMTP_FROM_ADDRESS" in str(error)


def test_a_sender_who_needs_smtputf8(settings: Any) -> None:
    for without, meaning in (((), SENT), (("SMTPUTF8",), HELD)):
        with MailReceiver(without=without) as server:
            mail_settings(settings, server.port)
            result = attempt(email_notifier(FROM_ADDRESS="zertifikate-für@example.com"), MAIL)
            assert Verdict.of(result) == meaning
            assert [mail.sender for mail in server.mails] == ["zertifikate-für@example.com"] * (not without)


def test_a_server_that_wants_a_client_certificate(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wire.wanting_a_certificate(tmp_path / "trusted.pem") as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        mail_settings(settings, port, use_ssl=True)
        error = attempt(email_notifier(), MAIL)
    assert Verdict.of(error) == HELD
    assert "client certificate" in str(error)


def test_what_the_server_said_is_kept(settings: Any) -> None:
    with MailWire({"dot": "250 2.0.0 Ok: queued as 4F1"}) as server:
        mail_settings(settings, server.port)
        result = attempt(email_notifier(), MAIL)
    assert isinstance(result, Delivered)
    assert result.detail == "2.0.0 Ok: queued as 4F1"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PASSWORD", "pass word \r\n", "pass word "),
        ("USERNAME", " certctl\n", "certctl"),
        ("HOST", " mail.example.com\n", "mail.example.com"),
        ("HOST", "::1", "::1"),
        ("HOST", "bücher.example", "bücher.example"),
        ("FROM_ADDRESS", "Certificates <pki@example.com>\n", "Certificates <pki@example.com>"),
        ("FROM_ADDRESS", "a@example.com, b@example.com", None),
        ("REPLY_TO", "nobody", None),
        ("EHLO_NAME", "not a name", None),
        ("CONNECTIONS", "0", None),
        *(("HOST", host, None) for host in ("[::1]", "mail:25", "smtp://mail.example.com", "a b", "mail/x")),
    ],
)
def test_a_variable_is_trimmed_and_checked_as_what_is_sent_with(name: str, text: str, value: Any) -> None:
    declared = [*EmailNotifier.declared_options, *EmailNotifier.django_options]
    [one] = [declaration for declaration in declared if declaration.name == name]
    try:
        found = read(text, one)
    except ValidationError:
        found = None
    assert found == value
    if value is None:
        assert one.fault(text)
