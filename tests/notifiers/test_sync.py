"""Notifiers whose library blocks: threads, deadlines, and Apprise as the one that ships."""

from __future__ import annotations

import asyncio
import builtins
import threading
import time
from typing import Any

import pytest

from notifications.exceptions import TransientError, UnknownOutcome
from notifications.notifiers.base import Delivered, Message, Notifier, SyncNotifier
from notifications.notifiers.http.client import HttpClient
from notifications.notifiers.loading import load
from tests.notifiers import wire
from tests.notifiers.support import TOKEN, N, a_message, attempt, attempt_all
from tests.notifiers.table import CONFIG, OTHER, SENT, Verdict
from tests.notifiers.wire import Wire, response
from tests.receiver import HttpReceiver

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr'", "ignore:'cgi'")


class Blocking(SyncNotifier):
    """Blocks until it is let go."""

    threads = 2

    def __init__(self, timeout: float) -> None:
        super().__init__({}, HttpClient(timeout=timeout))
        self.gate = threading.Event()
        self.begun: list[str] = []

    def deliver(self, message: Message) -> Delivered:
        self.begun.append(message.id)
        self.gate.wait(10)
        return Delivered(detail=message.id)


def test_threads_do_not_block_the_loop() -> None:
    made = Blocking(timeout=5)

    async def run() -> list[Delivered]:
        sends = [asyncio.create_task(made.send(a_message(id=f"n-{n}"))) for n in range(6)]
        await asyncio.sleep(0)
        made.gate.set()
        return await asyncio.gather(*sends)

    assert {sent.detail for sent in asyncio.run(run())} == {f"n-{n}" for n in range(6)}


def test_what_began_may_have_arrived_and_what_did_not_begin_has_not() -> None:
    made = Blocking(timeout=0.2)
    began = time.monotonic()
    results = attempt_all(made, [a_message(id=f"n-{n}") for n in range(5)])
    assert time.monotonic() - began < 2
    made.gate.set()
    kinds = {f"n-{n}": type(result) for n, result in enumerate(results)}
    assert {name for name, kind in kinds.items() if kind is UnknownOutcome} == set(made.begun)
    assert sum(kind is TransientError for kind in kinds.values()) == 3


def test_closing_does_not_wait_for_a_thread() -> None:
    made = Blocking(timeout=30)

    async def run() -> None:
        task = asyncio.create_task(made.send(a_message()))
        async with asyncio.timeout(5):
            while not made.begun:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        began = time.monotonic()
        await made.close()
        assert time.monotonic() - began < 1

    asyncio.run(run())
    made.gate.set()


def test_a_fault_of_its_own_comes_through() -> None:
    class Faulty(SyncNotifier):
        def deliver(self, message: Message) -> Delivered:
            raise TimeoutError("its own, not the deadline's")

    made = Faulty({}, HttpClient(timeout=5))
    with pytest.raises(TimeoutError, match="its own"):
        attempt(made)


def apprise(url: str, timeout: float = 10) -> Notifier:
    return load("Apprise", {"NOTIFIER": f"{N}.apprise.AppriseNotifier", "URL": url}, timeout)


def as_apprise(url: str) -> str:
    return url.replace("http://", "json://")


def test_apprise_says_everything(receiver: HttpReceiver) -> None:
    message = a_message()
    assert Verdict.of(attempt(apprise(as_apprise(receiver.url())), message)) == SENT
    sent = receiver.requests[0].json
    text = sent["title"] + sent["message"]
    for part in ("Expiry warning", message.certificate_id, message.message, message.url):
        assert part in text


def test_apprise_at_once_from_many_threads(receiver: HttpReceiver) -> None:
    results = attempt_all(apprise(as_apprise(receiver.url())), [a_message(id=f"n-{n}") for n in range(20)])
    assert {Verdict.of(result) for result in results} == {SENT}
    assert len(receiver.requests) == 20


def test_apprise_gives_no_verdict_but_its_words() -> None:
    with Wire(wire.answering(response(500, b"no"))) as server:
        error = attempt(apprise(as_apprise(server.url(f"/{TOKEN}"))))
    assert Verdict.of(error) == OTHER
    assert TOKEN not in str(error)


def test_apprise_follows_no_redirect(receiver: HttpReceiver) -> None:
    with Wire(wire.answering(response(307, b"", f"Location: {receiver.url()}"))) as server:
        assert Verdict.of(attempt(apprise(as_apprise(server.url())))) == OTHER
    assert receiver.requests == []


@pytest.mark.parametrize("url", ["", "nonsense", "nobody-knows://this"])
def test_apprise_without_a_service(url: str) -> None:
    assert Verdict.of(attempt(apprise(url))) == CONFIG


def test_apprise_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "apprise":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    error = attempt(apprise("json://localhost"))
    assert Verdict.of(error) == CONFIG
    assert "pip install" in str(error)


def test_a_recipient_never_says_where_apprise_connects(receiver: HttpReceiver) -> None:
    other = as_apprise(receiver.url("/evil"))
    attempt(apprise(as_apprise(receiver.url("/good"))), a_message(recipient=other))
    assert [request.path for request in receiver.requests] == ["/good"]
