"""TLS servers on loopback that do what servers do: well, late, wrongly, or not at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from OpenSSL import SSL

from tests.certificates.authority import Issued

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
FOREVER = 3600.0


class Servers:
    """Runs them on an event loop in a thread; closes all of them with their connections."""

    def __enter__(self) -> Servers:
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.connections = 0
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def talking(self, talk: Talk) -> int:
        """A port where every connection is talked with so."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            try:
                await talk(reader, writer)
            except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError, ValueError):
                pass
            finally:
                self.tasks.discard(task)
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

        async def serve() -> int:
            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        port: int = self._do(serve())
        return port

    def tls(self, *contexts: ssl.SSLContext) -> int:
        """A port with TLS from the first byte; several contexts are taken in turn, a connection each."""
        turns = iter(range(10**9))

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(contexts[next(turns) % len(contexts)])
            await reader.read(1)

        return self.talking(talk)

    def reloading(self, contexts: list[ssl.SSLContext]) -> int:
        """One whose certificate is the list's first: whoever has the list reloads it."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(contexts[0])
            await reader.read(1)

        return self.talking(talk)

    def stapling(self, issued: Issued, staple: bytes, *, version: int = SSL.TLS1_3_VERSION) -> int:
        """One that staples this to its certificate, which Python's own TLS cannot."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(version)
        context.use_certificate(issued.certificate)
        context.use_privatekey(issued.key)
        for one in issued.above:
            context.add_extra_chain_cert(one)
        context.set_ocsp_server_callback(lambda tls, _: staple)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tls, shaken = SSL.Connection(context, None), False
            tls.set_accept_state()
            while not shaken:
                with suppress(SSL.WantReadError):
                    tls.do_handshake()
                    shaken = True
                with suppress(SSL.WantReadError):
                    writer.write(tls.bio_read(65536))
                if not shaken:
                    tls.bio_write(await reader.read(65536))
            await reader.read(1)

        return self.talking(talk)

    def after(self, context: ssl.SSLContext, said: Sequence[tuple[bytes, bytes | int]]) -> int:
        """One that speaks in clear first: what it says, and what it then reads (a line's beginning, or so
        many bytes)."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for say, hear in said:
                writer.write(say)
                if isinstance(hear, int):
                    await reader.readexactly(hear)
                elif hear:
                    line = await reader.readuntil(b"\n")
                    if not line.upper().startswith(hear.upper()):
                        return
            await writer.drain()
            await writer.start_tls(context)
            await reader.read(1)

        return self.talking(talk)

    def saying(self, said: bytes, *, ends: bool = True) -> int:
        """One that speaks no TLS: it says this and ends, or waits."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            await writer.drain()
            if not ends:
                await asyncio.sleep(FOREVER)

        return self.talking(talk)

    def dripping(self, said: bytes = b"\x16\x03\x03\x40\x00") -> int:
        """A byte now and then of a record that is never whole."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in said + bytes(2**14):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)

        return self.talking(talk)

    def endless(self, said: bytes) -> int:
        """One that says it again and again."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(said)
                await writer.drain()

        return self.talking(talk)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
