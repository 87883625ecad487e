"""Names looked up once, and sockets opened to the first address that takes us."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from notifications.notifiers.http import network
from notifications.notifiers.http.network import (
    AddressInfo,
    BlockedHost,
    Dialler,
    Guard,
    Resolver,
    address_of,
    look_up,
)

PATIENCE = 5.0  # seconds: what hangs for so long hangs
Answer = list[AddressInfo] | OSError


def info(host: str, port: int) -> AddressInfo:
    return AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


class Book(Resolver):
    """Answers what a test says, in turn and the last for ever, once it may."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.begun, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()
        self.closed = False

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        self.asked.append((host, port))
        self.begun.set()
        await self.may.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


@contextmanager
def listening(backlog: int = 50) -> Iterator[int]:
    """The port of a server on loopback that accepts nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """The port of a server that has no room for one more connection: dialling it hangs."""
    with listening(backlog=0) as port:
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await work()

    return asyncio.run(bounded())


def dialler(book: Resolver) -> Dialler:
    return Dialler(Guard(), book)


async def dialled(using: Dialler, host: str = "a.example", port: int = 80) -> int:
    """The port that was reached."""
    with await using.dial(host, port, guarded=False) as connection:
        found: int = connection.getpeername()[1]
        return found


def test_a_name_is_looked_up_once_for_all_that_ask_at_once_and_soon_after() -> None:
    with listening() as port:

        async def work() -> list[tuple[str, int]]:
            book = Book([info("127.0.0.1", port)])
            one = dialler(book)
            await asyncio.gather(*(dialled(one) for _ in range(5)))
            await dialled(one)
            await dialled(one, port=81)
            await dialled(one, host="b.example")
            return book.asked

        assert run(work) == [("a.example", 80), ("a.example", 81), ("b.example", 80)]


def test_what_is_not_fresh_any_more_is_looked_up_again_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "FRESH", -1.0)
    with listening() as port:

        async def work() -> None:
            book = Book([info("127.0.0.1", port)])
            one = dialler(book)
            for host in ("a.example", "a.example", "b.example"):
                await dialled(one, host)
            assert [host for host, _ in book.asked] == ["a.example", "a.example", "b.example"]
            assert list(one._answers) == [("b.example", 80)]

        run(work)


def test_a_name_that_is_fresh_is_kept_while_another_is_looked_up() -> None:
    with listening() as port:

        async def work() -> None:
            book = Book([info("127.0.0.1", port)])
            one = dialler(book)
            for host in ("a.example", "b.example", "a.example"):
                await dialled(one, host)
            assert [host for host, _ in book.asked] == ["a.example", "b.example"]

        run(work)


def test_a_failure_is_not_kept() -> None:
    with listening() as port:

        async def work() -> int:
            one = dialler(Book(socket.gaierror("no such name"), [info("127.0.0.1", port)]))
            with pytest.raises(socket.gaierror, match="no such name"):
                await dialled(one)
            return await dialled(one)

        assert run(work) == port


def test_one_that_gives_up_waiting_takes_the_answer_from_nobody() -> None:
    with listening() as port:

        async def work() -> int:
            book = Book([info("127.0.0.1", port)])
            book.may.clear()
            one = dialler(book)
            first, second = (asyncio.ensure_future(dialled(one)) for _ in range(2))
            await book.begun.wait()
            first.cancel()
            await asyncio.sleep(0)
            book.may.set()
            return await second

        assert run(work) == port


def test_an_address_that_hangs_gives_way_to_the_next() -> None:
    with full() as hanging, listening() as port:

        async def work() -> int:
            return await dialled(dialler(Book([info("127.0.0.1", hanging), info("127.0.0.1", port)])))

        assert run(work) == port


def test_only_what_the_guard_permits_is_dialled_where_the_recipient_chose_the_host() -> None:
    async def work() -> None:
        one = dialler(Book([info("127.0.0.1", 9), info("10.0.0.1", 9)]))
        with pytest.raises(BlockedHost, match=r"^a\.example$"):
            await one.dial("a.example", 80, guarded=True)

    run(work)


def test_an_address_needs_no_looking_up() -> None:
    with listening() as port:

        async def work() -> None:
            book = Book(OSError("not to be asked"))
            assert await dialled(dialler(book), "127.0.0.1", port) == port
            assert book.asked == []

        run(work)


# The end


def test_the_end_waits_for_no_name_and_lets_the_resolver_go() -> None:
    async def work() -> None:
        book = Book([info("127.0.0.1", 9)])
        book.may.clear()
        one = dialler(book)
        waiting = asyncio.ensure_future(dialled(one))
        await book.begun.wait()
        await one.close()
        assert book.closed
        assert not [task for task in asyncio.all_tasks() if "_resolve" in repr(task.get_coro())]
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work)


def test_after_its_end_it_begins_anew_in_another_loop() -> None:
    """As the task engine's workers use one notifier in one loop after the other."""
    with listening() as port:
        one = Dialler(Guard())

        async def work() -> int:
            found = await dialled(one, "localhost", port)
            await one.close()
            return found

        assert [run(work) for _ in range(2)] == [port, port]
        assert one._answers == {}

        async def close() -> None:
            await one.close()

        run(close)


def test_a_resolver_that_ends_waits_for_no_name_and_begins_with_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "RESOLVER_THREADS", 1)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    asked: list[tuple[str, int]] = []

    def slow(host: str, port: int) -> list[AddressInfo]:
        asked.append((host, port))
        begun.set()
        go_on.wait(PATIENCE / 2)
        ended.set()
        return []

    monkeypatch.setattr(network, "look_up", slow)

    async def work() -> None:
        resolver = Resolver()
        asking = [asyncio.ensure_future(resolver.resolve(host, 80)) for host in ("a", "b")]
        await asyncio.to_thread(begun.wait, PATIENCE)
        resolver.close()
        assert not ended.is_set()
        go_on.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert found[0] == []
        assert isinstance(found[1], asyncio.CancelledError)

    run(work)
    assert asked == [("a", 80)]


# Addresses


def test_a_name_is_looked_up_for_streams_only_and_each_address_is_one() -> None:
    found = look_up("127.0.0.1", 80)
    assert [(one.type, one.sockaddr) for one in found] == [(socket.SOCK_STREAM, ("127.0.0.1", 80))]
    with pytest.raises(socket.gaierror):
        look_up("localhost", 80, socket.AI_NUMERICHOST)


@pytest.mark.parametrize(
    ("sockaddr", "address"),
    [(("10.0.0.1", 80), "10.0.0.1"), (("fe80::1%eth0", 80, 0, 2), "fe80::1"), (("::1", 80, 0, 0), "::1")],
)
def test_the_address_of_an_answer(sockaddr: tuple[Any, ...], address: str) -> None:
    assert str(address_of(AddressInfo(socket.AF_INET6, socket.SOCK_STREAM, 6, "", sockaddr))) == address
