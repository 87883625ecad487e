"""The connection's own talk of HTTP/1.1: what is sent, what counts as an answer, what may be used again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from notifications.notifiers.http import client as http
from notifications.notifiers.http.client import parsed, written
from tests.notifiers import wire
from tests.notifiers.support import SLACK, WEBHOOK, Result, a_message, attempt, notifier, outcomes
from tests.notifiers.table import OTHER, SENT, SERVER, UNKNOWN, Verdict
from tests.notifiers.wire import Wire, response

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = response(200, b"ok")


def in_turn(server: Wire, count: int) -> list[Result]:
    made = notifier(SLACK, server.url(), timeout=3.0)
    return outcomes([(made, a_message())] * count, in_turn=True)


# What is sent


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("http://h.example", "/", "h.example"),
        ("http://H.Example:8080/a?b=c#part", "/a?b=c", "h.example:8080"),
        ("https://h.example:443/", "/", "h.example:443"),
        ("https://[2001:db8::1]:8443/x", "/x", "[2001:db8::1]:8443"),
        (
            "https://h.example/ä b/%20/%/?q=ü&r=%7B{}",
            "/%C3%A4%20b/%20/%25/?q=%C3%BC&r=%7B%7B%7D",
            "h.example",
        ),
        ('https://h.example/a\\b"<>^`|', "/a%5Cb%22%3C%3E%5E%60%7C", "h.example"),
        ("https://straße.example/", "/", "xn--strae-oqa.example"),
        ("https://①②⑦.⓪.⓪.①/", "/", "127.0.0.1"),
    ],
)
def test_the_request_line(url: str, target: str, host: str) -> None:
    lines = written(parsed(url), b"{}", {"X-Key": "v"}).split(b"\r\n")
    assert lines[0] == f"POST {target} HTTP/1.1".encode()
    assert lines[1] == f"Host: {host}".encode()
    assert lines[-4:] == [b"X-Key: v", b"Content-Length: 2", b"", b"{}"]


def test_a_name_and_password_in_the_url_become_a_header_unless_the_channel_has_its_own() -> None:
    address = parsed("https://us%20er:p%40ss@h.example/")
    assert b"Authorization: Basic dXMgZXI6cEBzcw==\r\n" in written(address, b"", {})
    assert b"Basic" not in written(address, b"", {"Authorization": "GenieKey k"})
    assert b"@" not in written(address, b"", {})


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nB: c", "a\rB: c", "a\x00"])
def test_no_header_begins_another(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        written(parsed("http://h.example/"), b"", {"X-Key": value})


@pytest.mark.parametrize(
    "url",
    ["ftp://h.example/", "http:///a", "http://h.example:0/", "http://a..b/", "http://[fe80::1%25lo]/", "x"],
)
def test_what_no_request_can_be_made_of(url: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parsed(url)


# What counts as an answer


@pytest.mark.parametrize("before", [EARLY, CONTINUE, CONTINUE + EARLY])
def test_what_comes_before_the_answer_is_none(before: bytes) -> None:
    with Wire(wire.answering(before + OK)) as server:
        assert [Verdict.of(result) for result in in_turn(server, 2)] == [SENT, SENT]
        assert server.connections == 1


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nConnection: close"]
)
def test_an_answer_without_a_length_ends_with_its_connection(head: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.request(reader)
        writer.write(f"{head}\r\n\r\nok".encode())

    with Wire(script) as server:
        assert [Verdict.of(result) for result in in_turn(server, 2)] == [SENT, SENT]
        assert server.connections == 2


def test_an_answer_in_chunks_and_in_single_bytes() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nT: u\r\n\r\n"
    )

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await wire.request(reader)
            for byte in chunked:
                writer.write(bytes([byte]))
                await writer.drain()

    with Wire(script) as server:
        assert [Verdict.of(result) for result in in_turn(server, 2)] == [SENT, SENT]
        assert server.connections == 1


def test_a_change_of_protocol_is_no_success() -> None:
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    with Wire(wire.answering(upgrade)) as server:
        assert {Verdict.of(result) for result in in_turn(server, 2)} == {OTHER}
        assert server.connections == 2


def test_a_head_without_end_is_given_up() -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await wire.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while sent < 1 << 30:
            writer.write(b"X-Filler: " + b"x" * 60_000 + b"\r\n")
            await writer.drain()
            sent += 60_000

    with Wire(script) as server:
        assert Verdict.of(attempt(notifier(SLACK, server.url()))) == UNKNOWN
    assert sent < 1 << 26


# What may be used again


@pytest.mark.parametrize("rest", [b"garbage\r\n\r\n", OK, b"\x00" * 100, b"HTTP/1.1 "])
def test_what_follows_an_answer_is_not_the_answer_to_the_next_request(rest: bytes) -> None:
    answers = [OK + rest, response(500)]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.request(reader)
        writer.write(answers.pop(0))
        await writer.drain()
        await reader.read()

    with Wire(script) as server:
        assert [Verdict.of(result) for result in in_turn(server, 2)] == [SENT, SERVER]
        assert server.connections == 2


def test_a_connection_that_has_been_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server may be about to close it, and a request that meets that is an unknown outcome."""
    monkeypatch.setattr(http, "KEEP_ALIVE", -1.0)
    with Wire(wire.answering(OK)) as server:
        assert [Verdict.of(result) for result in in_turn(server, 2)] == [SENT, SENT]
        assert server.connections == 2


def test_idle_connections_are_closed_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.05)

    async def run(server: Wire) -> None:
        made = notifier(WEBHOOK, server.url())
        closed = asyncio.get_running_loop().create_future()
        hung_up.append(lambda: closed.get_loop().call_soon_threadsafe(closed.set_result, None))
        await made.send(a_message())
        await asyncio.wait_for(closed, 10)
        await made.http.close()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.request(reader)
        writer.write(OK)
        assert await reader.read() == b""
        hung_up[0]()

    hung_up: list[Callable[[], object]] = []
    with Wire(script) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("before", [CONTINUE, EARLY, b"HTTP/1.1 199 x\r\nContent-Length: 0\r\n\r\n"])
def test_informational_answers_without_end_are_given_up(before: bytes) -> None:
    """By their bytes: the deadline of this attempt is a minute."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await wire.request(reader)
        while sent < 1 << 30:
            writer.write(before * 512)
            await writer.drain()
            sent += len(before) * 512

    with Wire(script) as server:
        assert Verdict.of(attempt(notifier(SLACK, server.url(), timeout=60))) == UNKNOWN
    assert sent < 20_000_000  # what the sockets on both sides hold, and no more


def test_what_comes_while_nothing_was_asked_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line breaks are no message to the parser, so it would skip them for as long as the line is kept."""
    monkeypatch.setattr(http, "KEEP_ALIVE", 60.0)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.request(reader)
        writer.write(OK)
        await writer.drain()
        try:
            while True:
                writer.write(b"\r\n" * 10_000)
                await writer.drain()
        finally:
            hung_up.set()

    async def run(server: Wire) -> None:
        made = notifier(WEBHOOK, server.url())
        await made.send(a_message())
        assert await asyncio.to_thread(hung_up.wait, 10)
        await made.http.close()

    hung_up = threading.Event()
    with Wire(script) as server:
        asyncio.run(run(server))
