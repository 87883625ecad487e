"""A company's own authority, servers that want a certificate, and headers for a receiver."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from notifications.exceptions import DeliveryError
from notifications.notifiers.loading import load, preview_of
from notifications.notifiers.tls import TlsFiles
from notifications.text import redact
from tests.notifiers.connect_proxy import ConnectProxy
from tests.notifiers.smtp_wire import MailWire
from tests.notifiers.support import (
    HTTP_CHANNELS,
    SLACK,
    WEBHOOK,
    Channel,
    Names,
    a_message,
    attempt,
    email_notifier,
    mail_settings,
    notifier,
    outcomes,
    said,
)
from tests.notifiers.table import AUTH, HELD, SENT, Verdict
from tests.notifiers.wire import Wire, answering, echo, response
from tests.receiver import Answer, HttpReceiver, MailReceiver

every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)
TOKEN = "s3cr3t-t0ken-of-the-receiver"
MAIL = a_message(channel="Email", recipient="pki@example.com")


class Company:
    """An authority, a server's context that it vouches for, and a client's certificate, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.cert, self.key = str(folder / "client.pem"), str(folder / "client.key")
        self.renew()

    def renew(self, *, of: trustme.CA | None = None) -> None:
        """Replace the client's files, as a sidecar does that renews them: by a rename."""
        made = (of or self.authority).issue_cert("client.example")
        made.private_key_pem.write_to_path(f"{self.key}.new")
        made.cert_chain_pems[0].write_to_path(f"{self.cert}.new")
        os.replace(f"{self.key}.new", self.key)
        os.replace(f"{self.cert}.new", self.cert)

    def server(self, *, wants: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        if wants:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @property
    def files(self) -> dict[str, str]:
        return {"TLS_CA": self.ca, "TLS_CERT": self.cert, "TLS_KEY": self.key}


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def provider(channel: Channel, tls: ssl.SSLContext) -> Wire:
    return Wire(answering(response(channel.status, channel.body)), tls=tls)


@every_channel
def test_a_company_s_authority_is_trusted_where_it_is_named(channel: Channel, company: Company) -> None:
    with provider(channel, company.server()) as server:
        url = server.url(channel.path)
        assert Verdict.of(attempt(notifier(channel, url, TLS_CA=company.ca))) == SENT
        stranger = attempt(notifier(channel, url))
    assert Verdict.of(stranger) == AUTH
    assert "TLS_CA" in str(stranger)


@every_channel
def test_a_server_that_wants_a_certificate_gets_it(channel: Channel, company: Company) -> None:
    with provider(channel, company.server(wants=True)) as server:
        url = server.url(channel.path)
        assert Verdict.of(attempt(notifier(channel, url, **company.files))) == SENT
        both = company.folder / "both.pem"
        both.write_text(Path(company.key).read_text() + Path(company.cert).read_text())
        assert Verdict.of(attempt(notifier(channel, url, TLS_CA=company.ca, TLS_CERT=str(both)))) == SENT


def test_a_renewed_certificate_is_taken_without_a_restart(company: Company) -> None:
    stranger = trustme.CA()
    company.renew(of=stranger)
    with Wire(answering(response(200, b"ok", "Connection: close")), tls=company.server(wants=True)) as server:
        made = notifier(SLACK, server.url("/x"), **company.files)

        async def twice() -> list[Any]:
            results = []
            for _ in range(2):
                try:
                    results.append(await made.send(a_message()))
                except DeliveryError as error:
                    results.append(error)
                company.renew()
            await made.http.close()
            return results

        before, after = asyncio.run(twice())
    assert isinstance(before, DeliveryError)
    assert Verdict.of(after) == SENT


def test_the_system_s_trust_stays_beside_the_company_s(company: Company) -> None:
    trusted = TlsFiles.made_of({"TLS_CA": company.ca})
    assert trusted is not None
    own = {cert["serialNumber"] for cert in trusted.context().get_ca_certs()}
    system = {cert["serialNumber"] for cert in ssl.create_default_context().get_ca_certs()}
    assert len(own - system) == 1
    assert own > system


def test_a_recipient_s_server_is_shown_no_certificate(company: Company) -> None:
    """It could be anybody's, and would learn who we are."""
    shown: list[bool] = []

    async def script(reader: Any, writer: Any) -> None:
        shown.append(writer.get_extra_info("ssl_object").getpeercert() is not None)
        await answering(response(200))(reader, writer)

    asking = company.server(wants=True)
    asking.verify_mode = ssl.CERT_OPTIONAL
    with Wire(script, tls=asking) as server, Wire(script, tls=asking) as other:
        made = notifier(WEBHOOK, server.url("/own"), **company.files)
        messages = [
            a_message(),
            a_message(recipient=other.url("/theirs")),
            a_message(recipient=server.url("/their-path-at-our-host")),
        ]
        assert {Verdict.of(r) for r in outcomes([(made, m) for m in messages], in_turn=True)} == {SENT}
    assert shown == [True, False, True]


def broken(company: Company, how: str) -> dict[str, str]:
    """Files that cannot be used, and what is to be said of them."""
    files = company.files
    if how == "no file":
        return files | {"TLS_CA": str(company.folder / "none.pem")}
    if how == "no certificate":
        company.folder.joinpath("ca.pem").write_text("hello")
    if how == "another's key":
        company.authority.issue_cert("x.example").private_key_pem.write_to_path(company.key)
    if how == "an encrypted key":
        key = load_pem_private_key(Path(company.key).read_bytes(), None)
        locked = BestAvailableEncryption(b"hunter2")
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        Path(company.key).write_bytes(text)
    return files


SAID = {
    "no file": "TLS_CA {folder}/none.pem cannot be read: No such file or directory",
    "no certificate": "TLS_CA {folder}/ca.pem holds nothing in PEM",
    "another's key": "TLS_KEY is not the key of TLS_CERT {folder}/client.pem",
    "an encrypted key": "cannot be used: the key is encrypted",
}


@pytest.mark.parametrize("how", SAID)
def test_files_that_cannot_be_used_make_the_rows_wait_and_check_names_them(
    how: str, company: Company, settings: Any
) -> None:
    files, text = broken(company, how), SAID[how].format(folder=company.folder)
    with HttpReceiver(company.server()) as server:
        result = attempt(notifier(SLACK, server.url(), **files))
        assert server.requests == []
    with MailReceiver(starttls=company.server()) as mails:
        mail_settings(settings, mails.port, use_tls=True)
        mailed = attempt(email_notifier(**files), MAIL)
        assert mails.mails == []
    assert (Verdict.of(result), Verdict.of(mailed)) == (HELD, HELD)
    assert text in str(result)
    assert text in str(mailed)
    options = SLACK.options("https://hooks.slack.com/services/T/B/x")
    [warning] = said(settings, Slack={**options, **files})
    assert warning.startswith("W014: ")
    assert text in warning


def test_what_has_no_effect_is_named(company: Company, settings: Any) -> None:
    slack = SLACK.options("https://hooks.slack.com/services/T/B/x")
    webhook = {**WEBHOOK.options(""), "HEADERS": {"X-Key": TOKEN}}
    found = said(settings, Slack={**slack, "TLS_KEY": company.key}, Webhook=webhook)
    assert [one.partition("]: ")[2] for one in found] == [
        "TLS_KEY has no effect: TLS_CERT is not set",
        "HEADERS has no effect: it goes to URL and its host alone, and URL is not set",
    ]
    mail = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "a@example.com"}
    [refused] = said(settings, Email={**mail, "PROXY": "http://proxy.example"})
    assert refused.startswith("E002")
    assert "there is no option 'PROXY'" in refused


