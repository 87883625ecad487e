"""A mail server whose every reply a test can choose, by the stage of the conversation."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from tests.notifiers.wire import Wire, for_ever

REPLIES = {
    "greeting": "220 mail.test ESMTP",
    "ehlo": "250-mail.test\r\n250 AUTH PLAIN",
    "auth": "235 welcome",
    "mail": "250 ok",
    "rcpt": "250 ok",
    "data": "354 go on",
    "dot": "250 taken",
    "rset": "250 ok",
    "noop": "250 ok",
    "quit": "221 bye",
}


class MailWire(Wire):
    """Replies as REPLIES says unless `replies` names another one for the stage, or what to do instead:

    hang, close, garbage (no SMTP), endless (a line without end), drip (a byte at a time), 250-flood
    (lines without end; `flooded` counts their bytes).

    most  connections at once, and `each`: mails on one of them; what is more is told so
    """

    most, each = 1_000, 1_000

    def __init__(self, replies: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._talk, tls)
        self.replies = {**REPLIES, **(replies or {})}
        self.once: dict[str, str] = {}  # for the next time only
        self.heard: list[str] = []
        self.mails: list[bytes] = []
        self.flooded = 0
        self.open = 0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._converse(reader, writer)
        finally:
            self.open -= 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mails = 0
        if self.open > self.most:
            self.once["greeting"] = "421 Too many concurrent SMTP connections"
        if not await self._reply("greeting", writer):
            return
        while line := await reader.readline():
            verb = line[:4].decode("ascii", "replace").strip().lower()
            self.heard.append(verb)
            mails += verb == "mail"
            if verb == "mail" and mails > self.each:
                self.once["mail"] = "451 4.3.0 Mails per session limit exceeded"
            if not await self._reply("ehlo" if verb == "helo" else verb, writer) or verb == "quit":
                return
            if verb == "data" and self.replies["data"].startswith("354"):
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                if not await self._reply("dot", writer):
                    return

    async def _reply(self, stage: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the conversation goes on."""
        reply = self.once.pop(stage, self.replies[stage])
        if reply == "close":
            return False
        if reply == "hang":
            await for_ever()
        if reply == "garbage":
            reply = "\x00\xfe what is this"
        if reply == "endless":
            reply = "2" * 20_000
        if reply.endswith("-flood"):
            await self._flood(reply[:4].encode() + b"x" * 900 + b"\r\n", writer)
        if reply == "drip":
            for _ in range(100_000):
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.write(reply.encode("latin-1") + b"\r\n")
        await writer.drain()
        return not reply.startswith("421")

    async def _flood(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        """One gigabyte, as fast as it is read."""
        while self.flooded < 1 << 30:
            writer.write(line * 64)
            await writer.drain()
            self.flooded += len(line) * 64
