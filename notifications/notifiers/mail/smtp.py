"""What goes wrong between us and a mail server, and how far a mail had got by then.

From RFC 5321, 4.2.1 and 4.5.3.2: 4yz may be repeated unchanged, 5yz must not be; once the final dot was
sent, a lost connection leaves open whether the server took the mail; 421 is the server's own, whatever it
answers. What its words mean: words.py; what that makes of the row: refusals.py.
"""

from __future__ import annotations

import base64
import hmac
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend

from ...exceptions import DeliveryError, Reason, TransientError, UnknownOutcome
from ...text import cut, one_line, redact
from ..http.client import unverified, wants_certificate
from .refusals import ADVICE, BY_ITSELF, CLOSING, Refusal
from .words import Meaning, Stage

QUOTE_LIMIT = 600
REPLY_LIMIT = 64 * 1024
MOST_CHALLENGES = 5
NOT_SMTP = "an answer that is not SMTP"
SETTINGS_ADVICE = f"correct the mail server's settings (CERTCTL_SMTP_*); {BY_ITSELF}"
CERTIFICATE_ADVICE = f"set TLS_CERT and TLS_KEY (CERTCTL_SMTP_TLS_CERT); {BY_ITSELF}"
UNVERIFIED_ADVICE = f"renew the server's certificate or trust its issuer (CERTCTL_SMTP_TLS_CA); {BY_ITSELF}"
COMMANDS = {
    "EHLO": Stage.CONNECT,
    "HELO": Stage.CONNECT,
    "STARTTLS": Stage.TLS,
    "AUTH": Stage.LOGIN,
    "MAIL": Stage.MAIL,
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
}
UTF8_OPTIONS = ("SMTPUTF8", "BODY=8BITMIME")  # RFC 6531, 3.6: who offers the one has to offer the other


class Reply(NamedTuple):
    command: str
    code: int
    said: bytes


