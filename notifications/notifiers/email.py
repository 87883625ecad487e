"""E-mail, through whichever mail backend the site configured in Django; over SMTP address by address.

In mail/: addresses (whom a recipient names), form and html (the mail), mailing (one on its way), connections,
smtp (the conversation), words and refusals (what a server's words mean).

Message-ID is the same on every attempt, so that a mail that arrived twice can be told (RFC 5322, 3.6.4), and
in the sender's domain; the alerts of one certificate refer to one another; Auto-Submitted keeps vacation
replies away (RFC 3834); List-Id tells filters what this is (RFC 2919).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import smtplib
import time
from collections.abc import Mapping
from email.headerregistry import Address
from typing import Any

from django.core import mail
from django.core.checks import CheckMessage, Warning

from ..exceptions import DeliveryError, PermanentError, Reason, TransientError
from ..text import cut, utf8
from .base import Delivered, Message, SyncNotifier
from .http.client import HttpClient, ascii_host
from .mail.addresses import addresses, is_address, needs_utf8
from .mail.connections import BACKEND_ANSWER, BROKEN, Connections, MailConnection, backend, none_free
from .mail.form import form, headers
from .mail.html import html_of
from .mail.mailing import Mailing
from .mail.refusals import ADVICE, CLOSING, InARow, Refusal
from .mail.smtp import UTF8_OPTIONS, Session, misconfigured
from .mail.words import Meaning, Stage
from .options import COUNT, FLAG, PORT, TEXT, Kind, Option, faults, tls_options, words_options
from .tls import TlsFiles
from .wording import IMPORTANCE

SUBJECT_LIMIT, BODY_LIMIT, HTML_LIMIT = 500, 1_000_000, 100_000
IDLE_SECONDS = 20.0
GOODBYE_SECONDS = 2.0
HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
NO_UTF8 = "the mail server does not offer SMTPUTF8, which the address needs"
UTF8_ADVICE = "use an address in ASCII, or a server with SMTPUTF8 (CERTCTL_SMTP_HOST), then requeue"
ADDRESS_ADVICE = "raise the alert again with a correct address"


class StaleConnection(Exception):
    """Nothing was sent, and another connection may do. fresh: a new one; else whichever is free."""

    def __init__(self, fresh: bool = True) -> None:
        self.fresh = fresh


def is_host(value: Any) -> bool:
    """Raises ValueError, which says what is too much, for an address with a scheme, port or brackets."""
    text = str(value).strip()
    if "://" in text or "/" in text:
        raise ValueError("must be the server's name alone, without a scheme")
    if text.startswith("["):
        raise ValueError("must be the server's address alone, without brackets")
    if text.count(":") == 1:
        raise ValueError("must be the server's name alone; its port is an option of its own")
    return isinstance(value, str) and HOST.fullmatch(ascii_host(text)) is not None


ADDRESS = Kind("an e-mail address", is_address, str.strip)
NAME = Kind("a host name", lambda value: isinstance(value, str) and bool(HOST.fullmatch(value)), str.strip)
LOGIN_NAME = Kind("a string", TEXT.accepts, str.strip)
PASSWORD = Kind("a string", TEXT.accepts, lambda text: text.rstrip("\r\n"), shown=False)


class EmailNotifier(SyncNotifier):
    """Connections are kept for the next mail until they are idle or break."""

    declared_options = (
        Option(
            "FROM_ADDRESS",
            "who sends, such as `Certificates <pki@example.com>`",
            ADDRESS,
            required=True,
            env="CERTCTL_SMTP_FROM_ADDRESS",
        ),
        Option(
            "REPLY_TO",
            "where answers go, where not to who sends",
            ADDRESS,
            env="CERTCTL_SMTP_REPLY_TO",
        ),
        Option(
            "ENVELOPE_FROM",
            "where bounces go, where not to who sends",
            ADDRESS,
            env="CERTCTL_SMTP_ENVELOPE_FROM",
        ),
        Option(
            "EHLO_NAME",
            "the name by which this host greets the server, where not its own",
            NAME,
            env="CERTCTL_SMTP_EHLO_NAME",
        ),
        Option(
            "CONNECTIONS",
            "to the server at once; it is asked for fewer where it says that these are too many",
            COUNT,
            default=8,
            env="CERTCTL_SMTP_CONNECTIONS",
        ),
        Option(
            "MAILS_PER_CONNECTION",
            "after so many a new connection is made; without it, when the server says so",
            COUNT,
            env="CERTCTL_SMTP_MAILS_PER_CONNECTION",
        ),
        Option("MAILER", "its name in Django's `MAILERS`, where not `default`; from Django 6.1 on", TEXT),
        *words_options("CERTCTL_SMTP"),
        *tls_options("CERTCTL_SMTP"),
    )
    without = ("PROXY", "HEADERS")
    django_options = (
        Option(
            "HOST",
            "the mail server",
            Kind("a host name or an IP address, without a scheme, a port or brackets", is_host, str.strip),
            default="",
            required=True,
            env="CERTCTL_SMTP_HOST",
        ),
        Option(
            "PORT",
            "587 for STARTTLS, 465 for TLS from the start",
            PORT,
            default=587,
            env="CERTCTL_SMTP_PORT",
        ),
        Option(
            "USERNAME",
            "to log in with",
            LOGIN_NAME,
            default="",
            env="CERTCTL_SMTP_USERNAME",
            counterpart="PASSWORD",
        ),
        Option(
            "PASSWORD",
            "to log in with",
            PASSWORD,
            default="",
            secret=True,
            env="CERTCTL_SMTP_PASSWORD",
            counterpart="USERNAME",
        ),
        Option("USE_TLS", "whether to encrypt", FLAG, default=True, env="CERTCTL_SMTP_USE_TLS"),
    )
    templates = "email"
    looks = "mail"

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        self.threads = options.get("CONNECTIONS") or SyncNotifier.threads
        super().__init__(options, http)
        if "ENDPOINT_CONCURRENCY" not in options:
            self.endpoint_concurrency = self.threads
        self._connections = Connections(self._connection, self.threads, options.get("MAILS_PER_CONNECTION"))
        self._files = TlsFiles.made_of(options)
        self._in_a_row = InARow()
        self._in_hand: dict[int, Mailing] = {}  # by id(message)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    def option_faults(cls, options: Mapping[str, Any]) -> list[str]:
        """Of Django's mail settings, too: they are what is connected with."""
        try:
            return [f"the mail server's {fault}" for fault in server_faults(backend(mailer_of(options)))]
        except DeliveryError as error:
            return [error.text]

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        try:
            server = backend(mailer_of(options))
        except DeliveryError:
            return []  # a fault, above
        encrypted = any(getattr(server, name, False) for name in ("use_tls", "use_ssl"))
        local = getattr(server, "host", "") in ("localhost", "127.0.0.1", "::1")
        if encrypted or local or not getattr(server, "username", ""):
            return []
        text = "the mail server's user name and password go over the network in clear"
        hint = "Set CERTCTL_SMTP_USE_TLS, or in a project of your own EMAIL_USE_TLS or EMAIL_USE_SSL."
        return [Warning(text, hint=hint, id="notifications.W013")]

    @classmethod
    def recipient_fault(cls, recipient: str, options: Mapping[str, Any]) -> str:
        try:
            addresses(recipient)
        except ValueError as error:
            return str(error)
        return ""

    async def send(self, message: Message) -> Delivered:
        try:
            return await super().send(message)
        finally:
            if self._idle_timer is None and not self._closed:
                self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    def deliver(self, message: Message) -> Delivered:
        until = time.monotonic() + self.http.timeout
        mailing = self._in_hand[id(message)] = Mailing(message)
        try:
            mailing.begin(self.recipients(message))
            email = self.compose(message)
            fresh = False
            while mailing.missing:
                try:
                    self._send_once(mailing, email, until, fresh)
                    fresh = False
                except StaleConnection as stale:
                    fresh = stale.fresh
            return mailing.result()
        except DeliveryError as error:
            mailing.told(error)
            raise
        finally:
            self._in_hand.pop(id(message), None)

    def _send_once(
        self, mailing: Mailing, email: mail.EmailMultiAlternatives, until: float, fresh: bool
    ) -> None:
        """One mail to whoever is missing; those that one mail is too small for are missing still.

        Raises StaleConnection where a new connection may do at once, else the delivery error.
        """
        mailing.waits = True
        connection = mailing.connection = self._connections.take(until, fresh=fresh)
        mailing.waits = False
        healthy = False
        try:
            if not (connection.is_open or mailing.given_up):
                self._open(connection)
            if mailing.given_up:
                raise none_free()
            healthy = self._converse(connection, mailing, email)
        except StaleConnection:
            raise
        except (*BROKEN, ValueError, TypeError) as error:
            self._raise_for(error, connection, mailing)
        finally:
            if self.verbose:
                mailing.dialogue += connection.session.shown()
            mailing.connection = None
            if healthy:
                self._connections.give_back(connection)
            else:
                self._connections.drop(connection)

    def _open(self, connection: MailConnection) -> None:
        if found := next(iter(server_faults(connection.backend)), ""):
            raise misconfigured(f"the mail server's {found}")
        connection.open(self.http.timeout)

    def _converse(
        self, connection: MailConnection, mailing: Mailing, email: mail.EmailMultiAlternatives
    ) -> bool:
        """Whether the connection serves for another mail."""
        smtp = connection.smtp
        if smtp is None:
            refused = connection.hand_over(email)
            return self._settle(connection.session, mailing, refused, BACKEND_ANSWER.encode())
        sender, offered = self.sender(), smtp.has_extn("smtputf8")
        if needs_utf8(sender) and not offered:
            raise misconfigured(NO_UTF8.replace("the address", "the sender"), ADVICE[Meaning.SENDER])
        if not offered:
            for spec in [spec for spec, address in mailing.missing.items() if needs_utf8(address)]:
                mailing.refuse(spec, PermanentError(NO_UTF8, reason=Reason.CLIENT, advice=UTF8_ADVICE))
        if not mailing.missing:
            return True
        shown = [
            address for address in self.recipients(mailing.message) if offered or not needs_utf8(address)
        ]
        with_utf8 = needs_utf8(sender) or any(map(needs_utf8, shown))
        content = form(email, sender, shown, utf8=with_utf8)
        options = UTF8_OPTIONS if with_utf8 else ()
        bounces = self._own("ENVELOPE_FROM") or sender
        refused, said = connection.transact(smtp, bounces.addr_spec, list(mailing.missing), content, options)
        return self._settle(connection.session, mailing, refused, said)

    def _settle(
        self, session: Session, mailing: Mailing, replies: Mapping[str, tuple[int, bytes]], said: bytes
    ) -> bool:
        """What the server's replies make of each address. Answers whether it took the mail for any."""
        session.stage = Stage.RCPT
        refused = {spec: session.refusal(*reply) for spec, reply in replies.items()}
        took = [spec for spec in mailing.missing if spec not in refused]
        if took:
            self._in_a_row.taken()
            mailing.took(took)
            mailing.said = session.quote(said.decode("utf-8", "replace"))
        elif session.mails and any(map(_is_spent, refused.values())):
            raise self._stale(session, *refused.values())
        for spec, one in refused.items():
            if took and isinstance(one, Refusal) and one.meaning is Meaning.ENVELOPE:
                continue  # the next mail is for those
            mailing.refuse(spec, self._judged(one, spec))
        return bool(took)

    def _raise_for(self, error: Exception, connection: MailConnection, mailing: Mailing) -> None:
        """Raises what the exception means for the row, or StaleConnection."""
        session = connection.session
        if not isinstance(error, BROKEN) and session.stage >= Stage.READY:
            # What Django or the email package will not put into a mail.
            raise PermanentError(
                f"the mail cannot be written ({type(error).__name__})",
                advice="raise a corrected alert, or dismiss this one",
            ) from error
        fault = session.fault(error)
        if session.mails and session.stage < Stage.DOT and (_hung_up(error) or _is_spent(fault)):
            raise self._stale(session, fault) from error
        judged = self._judged(fault, mailing.message.recipient)
        if judged.reason is Reason.BUSY and session.stage < Stage.DOT:
            self._connections.drop(connection)
            if self._connections.too_many():
                raise StaleConnection(fresh=False) from error
        raise judged from error

    def _stale(self, session: Session, *faults: DeliveryError | Refusal) -> StaleConnection:
        if any(isinstance(one, Refusal) and one.meaning is Meaning.SESSION for one in faults):
            self._connections.took_only(session.mails)
        return StaleConnection()

    def _judged(self, fault: DeliveryError | Refusal, recipient: str) -> DeliveryError:
        return self._in_a_row.judged(fault, recipient) if isinstance(fault, Refusal) else fault

    def abandon(self, message: Message) -> DeliveryError:
        mailing = self._in_hand.get(id(message))
        if mailing is None:
            return super().abandon(message)
        mailing.given_up = True
        connection = mailing.connection
        if connection is None:
            late = f"the mail was not on its way within {self.http.timeout:g} s"
            return mailing.told(none_free() if mailing.waits else TransientError(late, reason=Reason.TIMEOUT))
        if self.verbose:
            mailing.dialogue += connection.session.shown()
        error = self._judged(connection.session.fault(TimeoutError()), message.recipient)
        connection.session.hang_up()
        return mailing.told(error)

    def _connection(self) -> MailConnection:
        name = str(self.options.get("EHLO_NAME") or "").strip()
        return MailConnection(backend(mailer_of(self.options)), Session(name), self._files)

    def _close_idle(self) -> None:
        """Say goodbye on connections that nobody used for a while."""
        self._idle_timer = None
        stale, more = self._connections.idle_since(time.monotonic() - IDLE_SECONDS)
        for connection in stale:
            self._pool.submit(connection.close)
        if more:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    async def close(self) -> None:
        """QUIT on every connection, in the pool's threads; a mail that is still on its way is cut off."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._closed = True
        idle = self._connections.end()
        goodbyes = [asyncio.wrap_future(self._pool.submit(connection.close)) for connection in idle]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)
            for connection in idle:
                connection.session.hang_up()
        await super().close()

    # The mail

    def recipients(self, message: Message) -> tuple[Address, ...]:
        """Whom the recipient names. Raises PermanentError where that is not clear."""
        try:
            return addresses(message.recipient)
        except ValueError as error:
            raise PermanentError(str(error), reason=Reason.CONFIG, advice=ADDRESS_ADVICE) from error

    def sender(self) -> Address:
        return self._own("FROM_ADDRESS") or addresses(self.option("FROM_ADDRESS"))[0]

    def _own(self, name: str) -> Address | None:
        """An option that is an address of ours, None where it is not set."""
        text = str(self.options.get(name) or "").strip()
        try:
            [address] = addresses(text) if text else [None]
        except ValueError as error:
            raise misconfigured(f"{name} is not an e-mail address", ADVICE[Meaning.SENDER]) from error
        return address

    def compose(self, message: Message) -> mail.EmailMultiAlternatives:
        """The mail for a notification; nothing in it can add a header."""
        sender, recipients = self.sender(), self.recipients(message)
        key, domain, words = message.key(200), sender.domain, self.words(message)
        more = {
            "Message-ID": f"<{key}@{domain}>",
            "X-Certctl-Notification": key,
            "Auto-Submitted": "auto-generated",
            "List-Id": f"certctl notifications <certctl.{domain.strip('[]')}>",
            **IMPORTANCE[words.severity],
        }
        if message.certificate_id:
            thread = hashlib.sha256(message.certificate_id.encode("utf-8", "replace")).hexdigest()[:32]
            more["References"] = f"<certificate.{thread}@{domain}>"
        text = self.shortened(words.body(), message, BODY_LIMIT, utf8)
        reply_to = self._own("REPLY_TO")
        email = mail.EmailMultiAlternatives(
            cut(words.headline, SUBJECT_LIMIT),
            text,
            str(sender),
            [str(address) for address in recipients],
            headers=more,
            reply_to=[str(reply_to)] if reply_to else None,
        )
        if len(text) <= HTML_LIMIT:
            email.attach_alternative(html_of(words), "text/html")
        return email

    def preview(self, message: Message) -> str:
        email = self.compose(message)
        shown = headers(email, self.sender(), self.recipients(message))
        head = "\n".join(f"{name}: {value}" for name, value in shown)
        return f"{head}\n\n{email.body}"


def mailer_of(options: Mapping[str, Any]) -> str:
    return str(options.get("MAILER") or "").strip()


def server_faults(made: Any) -> list[str]:
    """What is wrong with what a mail backend connects to. All else Django takes in more shapes than one."""
    named = [option for option in EmailNotifier.django_options if option.name == "HOST"]
    return list(faults(named, {"HOST": made.host})) if hasattr(made, "host") else []


def _hung_up(error: Exception) -> bool:
    """The server had hung up (its 421 included) before anything of this mail was taken."""
    code = getattr(error, "smtp_code", None)
    lost = isinstance(error, smtplib.SMTPServerDisconnected | ConnectionError)
    return (lost or code == CLOSING) and not isinstance(error.__context__, TimeoutError)


def _is_spent(fault: DeliveryError | Refusal) -> bool:
    """Of a connection that had a mail before: it gets no other one, or the server will not go on here."""
    if not isinstance(fault, Refusal):
        return False
    return fault.meaning is Meaning.SESSION or (fault.stage is Stage.MAIL and 400 <= fault.code < 500)
