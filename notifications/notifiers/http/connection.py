"""One HTTP/1.1 connection: a request at a time, and answers that are bounded in size.

llhttp takes the bytes apart (httptools, as in uvicorn); here is only the talk around it. A general
HTTP client takes four times as long for a POST (docs/benchmarks.md), which is most of what a sweep does.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

import httptools

ANSWER_LIMIT = 64 * 1024
HEAD_LIMIT = 64 * 1024


class Reply(NamedTuple):
    """status, headers (names in lower case) and at most ANSWER_LIMIT of the body; complete: that was all."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool


class NotHttp(Exception):
    """The server answered something else."""


class Disconnected(Exception):
    """The server closed the connection before an answer."""


class Connection(asyncio.Protocol):
    """Made by loop.create_connection; `exchange` may be called again when the last one has ended."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpResponseParser(self)
        self.waiter: asyncio.Future[Reply] | None = None
        self.idle_since = 0.0
        self.peer = ""  # its address
        self.keep_alive = False
        self.received = 0  # bytes in answer to one request, what is only informational included
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    @property
    def reusable(self) -> bool:
        return self.keep_alive and self.waiter is None and not self.transport.is_closing()

    def exchange(self, request: bytes) -> asyncio.Future[Reply]:
        """Write the request; the future holds the answer, as far as it came until `late` was called.

        Without a whole head it raises TimeoutError, NotHttp, Disconnected or OSError.
        """
        self._begin()
        self.keep_alive = False
        self.received = 0
        self.waiter = self.loop.create_future()
        self.transport.write(request)
        return self.waiter

    def close(self) -> None:
        """At once; an exchange that still runs ends without an answer."""
        self.transport.abort()

    def late(self) -> None:
        """Time is up."""
        self._end(TimeoutError())

    def _end(self, fault: Exception | None, complete: bool = False) -> None:
        """Hand over the answer, or the fault where no head came. Only whole answers leave the line usable."""
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            return
        if not (complete and self.keep_alive):
            self.close()
        if waiter.done():
            return  # nobody waits any more
        if self.status or fault is None:
            waiter.set_result(Reply(self.status, self.headers, bytes(self.body[:ANSWER_LIMIT]), complete))
        else:
            waiter.set_exception(fault)

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        address, port = (*(transport.get_extra_info("peername") or ("", "")), "")[:2]
        self.peer = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def data_received(self, data: bytes) -> None:
        if self.waiter is None:
            self.close()  # nobody asked
            return
        self.received += len(data)
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._end(NotHttp())
            self.close()  # also where the answer was whole, and what follows it is none
            return
        if self.received > HEAD_LIMIT + ANSWER_LIMIT or len(self.body) >= ANSWER_LIMIT:
            self._end(NotHttp())

    def connection_lost(self, error: Exception | None) -> None:
        """An answer of no stated length ends with its connection."""
        stated = "content-length" in self.headers or "transfer-encoding" in self.headers
        self._end(error or Disconnected(), complete=not stated and error is None)

    # llhttp's calls

    def on_message_begin(self) -> None:
        if self.waiter is None:
            self.close()  # another answer behind the one that was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        self.status = status if status >= 200 or status == 101 else 0  # else the answer is still to come

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        if not self.status:
            self._begin()  # the real answer follows
            return
        self.keep_alive = self.parser.should_keep_alive()
        self._end(None, complete=True)