class Session:
    """What is known of one connection to the mail server.

    traced    False for a mail backend that is not Django's own SMTP: then nothing tells the stages apart
    dialogue  the server's replies since the connection was made, or to the mail that it was used again for;
              smtplib forgets a 421 that answers EHLO and says only "disconnected"
    refused   the recipients of a mail that a backend with a way of its own sent to the others
    handle    on the socket from its first moment, so that another thread can end a wait on it
    """

    def __init__(self, ehlo_name: str = "") -> None:
        self.stage = Stage.CONNECT
        self.traced = False
        self.mails = 0
        self.ehlo_name = ehlo_name
        self.peer = ""
        self.dialogue: list[Reply] = []
        self.refused: dict[str, tuple[int, bytes]] = {}
        self.handle: socket.socket | None = None
        self.secrets: frozenset[str] = frozenset()

    def trace(self, backend: BaseEmailBackend) -> None:
        """Have Django's SMTP backend make connections that report to this session."""
        self.hide(getattr(backend, "username", None), getattr(backend, "password", None))
        if isinstance(backend, EmailBackend):
            kind = TracedOverTLS if backend.use_ssl else Traced
            name = {"local_hostname": self.ehlo_name} if self.ehlo_name else {}

            def connected(*args: Any, **options: Any) -> Traced:
                return kind(self, *args, **{**options, **name})

            # connection_class is a property there, so only a class of the backend's own can replace it.
            connection_class = staticmethod(connected)
            backend.__class__ = type("Backend", (type(backend),), {"connection_class": connection_class})
            self.traced = True

    def ready(self) -> None:
        """For a mail."""
        self.stage = Stage.READY
        self.refused = {}

    def hang_up(self) -> None:
        """Wake a thread that waits for the server; shutdown, unlike close, does."""
        if self.handle is not None:
            with suppress(OSError):
                self.handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.handle is not None:
            self.handle.close()

    def hide(self, username: str | None, password: str | None) -> None:
        """Forms of the password in which a server may echo it. What is shorter is in every sentence."""
        if password:
            forms = [password, _base64(password), _base64(f"\0{username}\0{password}")]
            self.secrets = frozenset(re.escape(form) for form in forms if len(form) > 3)

    def shown(self) -> list[str]:
        """The dialogue for people, without secrets."""
        begun = [f"connected to {self.peer}"] if self.peer else []
        return begun + [
            f"{reply.command}: {reply.code} {self.quote(reply.said.decode('utf-8', 'replace'))}"
            for reply in self.dialogue
        ]

    def fault(self, error: Exception) -> DeliveryError | Refusal:
        """What an exception of smtplib, of the socket, or of our own settings means at this stage."""
        last = self.dialogue[-1].code if self.dialogue else 0
        match error:
            case smtplib.SMTPRecipientsRefused():
                self.stage = max(self.stage, Stage.RCPT)  # not known from a backend that is not traced
                return self.refusal(*next(iter(error.recipients.values())))
            case smtplib.SMTPResponseException() if isinstance(error.smtp_error, str):
                return self._lost(OSError(0, NOT_SMTP))  # smtplib's own words, about a line without an end
            case smtplib.SMTPResponseException():
                return self.refusal(error.smtp_code, error.smtp_error)
            case smtplib.SMTPServerDisconnected() if last == CLOSING:
                return self.refusal(last, self.dialogue[-1].said)
            case smtplib.SMTPServerDisconnected():
                return self._lost(error.__context__ or error)
            case smtplib.SMTPException():  # STARTTLS or a way to log in that the server does not have
                about = Meaning.TLS if "STARTTLS" in str(error) else Meaning.LOGIN
                return misconfigured(self.quote(str(error)), ADVICE[about])
            case ssl.SSLCertVerificationError():
                return misconfigured(
                    unverified(error, "the mail server's certificate").text, UNVERIFIED_ADVICE
                )
            case OSError():
                return self._lost(error)
        # What is not said more exactly can have a password in it.
        return misconfigured(f"the mail server's settings cannot be used ({type(error).__name__})")

    def _lost(self, error: BaseException) -> DeliveryError | Refusal:
        if wants_certificate(error):
            return misconfigured("the mail server wants a client certificate", CERTIFICATE_ADVICE)
        timed_out = isinstance(error, TimeoutError)
        what = "the mail server did not answer in time" if timed_out else "the mail server's connection broke"
        if not self.traced and self.stage > Stage.CONNECT:
            return UnknownOutcome(f"{what}; it may have arrived")
        if self.stage is Stage.DOT:
            return UnknownOutcome(f"{what} after the whole mail was sent; it may have arrived")
        words = self.quote(getattr(error, "strerror", None) or "")
        text = f"{what} before the mail was sent" + (f": {words}" if words else "")
        return TransientError(text, reason=Reason.TIMEOUT if timed_out else Reason.NETWORK)

    def refusal(self, code: int, said: bytes | str) -> DeliveryError | Refusal:
        if code < 0:  # smtplib's way to say that the server's line was not SMTP
            return self._lost(OSError(0, NOT_SMTP))
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return Refusal.of(code, words, self.stage, self.quote(words))

    def quote(self, words: str) -> str:
        return cut(one_line(redact(words, self.secrets)), QUOTE_LIMIT)


