"""What is said in clear before TLS begins, in the protocols that ask for it.

Each raises Unreadable where the server will not, and lets what ends the connection pass.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

from ..text import cut, one_line
from .facts import Unreadable
from .wire import Wire

MOST_LINES = 100
SSL_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL's, of the message flow's "SSL Session Encryption"
START_TLS = b"1.3.6.1.4.1.1466.20037"  # RFC 4511, 4.14
EXTENDED_REQUEST = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + START_TLS
EXTENDED_RESPONSE = 0x78
MOST_LDAP = 4096


async def smtp(wire: Wire) -> None:
    await _replies(wire, "220")
    await wire.send(b"EHLO certctl.invalid\r\n")
    offered = await _replies(wire, "250")
    if not any(line[4:].strip().upper() == "STARTTLS" for line in offered):
        raise Unreadable("the server offers no STARTTLS")
    await wire.send(b"STARTTLS\r\n")
    await _replies(wire, "220")


async def _replies(wire: Wire, wanted: str) -> list[str]:
    """A reply's lines, the last of which has no dash after its code (RFC 5321, 4.2.1)."""
    found = list[str]()
    for _ in range(MOST_LINES):
        line = await wire.line()
        if not line.startswith(wanted):
            raise _refused(line)
        found.append(line)
        if line[3:4] != "-":
            return found
    raise Unreadable("the server does not stop talking")


async def imap(wire: Wire) -> None:
    greeting = await wire.line()
    if not greeting.upper().startswith("* OK"):
        raise _refused(greeting)
    await wire.send(b"a1 STARTTLS\r\n")
    for _ in range(MOST_LINES):
        line = await wire.line()
        if line.lower().startswith("a1 "):
            if line[3:5].upper() != "OK":
                raise _refused(line)
            return
    raise Unreadable("the server does not stop talking")


async def pop3(wire: Wire) -> None:
    await _agreed(wire)
    await wire.send(b"STLS\r\n")
    await _agreed(wire)


async def _agreed(wire: Wire) -> None:
    line = await wire.line()
    if not line.startswith("+OK"):
        raise _refused(line)


async def postgres(wire: Wire) -> None:
    await wire.send(SSL_REQUEST)
    answer = await wire.exactly(1)
    if answer == b"N":
        raise Unreadable("the server offers no TLS")
    if answer != b"S":
        raise Unreadable("the server does not speak PostgreSQL's protocol")


async def ldap(wire: Wire) -> None:
    await wire.send(EXTENDED_REQUEST)
    tag, length = await wire.exactly(2)
    if tag == 0x30 and length & 0x80:
        length = int.from_bytes(await wire.exactly(min(length & 0x7F, 4)), "big")
    if tag != 0x30 or length > MOST_LDAP:
        raise Unreadable("the server does not speak LDAP")
    answer = await wire.exactly(length)
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


def _refused(line: str) -> Unreadable:
    return Unreadable(f"the server answered {one_line(cut(line, 100)) or 'nothing'}")


SPOKEN: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "smtp": smtp,
    "imap": imap,
    "pop3": pop3,
    "postgres": postgres,
    "ldap": ldap,
}
