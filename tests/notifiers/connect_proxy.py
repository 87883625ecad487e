"""A company's outgoing proxy on loopback: CONNECT, the absolute form, and a login where one is wanted.

with ConnectProxy(hooks_example=receiver.port) as proxy:
    ...
    assert proxy.asked == ["CONNECT hooks.example:443"]
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.notifiers.wire import Script, Wire

PIECE = 65536
WANTS_A_LOGIN = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
)


class ConnectProxy(Wire):
    """Knows names that nobody else does, each with the port of a server on loopback.

    login   `user:password`; without it, nothing passes
    answer  what it says to every request instead
    pieces  whether its answer to CONNECT comes a byte at a time
    asked   the requests' first words, heads: all of them
    """

    def __init__(
        self,
        names: Mapping[str, int] | None = None,
        *,
        login: str = "",
        answer: bytes = b"",
        pieces: bool = False,
    ) -> None:
        super().__init__(self._talk)
        self.names = dict(names or {})
        self.answer = answer
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._login = login and f"Basic {base64.b64encode(login.encode()).decode()}"
        self._pieces = pieces

    def at(self, login: str = "") -> str:
        """Its URL."""
        return f"http://{login}{'@' if login else ''}127.0.0.1:{self.port}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
            method, target, _ = head.split("\r\n")[0].split(" ")
            self.asked.append(f"{method} {target}")
            self.heads.append(head)
            if refusal := self.answer or self._unknown(head):
                writer.write(refusal)
                await writer.drain()
                if method == "POST":
                    await reader.readexactly(length(head))
                    continue
                return
            if method == "CONNECT":
                await self._tunnel(target, reader, writer)
                return
            await self._pass_on(target, head, reader, writer)

    def _unknown(self, head: str) -> bytes:
        if not self._login or f"\r\nProxy-Authorization: {self._login}\r\n" in head:
            return b""
        return WANTS_A_LOGIN

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_connection("127.0.0.1", self._port(f"//{target}"))
        said = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n"
        for piece in [said[n : n + 1] for n in range(len(said))] if self._pieces else [said]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.gather(flow(reader, theirs[1]), flow(theirs[0], writer))

    async def _pass_on(
        self, target: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A request in clear: in the form of the origin, without what was for the proxy."""
        parts = urlsplit(target)
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port(target))
        lines = [line for line in head.split("\r\n")[1:] if not line.startswith("Proxy-")]
        first = f"POST {parts.path}{'?' if parts.query else ''}{parts.query} HTTP/1.1"
        ours.write("\r\n".join([first, "Connection: close", *lines]).encode())
        ours.write(await reader.readexactly(length(head)))
        await flow(theirs, writer, close=False)
        ours.close()

    def _port(self, url: str) -> int:
        parts = urlsplit(url)
        return self.names[parts.hostname or ""] or parts.port or 80


def length(head: str) -> int:
    return next(
        int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")
    )


async def flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, close: bool = True) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    if close:
        writer.close()


def answering(data: bytes) -> Script:
    """Says this to whatever is asked, and waits."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        await reader.read()

    return script