def misconfigured(text: str, advice: str = SETTINGS_ADVICE) -> TransientError:
    """Our settings are at fault, so no row is: all wait until they are corrected."""
    return TransientError(text, reason=Reason.AUTH, advice=advice)


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
    """Tells its session which socket it has, what the server says and how far a mail got.

    Login is in UTF-8 (RFC 4616), not in smtplib's ASCII.
    """

    written = "the connection"  # what the next reply answers

    def __init__(self, session: Session, *args: Any, **kwargs: Any) -> None:
        self.session = session
        super().__init__(*args, **kwargs)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # In smtplib as a hook for SMTP_SSL, which wraps what this returns.
        sock: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self.session.handle = sock.dup()  # TLS takes the socket itself away
        address, to, *_ = sock.getpeername()
        self.session.peer = f"[{address}]:{to}" if ":" in address else f"{address}:{to}"
        return sock

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = Replies(self.sock.makefile("rb"))
        if self.file is not None:
            self.file.left = REPLY_LIMIT
        code, said = super().getreply()
        self.session.dialogue.append(Reply(self.written, code, said))
        return code, said

    def send(self, s: Any) -> None:
        """smtplib writes everything through here, and the final dot as the last bytes of a mail."""
        text = s if isinstance(s, str) else bytes(s[:9] + s[-5:]).decode("ascii", "replace")
        command = text[:9].partition(" ")[0].strip().upper()
        before = self.session.stage
        if text.endswith("\r\n.\r\n"):
            self.session.stage, self.written = Stage.DOT, "the mail"
        elif command in COMMANDS:
            self.session.stage, self.written = COMMANDS[command], command
        try:
            super().send(s)
        except BaseException:
            self.session.stage = before  # its last bytes, and so the dot, were not handed over
            raise

    def auth(
        self, mechanism: str, authobject: Callable[..., str | None], *, initial_response_ok: bool = True
    ) -> tuple[int, bytes]:
        first = authobject() if initial_response_ok else None
        line = mechanism.upper() + (f" {_base64(first)}" if first is not None else "")
        code, said = self.docmd("AUTH", line)
        self._auth_challenge_count = int(first is not None)
        while code == 334 and self._auth_challenge_count < MOST_CHALLENGES:
            self._auth_challenge_count += 1
            code, said = self.docmd(_base64(authobject(base64.decodebytes(said)) or ""))
        if code not in (235, 503):
            raise smtplib.SMTPAuthenticationError(code, said)
        return code, said

    def auth_cram_md5(self, challenge: bytes | None = None) -> str | None:  # type: ignore[override]
        if challenge is None:
            return None
        key = self.password.encode("utf-8", "replace")
        return f"{self.user} {hmac.HMAC(key, challenge, 'md5').hexdigest()}"

    def sendmail(self, *args: Any, **kwargs: Any) -> dict[str, tuple[int, bytes]]:
        """What such a backend calls; Django's does not look at what it answers."""
        self.session.refused = super().sendmail(*args, **kwargs)
        return self.session.refused

    def transact(
        self, sender: str, recipients: Sequence[str], content: bytes, options: Sequence[str]
    ) -> tuple[dict[str, tuple[int, bytes]], bytes]:
        """One mail: (the recipients that were refused, the server's words on taking it for the others).

        Raises smtplib's exceptions where it is taken for none, but for each recipient's own refusal.
        """
        size = [f"SIZE={len(content)}"] if self.has_extn("size") else []
        self.command_encoding = "utf-8" if "SMTPUTF8" in options else "ascii"
        code, said = self.docmd("MAIL", " ".join([f"FROM:<{sender}>", *size, *options]))
        if not _is_success(code):
            raise smtplib.SMTPResponseException(code, said)
        refused = {}
        for recipient in recipients:
            code, said = self.docmd("RCPT", f"TO:<{recipient}>")
            if code == CLOSING or code < 0:
                raise smtplib.SMTPResponseException(code, said)
            if not _is_success(code):
                refused[recipient] = (code, said)
        if len(refused) == len(recipients):
            return refused, b""
        code, said = self.data(content)
        if not _is_success(code):
            raise smtplib.SMTPResponseException(code, said)
        return refused, said


class TracedOverTLS(smtplib.SMTP_SSL, Traced):
    """The same over implicit TLS: Traced is between SMTP_SSL and SMTP, so it sees the bare socket."""

    def __init__(self, session: Session, *args: Any, **kwargs: Any) -> None:
        self.session = session
        smtplib.SMTP_SSL.__init__(self, *args, **kwargs)


def _is_success(code: int) -> bool:
    return 200 <= code < 300


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()
