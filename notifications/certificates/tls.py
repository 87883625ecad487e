"""What an endpoint shows: the certificates of its handshake, whatever is wrong with them, and what it staples
to them.

The handshake accepts everything, also versions and ciphers that are given up elsewhere: nothing is sent but
the handshake itself. It is bounded in time and bytes.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from OpenSSL import SSL, crypto

from ..notifiers.http.network import Dialler
from ..text import cut
from .facts import Unreadable
from .starttls import SPOKEN
from .targets import Endpoint
from .wire import CHUNK, Ended, Wire

SECONDS = 10.0  # for all of it
MOST_BYTES = 512 * 1024  # of a handshake; OpenSSL itself takes 100 kB of certificates
LEGACY_SERVER_CONNECT = 0x4  # SSL_OP_LEGACY_SERVER_CONNECT, which pyOpenSSL has no name for
WORDS = {
    "wrong version number": "the server does not speak TLS",
    "http request": "the server does not speak TLS",
    "unexpected message": "the server does not speak TLS",
    "packet length too long": "the server does not speak TLS",
    "record layer failure": "the server does not speak TLS",
    "excessive message size": "the server sends more than 100 kB of certificates",
    "tlsv1 unrecognized name": "the server knows no such name",
    "tlsv1 alert unrecognized name": "the server knows no such name",
    "ssl/tls alert unrecognized name": "the server knows no such name",
}


class Sent(NamedTuple):
    """chain: certificates as they are, the server's own first; staple: an OCSP response, or nothing."""

    chain: list[bytes]
    staple: bytes = b""


async def sent_by(endpoint: Endpoint, dialler: Dialler, seconds: float = SECONDS) -> Sent:
    """What it shows. Raises Unreadable."""
    try:
        return await _sent_by(endpoint, dialler, asyncio.get_running_loop().time() + seconds)
    except TimeoutError:
        raise Unreadable(f"no certificate came within {seconds:g} s") from None
    except (Ended, ConnectionResetError, BrokenPipeError):
        raise Unreadable("the server ended the connection before it sent a certificate") from None
    except SSL.Error as error:
        raise Unreadable(_said(error)) from error
    except socket.gaierror as error:
        raise Unreadable("the name has no address") from error
    except (OSError, UnicodeError) as error:
        raise Unreadable(_why(error)) from error


async def _sent_by(endpoint: Endpoint, dialler: Dialler, until: float) -> Sent:
    async with asyncio.timeout_at(until):
        connected = await dialler.dial(endpoint.host, endpoint.port, guarded=False)
    with connected:
        wire = Wire(connected)
        if endpoint.starttls:
            async with asyncio.timeout_at(until):
                await SPOKEN[endpoint.starttls](wire)
        return await _handshake(wire, _asked_for(endpoint), until)


def _asked_for(endpoint: Endpoint) -> bytes | None:
    """An address is no server name (RFC 6066, 3)."""
    with suppress(ValueError):
        ip_address(endpoint.name)
        return None
    return endpoint.name.encode("ascii")


async def _handshake(wire: Wire, name: bytes | None, until: float) -> Sent:
    tls = SSL.Connection(accepting(), None)
    if name is not None:
        tls.set_tlsext_host_name(name)
    tls.request_ocsp()
    tls.set_connect_state()
    try:
        async with asyncio.timeout_at(until):
            await _shake(tls, wire)
    except (SSL.Error, OSError):
        # One that wants a certificate of ours has shown its own before it turned us away, or says no more.
        if chain := _chain(tls):
            return Sent(chain, _staple(tls))
        raise
    # In order, so that the server has nothing to log; it need not answer.
    with suppress(SSL.Error):
        tls.shutdown()
    with suppress(OSError):
        async with asyncio.timeout_at(until):
            await wire.send(_outgoing(tls))
    if not (chain := _chain(tls)):
        raise Unreadable("the server sends no certificate")
    return Sent(chain, _staple(tls))


async def _shake(tls: SSL.Connection, wire: Wire) -> None:
    room = MOST_BYTES
    while room >= 0:
        with suppress(SSL.WantReadError):
            return tls.do_handshake()
        await wire.send(_outgoing(tls))
        data = await wire.receive()
        room -= len(data)
        tls.bio_write(data)
    raise Unreadable(f"the server sends more than {MOST_BYTES // 1024} kB and no end")


def _outgoing(tls: SSL.Connection) -> bytes:
    try:
        return tls.bio_read(CHUNK)
    except SSL.WantReadError:
        return b""


def _chain(tls: SSL.Connection) -> list[bytes]:
    """Not as cryptography's: that refuses some that OpenSSL takes."""
    return [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in tls.get_peer_cert_chain() or ()]


def _staple(tls: SSL.Connection) -> bytes:
    return tls.get_app_data() or b""


def _keep_staple(tls: SSL.Connection, staple: bytes, _: object) -> bool:
    tls.set_app_data(staple)
    return True


@lru_cache(maxsize=1)
def accepting() -> SSL.Context:
    """A client's context that takes whatever it is shown."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_min_proto_version(0)  # the oldest that OpenSSL has
    context.set_cipher_list(b"ALL:!aNULL:@SECLEVEL=0")
    context.set_options(LEGACY_SERVER_CONNECT)
    context.set_ocsp_client_callback(_keep_staple)
    return context


def _said(error: SSL.Error) -> str:
    """By OpenSSL's first reason: the others follow from it."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reason = str(reasons[0][-1]) if reasons else ""
    return WORDS.get(reason) or f"the handshake failed: {cut(reason, 100) or 'the server gave it up'}"


def _why(error: OSError | UnicodeError) -> str:
    said = getattr(error, "strerror", None)
    return f"no connection: {cut(said or type(error).__name__, 100).lower()}"
