from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from tests.engine.delivering import AT_ONCE, Beside
from tests.receiver import HELD, HttpReceiver


@pytest.fixture
def slow(webhook: HttpReceiver) -> HttpReceiver:
    """It answers when it is let go."""
    webhook.always(HELD)
    return webhook


@pytest.fixture
def beside(slow: HttpReceiver) -> Iterator[Beside]:
    """Do something while this thread delivers; then the receiver answers."""

    def do(act: Callable[[], object]) -> None:
        try:
            slow.wait_for(AT_ONCE)
            act()
        finally:
            slow.let_go()
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        yield lambda act: thread.submit(do, act)
