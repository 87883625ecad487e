"""E-mail, through whichever mail backend the site configured in Django (smtp.py: what can go wrong).

Message-ID is the same on every attempt, so that a mail that arrived twice can be told (RFC 5322, 3.6.4);
Auto-Submitted keeps vacation replies away (RFC 3834).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Any

from django.core import mail
from django.core.exceptions import ValidationError
from django.core.mail.backends.base import BaseEmailBackend
from django.core.validators import EmailValidator

from ..exceptions import DeliveryError, PermanentError, Reason
from ..text import cut, utf8
from .base import Delivered, Message, SyncNotifier
from .http.client import HttpClient
from .options import FLAG, PORT, TEXT, Kind, Option, words_options
from .smtp import CLOSING, Session, Stage
from .wording import IMPORTANCE

MESSAGE_ID_DOMAIN = "notifications.certctl"
SUBJECT_LIMIT, BODY_LIMIT = 500, 1_000_000
IDLE_SECONDS = 20.0
GOODBYE_SECONDS = 2.0
BROKEN = (smtplib.SMTPException, OSError)


class StaleConnection(Exception):
    """The server had hung up on a kept connection before the mail was sent."""


@dataclass(eq=False)
class MailConnection:
    """One connection to the mail server, used by one thread at a time."""

    backend: BaseEmailBackend
    session: Session = field(default_factory=Session)
    used_at: float = 0.0

    def open(self, timeout: float) -> None:
        if hasattr(self.backend, "timeout"):
            self.backend.timeout = min(self.backend.timeout or timeout, timeout)
        self.session.trace(self.backend)
        self.backend.open()
        self.session.stage = Stage.READY

    def send(self, email: mail.EmailMessage) -> None:
        self.session.stage = Stage.READY
        self.backend.send_messages([email])
        self.session.reused = True
        self.used_at = time.monotonic()

    def close(self) -> None:
        with contextlib.suppress(*BROKEN):  # the connection may be gone already
            self.backend.close()
        self.session.close()


def check_address(recipient: str) -> None:
    """Raises PermanentError for what is not exactly one address."""
    domain = recipient.rpartition("@")[2]
    inside = [domain] if re.fullmatch(r"[A-Za-z0-9-]{1,63}", domain) else []  # ops@mailhost
    try:
        EmailValidator(allowlist=["localhost", *inside])(recipient)
    except ValidationError as error:
        raise PermanentError(
            f"{recipient!r} is not an e-mail address",
            reason=Reason.CONFIG,
            advice="raise the alert again with a correct address",
        ) from error


def is_sender(sender: str) -> bool:
    try:
        check_address(parseaddr(sender)[1])
    except (AttributeError, PermanentError):
        return False
    return True


class EmailNotifier(SyncNotifier):
    """Connections are kept for the next mail until they are idle or break."""

    declared_options = (
        Option(
            "FROM_ADDRESS",
            "who sends, such as `Certificates <pki@example.com>`",
            Kind("an e-mail address", is_sender, str.strip),
            required=True,
            env="CERTCTL_SMTP_FROM_ADDRESS",
        ),
        *words_options("CERTCTL_SMTP"),
    )
    django_options = (
        Option(
            "HOST",
            "the mail server",
            TEXT,
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
            TEXT,
            default="",
            env="CERTCTL_SMTP_USERNAME",
            counterpart="PASSWORD",
        ),
        Option(
            "PASSWORD",
            "to log in with",
            TEXT,
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
        super().__init__(options, http)
        self._lock = threading.Lock()
        self._idle: list[MailConnection] = []
        self._in_use: dict[int, MailConnection] = {}  # by id(message)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, message: Message) -> Delivered:
        try:
            return await super().send(message)
        finally:
            if self._idle_timer is None and not self._closed:
                self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    def deliver(self, message: Message) -> Delivered:
        email = self.compose(message)
        try:
            try:
                connection = self._transmit(self._take(message), email)
            except StaleConnection:
                connection = self._transmit(self._take(message, fresh=True), email)
        finally:
            self._in_use.pop(id(message), None)
        self._put_back(connection)
        return Delivered(250, "accepted by the mail server")

    def _take(self, message: Message, fresh: bool = False) -> MailConnection:
        with self._lock:
            connection = self._idle.pop() if self._idle and not fresh else MailConnection(_backend())
            self._in_use[id(message)] = connection
        return connection

    def _put_back(self, connection: MailConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _transmit(self, connection: MailConnection, email: mail.EmailMessage) -> MailConnection:
        """Raises StaleConnection where a new connection may do at once, else the delivery error."""
        try:
            if connection.session.stage is Stage.CONNECT:
                connection.open(self.http.timeout)
            connection.send(email)
            return connection
        except BROKEN as error:
            connection.close()
            if connection.session.reused and _went_stale(connection, error):
                raise StaleConnection from error
            raise connection.session.error(error) from error
        except ValueError as error:  # what Django or the email package will not put into a header
            connection.close()
            raise PermanentError(
                f"the mail cannot be written: {error}", advice="raise a corrected alert, or dismiss this one"
            ) from error

    def abandon(self, message: Message) -> DeliveryError:
        connection = self._in_use.get(id(message))
        if connection is None:
            return super().abandon(message)
        error = connection.session.error(TimeoutError())
        connection.session.hang_up()
        return error

    def _close_idle(self) -> None:
        """Say goodbye on connections that nobody used for a while."""
        self._idle_timer = None
        over = time.monotonic() - IDLE_SECONDS
        with self._lock:
            stale = [connection for connection in self._idle if connection.used_at <= over]
            self._idle = [connection for connection in self._idle if connection.used_at > over]
            more = bool(self._idle or self._in_use)
        for connection in stale:
            self._pool.submit(connection.close)
        if more:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_idle)

    async def close(self) -> None:
        """QUIT on every connection, in the pool's threads; a mail that is still on its way is cut off."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        for connection in list(self._in_use.values()):
            connection.session.hang_up()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        goodbyes = [asyncio.wrap_future(self._pool.submit(connection.close)) for connection in idle]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)
            for connection in idle:
                connection.session.hang_up()
        await super().close()

    def preview(self, message: Message) -> str:
        email = self.compose(message)
        head = "\n".join(f"{name}: {value}" for name, value in email.message().items())
        return f"{head}\n\n{email.body}"

    def compose(self, message: Message) -> mail.EmailMessage:
        """The mail for a notification; one row is one recipient, and nothing in it can add a header."""
        check_address(message.recipient)
        key, words = message.key(), self.words(message)
        headers = {
            "Message-ID": f"<{key}@{MESSAGE_ID_DOMAIN}>",
            "X-Certctl-Notification": key,
            "Auto-Submitted": "auto-generated",
            **IMPORTANCE[words.severity],
        }
        subject = cut(words.headline, SUBJECT_LIMIT)
        body = self.shortened(words.body(), message, BODY_LIMIT, utf8)
        return mail.EmailMessage(
            subject, body, self.option("FROM_ADDRESS"), [message.recipient], headers=headers
        )


def _went_stale(connection: MailConnection, error: Exception) -> bool:
    """The server had hung up while nothing was sent (its 421 included), so a new connection may do."""
    code = getattr(error, "smtp_code", None)
    hung_up = isinstance(error, smtplib.SMTPServerDisconnected | ConnectionError) or code == CLOSING
    timed_out = isinstance(error.__context__, TimeoutError)
    return connection.session.stage < Stage.DOT and hung_up and not timed_out


def _backend() -> BaseEmailBackend:
    backend: BaseEmailBackend = mail.mailers["default"] if hasattr(mail, "mailers") else mail.get_connection()
    return backend
