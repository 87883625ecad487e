"""A mail as it goes over the wire: seven bits, whatever is in it, so that it passes every server unchanged.

8BITMIME would save little and is not everywhere: text that is not ASCII is quoted-printable, or base64 where
that is shorter. Only addresses that are not ASCII need more, and a server with SMTPUTF8 (RFC 6531).
"""

from __future__ import annotations

from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import localtime

from django.core.mail import EmailMultiAlternatives

ASCII_FORM, UTF8_FORM = SMTP.clone(cte_type="7bit"), SMTPUTF8.clone(cte_type="7bit")


def form(
    email: EmailMultiAlternatives, sender: Address, recipients: Sequence[Address], *, utf8: bool
) -> EmailMessage:
    """recipients: those that the mail shows. utf8: whether addresses may be other than ASCII."""
    made = EmailMessage(UTF8_FORM if utf8 else ASCII_FORM)
    made["Subject"] = email.subject
    made["From"] = sender
    if recipients:
        made["To"] = tuple(recipients)
    for reply_to in email.reply_to:
        made["Reply-To"] = reply_to
    made["Date"] = localtime()
    for name, value in email.extra_headers.items():
        made[name] = value
    made.set_content(email.body)
    for content, kind in email.alternatives:
        made.add_alternative(content, subtype=kind.partition("/")[2])
    return made
