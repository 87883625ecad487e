"""What goes wrong between us and a mail server, and how far a mail had got by then.

From RFC 5321, 4.2.1 and 4.5.3.2: 4yz may be repeated unchanged, 5yz must not be; once the final dot was
sent, a lost connection leaves open whether the server took the mail; 421 is the server's own, whatever it
answers. A 4yz from RCPT on is about this recipient, or this mail (RFC 6647: greylisting), unless its enhanced
code is 4.3.z, "mail system status" (RFC 3463). "Too many connections" is said in many words: Postfix, Exim,
Exchange, sendmail and the large providers all have their own.
"""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import ssl
from contextlib import suppress
from enum import IntEnum
from functools import partial
from typing import Any, BinaryIO

from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from ..exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from ..text import cut, one_line, redact
from .http.client import unverified

QUOTE_LIMIT = 600
REPLY_LIMIT = 64 * 1024
BUSY_WAIT = 10.0  # seconds
TOO_MANY = re.compile(
    r"too many|concurren|connection\W+(rate\W+)?limit|(limit|maximum)\b.*\bconnections?\b", re.IGNORECASE
)
SYSTEM_STATUS = re.compile(r"4\.3\.\d")
NOT_SMTP = "an answer that is not SMTP"
CLOSING = 421
REFUSED_LOGIN = (530, 534, 535, 538)
LOGIN_ADVICE = "correct the mail server's user name and password (CERTCTL_SMTP_*), then requeue"
SERVER_ADVICE = "the mail server refuses us, not this mail; ask who runs it, then requeue"
MAIL_ADVICE = (
    "the mail server refuses this mail or its recipient; raise a corrected alert, or dismiss this one"
)
SETTINGS_ADVICE = "correct the mail server's settings (CERTCTL_SMTP_*), then requeue"


class Stage(IntEnum):
    """How far one mail got. Only from DOT on may the server have taken it."""

    CONNECT = 0
    READY = 1
    MAIL = 2
    RCPT = 3
    DOT = 4


class Session:
    """What is known of one connection to the mail server.

    traced  False for a mail backend that is not Django's own SMTP: then nothing tells the stages apart
    last     the server's latest reply: smtplib forgets a 421 that answers EHLO and says only "disconnected"
    handle   on the socket from its first moment, so that another thread can end a wait on it
    """

    def __init__(self) -> None:
        self.stage = Stage.CONNECT
        self.traced = False
        self.reused = False
        self.last: tuple[int, bytes] = (0, b"")
        self.handle: socket.socket | None = None
        self.secrets: frozenset[str] = frozenset()

    def trace(self, backend: BaseEmailBackend) -> None:
        """Have Django's SMTP backend make connections that report to this session."""
        self.hide(getattr(backend, "username", None), getattr(backend, "password", None))
        if isinstance(backend, EmailBackend):
            kind = TracedOverTLS if backend.use_ssl else Traced
            # connection_class is a property there, so only a class of the backend's own can replace it.
            connection_class = staticmethod(partial(kind, self))
            backend.__class__ = type("Backend", (type(backend),), {"connection_class": connection_class})
            self.traced = True

    def hang_up(self) -> None:
        """Wake a thread that waits for the server; shutdown, unlike close, does."""
        if self.handle is not None:
            with suppress(OSError):
                self.handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.handle is not None:
            self.handle.close()

    def hide(self, username: str | None, password: str | None) -> None:
        """Forms of the password in which a server may echo it."""
        if password:
            forms = [password, *_base64(password), *_base64(f"\0{username}\0{password}")]
            self.secrets = frozenset(map(re.escape, forms))

    def error(self, error: Exception) -> DeliveryError:
        """What an exception of smtplib or of the socket means at this stage."""
        match error:
            case smtplib.SMTPRecipientsRefused():
                self.stage = max(self.stage, Stage.RCPT)  # not known from a backend that is not traced
                return self._refusal(*next(iter(error.recipients.values())))
            case smtplib.SMTPResponseException() if isinstance(error.smtp_error, str):
                return self._lost(OSError(0, NOT_SMTP))  # smtplib's own words, about a line without an end
            case smtplib.SMTPResponseException():
                return self._refusal(error.smtp_code, error.smtp_error)
            case smtplib.SMTPServerDisconnected() if self.last[0] == CLOSING:
                return self._refusal(*self.last)
            case smtplib.SMTPServerDisconnected():
                return self._lost(error.__context__ or error)
            case smtplib.SMTPException():  # STARTTLS or a way to log in that the server does not have
                return PermanentError(self._quote(str(error)), reason=Reason.CONFIG, advice=SETTINGS_ADVICE)
            case ssl.SSLCertVerificationError():
                return unverified(error, "the mail server's certificate")
        return self._lost(error)

    def _lost(self, error: BaseException) -> DeliveryError:
        timed_out = isinstance(error, TimeoutError)
        what = "the mail server did not answer in time" if timed_out else "the mail server's connection broke"
        if not self.traced and self.stage > Stage.CONNECT:
            return UnknownOutcome(f"{what}; it may have arrived")
        if self.stage is Stage.DOT:
            return UnknownOutcome(f"{what} after the whole mail was sent; it may have arrived")
        words = self._quote(getattr(error, "strerror", None) or "")
        text = f"{what} before the mail was sent" + (f": {words}" if words else "")
        return TransientError(text, reason=Reason.TIMEOUT if timed_out else Reason.NETWORK)

    def _refusal(self, code: int, said: bytes | str) -> DeliveryError:
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        text = f"SMTP {code}: {self._quote(words)}"
        if code in REFUSED_LOGIN:
            return PermanentError(text, reason=Reason.AUTH, status=code, advice=LOGIN_ADVICE)
        if 500 <= code < 600 and self.stage < Stage.MAIL:
            return PermanentError(text, reason=Reason.AUTH, status=code, advice=SERVER_ADVICE)
        if 500 <= code < 600:
            return PermanentError(text, reason=Reason.CLIENT, status=code, advice=MAIL_ADVICE)
        if code < 0:  # smtplib's way to say that the server's line was not SMTP
            return self._lost(OSError(0, NOT_SMTP))
        reason = self._put_off(code, words) if 400 <= code < 500 else Reason.OTHER
        wait = BUSY_WAIT if reason is Reason.BUSY else None
        return TransientError(text, reason=reason, status=code, retry_after=wait)

    def _put_off(self, code: int, words: str) -> Reason:
        """Whose matter a 4yz is: the connection's, the server's or the recipient's."""
        if TOO_MANY.search(words) and (code == CLOSING or self.stage < Stage.MAIL):
            return Reason.BUSY
        own = self.stage >= Stage.RCPT and code != CLOSING and not SYSTEM_STATUS.match(words)
        return Reason.DEFERRED if own else Reason.SERVER

    def _quote(self, words: str) -> str:
        return cut(one_line(redact(words, self.secrets)), QUOTE_LIMIT)


