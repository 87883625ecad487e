"""What an endpoint shows: the certificates of its handshake, whatever is wrong with them.

The handshake accepts everything, also versions and ciphers that are given up elsewhere: nothing is sent but
the handshake itself. It is bounded in time and bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ..notifiers.http.network import Dialler
from ..text import cut
from .facts import Unreadable
from .starttls import SPOKEN
from .targets import Endpoint
from .wire import Ended, Wire

SECONDS = 10.0  # for all of it
MOST_BYTES = 512 * 1024  # of a handshake; OpenSSL itself takes 100 kB of certificates
DER = 2  # as _ssl calls it
WORDS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS",
    "HTTP_REQUEST": "the server does not speak TLS",
    "UNEXPECTED_MESSAGE": "the server does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the server does not speak TLS",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS",
    "EXCESSIVE_MESSAGE_SIZE": "the server sends more than 100 kB of certificates",
    "TLSV1_UNRECOGNIZED_NAME": "the server knows no such name",
    "TLSV1_ALERT_UNRECOGNIZED_NAME": "the server knows no such name",
}


async def chain_of(endpoint: Endpoint, dialler: Dialler, seconds: float = SECONDS) -> list[bytes]:
    """The certificates that it sends, its own first, as they are. Raises Unreadable."""
    try:
        async with asyncio.timeout(seconds):
            return await _chain_of(endpoint, dialler)
    except TimeoutError:
        raise Unreadable(f"no certificate came within {seconds:g} s") from None
    except (Ended, ConnectionResetError, BrokenPipeError):
        raise Unreadable("the server ended the connection before it sent a certificate") from None
    except ssl.SSLError as error:
        raise Unreadable(_said(error)) from error
    except socket.gaierror as error:
        raise Unreadable("the name has no address") from error
    except (OSError, UnicodeError) as error:
        raise Unreadable(_why(error)) from error


async def _chain_of(endpoint: Endpoint, dialler: Dialler) -> list[bytes]:
    with await dialler.dial(endpoint.host, endpoint.port, guarded=False) as connected:
        wire = Wire(connected)
        if endpoint.starttls:
            await SPOKEN[endpoint.starttls](wire)
        return await _handshake(wire, _asked_for(endpoint))


def _asked_for(endpoint: Endpoint) -> bytes | None:
    """An address is no server name (RFC 6066, 3). Bytes, as a text would be encoded anew each time."""
    with suppress(ValueError):
        ip_address(endpoint.name)
        return None
    return endpoint.name.encode("ascii")


async def _handshake(wire: Wire, name: bytes | None) -> list[bytes]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = accepting().wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        await _shake(tls, incoming, outgoing, wire)
    except (ssl.SSLError, OSError):
        # One that wants a certificate of ours has shown its own before it turned us away.
        if sent := _sent(tls):
            return sent
        raise
    # In order, so that the server has nothing to log; it need not answer.
    with suppress(ssl.SSLError):
        tls.unwrap()
    with suppress(OSError):
        await wire.send(outgoing.read())
    if not (sent := _sent(tls)):
        raise Unreadable("the server sends no certificate")
    return sent


async def _shake(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, wire: Wire) -> None:
    room = MOST_BYTES
    while room >= 0:
        with suppress(ssl.SSLWantReadError):
            return tls.do_handshake()
        await wire.send(outgoing.read())
        data = await wire.receive()
        room -= len(data)
        incoming.write(data)
    raise Unreadable(f"the server sends more than {MOST_BYTES // 1024} kB and no end")


def _sent(tls: Any) -> list[bytes]:
    """Before Python 3.13, and before the handshake is done, what has this is not public."""
    chain = tls._sslobj.get_unverified_chain() or ()
    return [one.public_bytes(DER) for one in chain]


@lru_cache(maxsize=1)
def accepting() -> ssl.SSLContext:
    """A client's context that takes whatever it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= getattr(ssl, "OP_LEGACY_SERVER_CONNECT", 0x4)
    return context


def _said(error: ssl.SSLError) -> str:
    reason = str(error.reason or "")
    if reason in WORDS:
        return WORDS[reason]
    return f"the handshake failed: {cut(reason.lower().replace('_', ' '), 100) or 'the server gave it up'}"


def _why(error: OSError | UnicodeError) -> str:
    said = getattr(error, "strerror", None)
    return f"no connection: {cut(said or type(error).__name__, 100).lower()}"
