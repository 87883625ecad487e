"""A network that fails on command, between a worker and its endpoints or its database.

with Proxy(receiver.port) as proxy:
    proxy.fault = BLACK_HOLE
    ...
    proxy.fault = HEALTHY
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.receiver import Background

PIECE = 65536
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


@dataclass(frozen=True)
class Fault:
    """What happens to the data on its way.

    latency  seconds that each piece is held up
    reset    the connection is reset when a piece comes
    silent   everything is taken and nothing passed on, by this connection for ever: a firewall forgot it
    half     of an answer half is passed on, then the connection is closed
    """

    latency: float = 0.0
    reset: bool = False
    silent: bool = False
    half: bool = False


HEALTHY = Fault()
RESETS = Fault(reset=True)
BLACK_HOLE = Fault(silent=True)
HALF_CUT = Fault(half=True)


class Broken(Exception):
    """The fault ends this connection."""


class Link:
    """One connection to the proxy and its counterpart behind it."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self.ends = ends
        self.silent = False

    def end(self, *, reset: bool = False) -> None:
        for writer in self.ends:
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                writer.transport.abort()
            else:
                writer.close()


class Proxy(Background):
    """Passes everything on to a port on loopback or to a Unix socket, as `fault` allows."""

    def __init__(self, target: int | Path) -> None:
        super().__init__()
        self.target = target
        self.fault = HEALTHY

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, asked: asyncio.StreamReader, asker: asyncio.StreamWriter) -> None:
        link = Link(asker)
        try:
            answered, answerer = await self._connect()
            link = Link(asker, answerer)
            await asyncio.gather(
                self._pass_on(asked, answerer, link), self._pass_on(answered, asker, link, answers=True)
            )
        except (Broken, OSError):
            link.end(reset=self.fault.reset)
        finally:
            link.end()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, Path):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: Link, answers: bool = False
    ) -> None:
        while piece := await source.read(PIECE):
            fault = self.fault
            link.silent |= fault.silent
            if link.silent:
                continue
            if fault.reset:
                raise Broken
            await asyncio.sleep(fault.latency)
            if fault.half and answers:
                sink.write(piece[: len(piece) // 2])
                raise Broken
            sink.write(piece)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()