def test_an_encrypted_key_is_never_asked_for(company: Company) -> None:
    """On a terminal OpenSSL would, and the worker would stand."""
    files = broken(company, "an encrypted key")
    code = "from notifications.notifiers.tls import TlsFiles; import sys; TlsFiles(*sys.argv[1:]).context()"
    ran = subprocess.run(
        [sys.executable, "-c", code, *files.values()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pass phrase" not in ran.stdout + ran.stderr
    assert "the key is encrypted" in ran.stderr


# Mail


@pytest.mark.parametrize("wants", [False, True])
def test_a_mail_server_of_the_company_s(wants: bool, company: Company, settings: Any) -> None:
    with MailReceiver(starttls=company.server(wants=wants)) as server:
        mail_settings(settings, server.port, use_tls=True)
        assert Verdict.of(attempt(email_notifier(**company.files), MAIL)) == SENT
        assert len(server.mails) == 1
        stranger = attempt(email_notifier(), MAIL)
        without = attempt(email_notifier(TLS_CA=company.ca), MAIL)
    assert Verdict.of(stranger) == HELD
    assert "CERTCTL_SMTP_TLS_CA" in str(stranger)
    assert (Verdict.of(without) == SENT) is not wants


def test_a_mail_server_with_tls_from_the_start(company: Company, settings: Any) -> None:
    with MailWire(tls=company.server(wants=True)) as server:
        mail_settings(settings, server.port, use_ssl=True)
        assert Verdict.of(attempt(email_notifier(**company.files), MAIL)) == SENT


# HEADERS


HEADERS = {"authorization": f"Bearer {TOKEN}", "X-Team": "pki"}


@every_channel
def test_headers_go_with_every_request_and_stay_hidden(channel: Channel, settings: Any) -> None:
    with HttpReceiver() as server:
        server.always(Answer(channel.status, channel.body))
        url = server.url(channel.path)
        assert Verdict.of(attempt(notifier(channel, url, HEADERS=HEADERS))) == SENT
    [request] = server.requests
    assert request.headers.getall("Authorization") == [f"Bearer {TOKEN}"]
    assert request.headers["X-Team"] == "pki"
    with Wire(echo(500)) as server:
        made = notifier(channel, server.url(channel.path), HEADERS=HEADERS)
        error = attempt(made)
        shown = preview_of(made, a_message())
    assert "HTTP 500" in str(error)
    for text in (str(error), repr(error), shown):
        assert TOKEN not in text
    assert said(settings, X={**channel.options("https://x.example/"), "HEADERS": HEADERS}) == []


def test_a_header_of_the_site_s_goes_to_no_recipient() -> None:
    with HttpReceiver() as own, HttpReceiver() as other:
        made = notifier(WEBHOOK, own.url("/own"), HEADERS=HEADERS)
        messages = [
            a_message(),
            a_message(recipient=other.url("/theirs")),
            a_message(recipient=own.url("/team")),
        ]
        outcomes([(made, message) for message in messages], in_turn=True)
    assert ["Authorization" in request.headers for request in own.requests] == [True, True]
    assert ["Authorization" in request.headers for request in other.requests] == [False]


@pytest.mark.parametrize(
    ("value", "said_of_it"),
    [
        ("Authorization: x", "must be headers and their values"),
        ({"Host": "hunter2"}, "sets Host, which the program sets itself"),
        ({"webhook-signature": "hunter2"}, "sets webhook-signature, which the program sets itself"),
        ({"X Y": "hunter2"}, "has a name in it that is no header's"),
        ({"X-Y": "hunter2\r\nX-Z: 1"}, "has a value for X-Y that is no line of text"),
        ({"X-Y": 5}, "has a value for X-Y that is no line of text"),
    ],
)
def test_what_is_no_header(value: Any, said_of_it: str, settings: Any) -> None:
    slack = SLACK.options("https://hooks.slack.com/services/T/B/x")
    [found] = said(settings, Slack={**slack, "HEADERS": value})
    assert found.startswith("E002")
    assert said_of_it in found
    assert "hunter2" not in found


def test_the_password_of_a_proxy_and_the_values_of_headers_are_secrets() -> None:
    options = {
        "NOTIFIER": "notifications.notifiers.slack.SlackNotifier",
        "URL": "https://hooks.slack.com/services/T/B/x",
        "PROXY": {"https": "http://certctl:pr0xy-pass@proxy.example:3128", "no": "intern.example"},
        "HEADERS": {"Authorization": "Basic dXNlcjpwYXNz", "X-Team": "pki"},
    }
    made = load("Slack", options, 5)
    text = "pr0xy-pass dXNlcjpwYXNz intern.example Basic pki"
    assert redact(text, made.http.secrets) == "[redacted] [redacted] intern.example Basic pki"


def test_a_header_without_a_line_break_of_its_own_reaches_a_proxy_too() -> None:
    with HttpReceiver() as server, ConnectProxy({"hooks.example": server.port}) as proxy:
        url = server.url("/x", host="hooks.example")
        made = notifier(SLACK, url, resolver=Names(), PROXY=proxy.at(), HEADERS=HEADERS)
        attempt(made)
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
