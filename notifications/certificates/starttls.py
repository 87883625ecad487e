"""What is said in clear before TLS begins, in the protocols that ask for it: bounded in lines, and in what
StreamReader holds of one.

Each raises Unreadable where the server will not, and lets what ends the connection pass.
"""

from __future__ import annotations

import struct
from asyncio import LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

from ..text import cut, one_line
from .facts import Unreadable

MOST_LINES = 100
SSL_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL's, of the message flow's "SSL Session Encryption"
START_TLS = b"1.3.6.1.4.1.1466.20037"  # RFC 4511, 4.14
EXTENDED_REQUEST = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + START_TLS
EXTENDED_RESPONSE = 0x78
MOST_LDAP = 4096


async def smtp(reader: StreamReader, writer: StreamWriter) -> None:
    await _replies(reader, "220")
    writer.write(b"EHLO certctl.invalid\r\n")
    offered = await _replies(reader, "250")
    if not any(line[4:].strip().upper() == "STARTTLS" for line in offered):
        raise Unreadable("the server offers no STARTTLS")
    writer.write(b"STARTTLS\r\n")
    await _replies(reader, "220")


async def _replies(reader: StreamReader, wanted: str) -> list[str]:
    """A reply's lines, the last of which has no dash after its code (RFC 5321, 4.2.1)."""
    found = list[str]()
    for _ in range(MOST_LINES):
        line = await _line(reader)
        if not line.startswith(wanted):
            raise _refused(line)
        found.append(line)
        if line[3:4] != "-":
            return found
    raise Unreadable("the server does not stop talking")


async def imap(reader: StreamReader, writer: StreamWriter) -> None:
    greeting = await _line(reader)
    if not greeting.upper().startswith("* OK"):
        raise _refused(greeting)
    writer.write(b"a1 STARTTLS\r\n")
    for _ in range(MOST_LINES):
        line = await _line(reader)
        if line.lower().startswith("a1 "):
            if line[3:5].upper() != "OK":
                raise _refused(line)
            return
    raise Unreadable("the server does not stop talking")


async def pop3(reader: StreamReader, writer: StreamWriter) -> None:
    for command in (b"STLS\r\n", b""):
        line = await _line(reader)
        if not line.startswith("+OK"):
            raise _refused(line)
        writer.write(command)


async def postgres(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(SSL_REQUEST)
    answer = await reader.readexactly(1)
    if answer == b"N":
        raise Unreadable("the server offers no TLS")
    if answer != b"S":
        raise Unreadable("the server does not speak PostgreSQL's protocol")


async def ldap(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(EXTENDED_REQUEST)
    tag, length = await reader.readexactly(2)
    if tag == 0x30 and length & 0x80:
        length = int.from_bytes(await reader.readexactly(min(length & 0x7F, 4)), "big")
    if tag != 0x30 or length > MOST_LDAP:
        raise Unreadable("the server does not speak LDAP")
    answer = await reader.readexactly(length)
    code = _result_code(answer)
    if code is None:
        raise Unreadable("the server does not speak LDAP")
    if code:
        raise Unreadable(f"the server refuses STARTTLS: LDAP result {code}")


def _result_code(answer: bytes) -> int | None:
    """Of an ExtendedResponse after its message number; None where it is none."""
    if answer[:3] != b"\x02\x01\x01" or answer[3:4] != bytes([EXTENDED_RESPONSE]):
        return None
    start = 5 + (answer[4] & 0x7F if answer[4] & 0x80 else 0) if len(answer) > 4 else 0
    result = answer[start : start + 3]
    return result[2] if result[:2] == b"\x0a\x01" and len(result) == 3 else None


async def _line(reader: StreamReader) -> str:
    try:
        line = await reader.readuntil(b"\n")
    except LimitOverrunError as error:
        raise Unreadable("the server's line does not end") from error
    return line.decode("utf-8", "replace").rstrip("\r\n")


def _refused(line: str) -> Unreadable:
    return Unreadable(f"the server answered {one_line(cut(line, 100)) or 'nothing'}")


SPOKEN: dict[str, Callable[[StreamReader, StreamWriter], Awaitable[None]]] = {
    "smtp": smtp,
    "imap": imap,
    "pop3": pop3,
    "postgres": postgres,
    "ldap": ldap,
}
