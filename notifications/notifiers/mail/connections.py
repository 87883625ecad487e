"""Connections to the mail server: kept for the next mail, and no more of them than the server takes."""

from __future__ import annotations

import contextlib
import smtplib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from ...exceptions import DeliveryError, Reason, TransientError
from ..tls import TlsFiles
from .refusals import BUSY_WAIT
from .smtp import Session, Traced, misconfigured

BROKEN = (smtplib.SMTPException, OSError)
FEWER_SECONDS = 300.0  # that no more connections are made than the server took
BACKEND_ANSWER = "accepted by the mail backend"


@dataclass(eq=False)
class MailConnection:
    """One connection to the mail server, used by one thread at a time."""

    backend: BaseEmailBackend
    session: Session = field(default_factory=Session)
    files: TlsFiles | None = None
    is_open: bool = False
    used_at: float = 0.0

    def open(self, timeout: float) -> None:
        if hasattr(self.backend, "timeout"):
            self.backend.timeout = min(self.backend.timeout or timeout, timeout)
        self.session.trace(self.backend)
        if self.files and isinstance(self.backend, EmailBackend):
            self.backend.ssl_context = self.files.context()
        self.backend.open()
        if self.smtp is not None:
            self.smtp.ehlo_or_helo_if_needed()
        self.is_open = True
        self.session.ready()

    @property
    def smtp(self) -> Traced | None:
        """To speak with the server ourselves; None for a backend that has a way of its own to send."""
        backend = self.backend
        own_way = getattr(type(backend), "_send", None) is not getattr(EmailBackend, "_send", None)
        connection = None if own_way else getattr(backend, "connection", None)
        return connection if isinstance(connection, Traced) else None

    def transact(
        self, smtp: Traced, sender: str, recipients: Sequence[str], content: bytes, options: Sequence[str]
    ) -> tuple[Mapping[str, tuple[int, bytes]], bytes]:
        """As Traced.transact."""
        self._begin()
        refused, said = smtp.transact(sender, recipients, content, options)
        if len(refused) < len(recipients):
            self._end()
        return refused, said

    def hand_over(self, email: mail.EmailMessage) -> Mapping[str, tuple[int, bytes]]:
        """To a backend with a way of its own; which recipients were refused, as far as it can be known."""
        self._begin()
        self.backend.send_messages([email])
        self._end()
        return self.session.refused

    def _begin(self) -> None:
        if self.session.mails:
            self.session.dialogue.clear()
        self.session.ready()

    def _end(self) -> None:
        self.session.mails += 1
        self.used_at = time.monotonic()

    def close(self) -> None:
        with contextlib.suppress(*BROKEN):  # the connection may be gone already
            self.backend.close()
        self.session.close()


class Connections:
    """All connections of one channel.

    most   at once; mails: on one of them, None for as many as the server takes
    """

    def __init__(self, make: Callable[[], MailConnection], most: int, mails: int | None) -> None:
        self._make = make
        self._ceiling, self._fewer, self._fewer_until = most, most, 0.0
        self._mails = mails
        self._free = threading.Condition()
        self._idle: list[MailConnection] = []
        self._in_use: set[MailConnection] = set()
        self._closed = False

    @property
    def most(self) -> int:
        return self._fewer if time.monotonic() < self._fewer_until else self._ceiling

    def take(self, until: float, *, fresh: bool = False) -> MailConnection:
        """One that is idle, or a new one, not open yet; fresh: a new one.

        Raises TransientError when none is free until then, on the monotonic clock.
        """
        with self._free:
            while not self._idle and len(self._in_use) >= self.most:
                if self._closed or not self._free.wait(max(0.0, until - time.monotonic())):
                    raise none_free()
            stale = self._idle.pop() if self._idle else None
            connection = stale if stale and not fresh else self._make()
            self._in_use.add(connection)
        if stale and fresh:
            stale.close()  # it is as old as the one that was stale, and makes room
        return connection

    def give_back(self, connection: MailConnection) -> None:
        """It delivered, and serves for the next mail unless it had its share."""
        with self._free:
            spent = self._mails is not None and connection.session.mails >= self._mails
            if not (spent or self._closed):
                self._idle.append(connection)
                self._in_use.discard(connection)
                self._free.notify()
                return
        self.drop(connection)

    def drop(self, connection: MailConnection) -> None:
        """Leave it, with a goodbye; only then there is room for another one."""
        connection.close()
        with self._free:
            self._in_use.discard(connection)
            self._free.notify()

    def took_only(self, mails: int) -> None:
        """The server takes no more mails than that on one connection."""
        self._mails = min(mails, self._mails or mails)

    def too_many(self) -> bool:
        """The server takes no more connections than there are; False when there is none that could be waited
        for."""
        with self._free:
            ours = len(self._in_use) + len(self._idle)
            if ours:
                self._fewer, self._fewer_until = ours, time.monotonic() + FEWER_SECONDS
            return bool(ours)

    def idle_since(self, moment: float) -> tuple[list[MailConnection], bool]:
        """Take out what nobody used since then; and whether there are more."""
        with self._free:
            stale = [connection for connection in self._idle if connection.used_at <= moment]
            self._idle = [connection for connection in self._idle if connection.used_at > moment]
            return stale, bool(self._idle or self._in_use)

    def end(self) -> list[MailConnection]:
        """Cut off what is on its way, and answer what is idle: it deserves a goodbye."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._in_use:
                connection.session.hang_up()
            self._free.notify_all()
        return idle


def none_free() -> DeliveryError:
    return TransientError(
        "no connection to the mail server was free in time", reason=Reason.BUSY, retry_after=BUSY_WAIT
    )


def backend(mailer: str = "") -> BaseEmailBackend:
    """Django's mail backend, as it is configured now, without what a file adds to the end of a secret.

    mailer  its name in MAILERS, of Django 6.1 and later; the default one, unless given

    Raises DeliveryError for settings that Django makes no backend of.
    """
    if mailer and not hasattr(mail, "mailers"):
        raise misconfigured("MAILER is for Django 6.1 and later, which has MAILERS", "leave MAILER out")
    try:
        made: BaseEmailBackend = (
            mail.mailers[mailer or "default"] if hasattr(mail, "mailers") else mail.get_connection()
        )
    except Exception as error:
        what = f"Django's mail settings cannot be used ({type(error).__name__})"
        if mailer and type(error).__name__ == "MailerDoesNotExist":
            what = f"there is no {mailer!r} in Django's MAILERS"
        raise misconfigured(what) from error
    for name, ends in (("host", None), ("username", None), ("password", "\r\n")):
        if isinstance(value := getattr(made, name, None), str):
            setattr(made, name, value.rstrip(ends) if ends else value.strip())
    return made
