"""One connection on an event loop, without what a stream has for those that last."""

from __future__ import annotations

import asyncio
import socket

from .facts import Unreadable

CHUNK = 64 * 1024
LONGEST_LINE = 64 * 1024


class Ended(OSError):
    """The server ended the connection."""


class Wire:
    """A connected socket that does not block; whoever has it closes it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._held = b""

    async def send(self, data: bytes) -> None:
        if data:
            await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        """What came, a byte at least. Raises Ended, or OSError."""
        if self._held:
            held, self._held = self._held, b""
            return held
        data = await self._loop.sock_recv(self._socket, CHUNK)
        if not data:
            raise Ended
        return data

    async def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._held = b"".join((self._held, await self._more()))
        found, self._held = self._held[:count], self._held[count:]
        return found

    async def line(self) -> str:
        """Without its end. Raises Unreadable where it has none."""
        while b"\n" not in self._held:
            if len(self._held) > LONGEST_LINE:
                raise Unreadable("the server's line does not end")
            self._held = b"".join((self._held, await self._more()))
        line, _, self._held = self._held.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def _more(self) -> bytes:
        held, self._held = self._held, b""
        more = await self.receive()
        self._held = held
        return more
