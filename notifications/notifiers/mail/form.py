"""A mail as it goes over the wire: seven bits, whatever is in it, so that it passes every server unchanged.

8BITMIME would save little and is not everywhere: what is not plain ASCII is quoted-printable, or base64 where
that is shorter. Only addresses that are not ASCII need more, and a server with SMTPUTF8 (RFC 6531). It is put
together here, because the standard library takes ten times as long, and folds a long Message-ID until nobody
knows it again.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterator, Sequence
from email.headerregistry import Address
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, localtime
from functools import lru_cache

from django.core.mail import EmailMultiAlternatives

LINE_LIMIT = 76
LINE_ENDS = re.compile(r"\r\n|\r|\n")
PLAIN = re.compile(r"[\t -~]*")


def headers(
    email: EmailMultiAlternatives, sender: Address, recipients: Sequence[Address]
) -> Iterator[tuple[str, str]]:
    """What a person may read of the head. recipients: those that the mail shows."""
    yield "Subject", str(email.subject)
    yield "From", str(sender)
    if recipients:
        yield "To", ", ".join(map(str, recipients))
    for reply_to in email.reply_to:
        yield "Reply-To", reply_to
    yield "Date", format_datetime(localtime())
    yield from email.extra_headers.items()


def form(
    email: EmailMultiAlternatives, sender: Address, recipients: Sequence[Address], *, utf8: bool
) -> bytes:
    """utf8: whether addresses may be other than ASCII."""
    head = "".join(_line(name, value, utf8) for name, value in headers(email, sender, recipients))
    texts = [("plain", str(email.body))]
    texts += [(kind.partition("/")[2], str(text)) for text, kind in email.alternatives]
    parts = [_part(kind, text) for kind, text in texts]
    if len(parts) == 1:
        body = parts[0]
    else:
        mark = f"=_{secrets.token_hex(12)}"  # nobody who writes a text can know it
        inside = b"".join(b"--%b\r\n%b\r\n" % (mark.encode(), part) for part in parts)
        kind = f'Content-Type: multipart/alternative; boundary="{mark}"\r\n\r\n'
        body = b"%b%b--%b--\r\n" % (kind.encode(), inside, mark.encode())
    return f"{head}MIME-Version: 1.0\r\n".encode() + body


def _part(kind: str, text: str) -> bytes:
    how, content = _encoded(text)
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {how}\r\n\r\n'
    return head.encode() + content


def _encoded(text: str) -> tuple[str, bytes]:
    """The transfer encoding and the text in it, at the end of a line."""
    lines = LINE_ENDS.split(text)
    whole = "\r\n".join([*lines, ""] if lines[-1] else lines)
    data = whole.encode("utf-8", "replace")
    if all(len(line) <= LINE_LIMIT and PLAIN.fullmatch(line) for line in lines):
        return "7bit", data
    quoted = binascii.b2a_qp(data, istext=True)
    if 3 * len(quoted) <= 4 * len(data) * 78 // 76:
        return "quoted-printable", quoted
    return "base64", base64.encodebytes(data).replace(b"\n", b"\r\n")


def _line(name: str, value: str, utf8: bool) -> str:
    """A header with its line's end, folded where it is a text or has names of people in it."""
    if value.isascii() and "=?" not in value and len(name) + len(value) <= LINE_LIMIT:
        return f"{name}: {value}\r\n"
    if name not in ("Subject", "From", "To", "Reply-To"):
        return f"{name}: {value}\r\n"  # ids: they stay in one piece
    return _folded(name, value, utf8)


@lru_cache(maxsize=256)
def _folded(name: str, value: str, utf8: bool) -> str:
    policy = SMTPUTF8 if utf8 else SMTP
    return str(policy.fold(name, policy.header_factory(name, value)))