class Replies:
    """What smtplib reads lines from. A reply may have any number of them, but not of bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.left = REPLY_LIMIT

    def readline(self, limit: int) -> bytes:
        """Raises OSError, which smtplib takes for a lost connection, when a reply has no end."""
        line = self.file.readline(limit)
        self.left -= len(line)
        if self.left < 0:
            raise OSError(0, NOT_SMTP)
        return line

    def close(self) -> None:
        self.file.close()


class Traced(smtplib.SMTP):
    """Tells its session which socket it has and how far a mail got."""

    def __init__(self, session: Session, *args: Any, **kwargs: Any) -> None:
        self.session = session
        super().__init__(*args, **kwargs)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # In smtplib as a hook for SMTP_SSL, which wraps what this returns.
        sock: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self.session.handle = sock.dup()  # TLS takes the socket itself away
        return sock

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = Replies(self.sock.makefile("rb"))
        if self.file is not None:
            self.file.left = REPLY_LIMIT
        self.session.last = super().getreply()
        return self.session.last

    def send(self, s: Any) -> None:
        """smtplib writes everything through here, and the final dot as the last bytes of a mail."""
        written = s.encode("ascii", "replace") if isinstance(s, str) else bytes(s)
        before = self.session.stage
        if written[:5].lower() == b"mail ":
            self.session.stage = Stage.MAIL
        elif written[:5].lower() == b"rcpt ":
            self.session.stage = Stage.RCPT
        elif written.endswith(b"\r\n.\r\n"):
            self.session.stage = Stage.DOT
        try:
            super().send(s)
        except BaseException:
            self.session.stage = before  # its last bytes, and so the dot, were not handed over
            raise


class TracedOverTLS(smtplib.SMTP_SSL, Traced):
    """The same over implicit TLS: Traced is between SMTP_SSL and SMTP, so it sees the bare socket."""

    def __init__(self, session: Session, *args: Any, **kwargs: Any) -> None:
        self.session = session
        smtplib.SMTP_SSL.__init__(self, *args, **kwargs)


def _base64(text: str) -> list[str]:
    return [base64.b64encode(text.encode()).decode()]
