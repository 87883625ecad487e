"""Servers that misbehave to the byte, on loopback: a function speaks for each connection."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme

from tests.receiver import Background

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire(Background):
    """Serves every connection with `script`; `written` counts the bytes that it got rid of."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.script = script
        self.connections = 0
        self._tls = tls
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket, ssl=self._tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._talks[task] = writer
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()
            del self._talks[task]

    async def _close(self) -> None:
        for _ in range(9):  # a connection that is being accepted while the server closes would leak
            await asyncio.sleep(0)
        self._server.close()
        for task, writer in list(self._talks.items()):
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await asyncio.sleep(0)


async def request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The head and the body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length:"))
    return head, await reader.readexactly(int(length.split(":")[1]))


def response(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answering(*answers: bytes) -> Script:
    """The answers in turn, then the last one for ever."""
    rest = list(answers)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(rest.pop(0) if len(rest) > 1 else rest[0])
            await writer.drain()

    return script


@contextmanager
def wanting_a_certificate(trusted: Path) -> Iterator[int]:
    """The port of a TLS server that refuses whoever has none; its issuer's certificate goes into `trusted`.

    A thread, for asyncio closes such a connection without the alert that says why.
    """
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    authority.cert_pem.write_to_path(str(trusted))
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with suppress(ssl.SSLError):
                tls.do_handshake()
            with socket.socket(fileno=tls.detach()) as bare:  # closed at once, it would reset and not say why
                while bare.recv(4096):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
        thread.join(20)


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    await for_ever()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts the connection and never says a word, not even a TLS one."""
    await for_ever()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.transport.abort()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.write(b"\x00\xff\x16\x03 not http at all\r\n\r\n")
    await writer.drain()


async def drip_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.02)


def drip_body(status: int) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(response(status, length=1_000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    return script


def broken_off(status: int) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(response(status, b"half of it", length=1_000))
        await writer.drain()

    return script


class Gigabyte:
    """Sends 1 GB as fast as it is read; `sent` says how much of it was."""

    sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(response(500, length=1 << 30))
        chunk = b"x" * (1 << 16)
        while self.sent < 1 << 30:
            writer.write(chunk)
            await writer.drain()
            self.sent += len(chunk)


def bomb() -> bytes:
    """10 MB of zeros in 10 kB, as an error's body."""
    return response(500, gzip.compress(b"\0" * 10_000_000), "Content-Encoding: gzip")


def echo(status: int) -> Script:
    """Says back all that it was told, as faulty receivers and debug pages do."""

    async def script(reader: Any, writer: Any) -> None:
        head, body = await request(reader)
        path = head.split()[1]
        said = "\n".join([f"no handler for {path}", quote(path, safe=""), path.upper(), head, body.decode()])
        writer.write(response(status, said.encode()))

    return script
