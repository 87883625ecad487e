"""E-mail, through whichever mail backend the site configured in Django."""

from __future__ import annotations

import hashlib
import re
import smtplib
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.core import mail
from django.core.exceptions import ValidationError
from django.core.mail.backends.base import BaseEmailBackend
from django.core.validators import validate_email
from django.template.loader import render_to_string

from ..exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from .base import Delivered, Message, SyncNotifier
from .http import HttpClient

MESSAGE_ID_DOMAIN = "notifications.certctl"
REFUSED_LOGIN = (530, 535)


class EmailNotifier(SyncNotifier):
    """Options: FROM_ADDRESS. A connection is kept per thread and reused until it breaks."""

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self._local = threading.local()

    def deliver(self, message: Message) -> Delivered:
        email = compose(message, self.options.get("FROM_ADDRESS"))
        backend = self._backend()
        try:
            backend.send_messages([email])
        except (smtplib.SMTPException, OSError) as error:
            self._local.backend = None
            _close(backend)
            raise _delivery_error(error) from error
        return Delivered(250, "accepted by the mail server")

    def _backend(self) -> BaseEmailBackend:
        backend: BaseEmailBackend | None = getattr(self._local, "backend", None)
        if backend is None:
            backend = mail.mailers["default"] if hasattr(mail, "mailers") else mail.get_connection()
            try:
                backend.open()
            except (smtplib.SMTPException, OSError) as error:
                _close(backend)
                raise _connect_error(error) from error
            self._local.backend = backend
        return backend


def compose(message: Message, sender: str | None) -> mail.EmailMessage:
    """The mail for a notification; one row is one recipient.

    Raises PermanentError for a recipient that is not one address: nothing in it can add a header.
    """
    try:
        validate_email(message.recipient)
    except ValidationError as error:
        raise PermanentError(
            f"{message.recipient!r} is not an e-mail address",
            reason=Reason.CONFIG,
            advice="raise the alert again with a correct address",
        ) from error
    context = {"message": message}
    subject = " ".join(render_to_string("notifications/email/subject.txt", context).split())
    body = render_to_string("notifications/email/body.txt", context)
    headers = {"Message-ID": message_id(message.id), "X-Certctl-Notification": header_safe(message.id)}
    return mail.EmailMessage(subject, body, sender, [message.recipient], headers=headers)


def message_id(notification_id: str) -> str:
    """The same on every attempt, so that a mail that arrived twice can be told (RFC 5322, 3.6.4)."""
    return f"<{header_safe(notification_id)}@{MESSAGE_ID_DOMAIN}>"


def header_safe(text: str) -> str:
    return (
        text if re.fullmatch(r"[\w.-]{1,200}", text, re.ASCII) else hashlib.sha256(text.encode()).hexdigest()
    )


def _delivery_error(error: Exception) -> DeliveryError:
    """RFC 5321, 4.2.1: 4yz may be repeated unchanged, 5yz must not be."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, words = next(iter(error.recipients.values()))
        return _refusal(code, words)
    if isinstance(error, smtplib.SMTPResponseException):
        return _refusal(error.smtp_code, error.smtp_error)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return PermanentError(str(error), reason=Reason.CONFIG, advice="correct the mail server's settings")
    return UnknownOutcome("the mail server's connection broke while sending; it may have arrived")


def _connect_error(error: Exception) -> DeliveryError:
    if isinstance(error, smtplib.SMTPResponseException):
        return _refusal(error.smtp_code, error.smtp_error)
    if isinstance(error, TimeoutError):
        return TransientError("the mail server did not answer in time", reason=Reason.TIMEOUT)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return PermanentError(str(error), reason=Reason.CONFIG, advice="correct the mail server's settings")
    words = getattr(error, "strerror", None) or "the connection broke"
    return TransientError(f"no connection to the mail server: {words}", reason=Reason.NETWORK)


def _refusal(code: int, words: bytes | str) -> DeliveryError:
    said = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    text = f"SMTP {code}: {' '.join(said.split())}"[:500]
    if code in REFUSED_LOGIN:
        return PermanentError(
            text, reason=Reason.AUTH, status=code, advice="correct CERTCTL_SMTP_USERNAME and _PASSWORD"
        )
    if 500 <= code < 600:
        return PermanentError(
            text, reason=Reason.CLIENT, status=code, advice="the mail server refuses this mail; see its words"
        )
    return TransientError(text, reason=Reason.SERVER, status=code)


def _close(backend: BaseEmailBackend) -> None:
    with suppress(smtplib.SMTPException, OSError):  # the connection may be gone already
        backend.close()
