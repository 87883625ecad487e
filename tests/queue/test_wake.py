"""Workers are called, not left to their clock, when rows are pending again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import transaction

from notifications.database import CHANNEL
from notifications.endpoints import holds
from notifications.engine.listen import connection_parameters
from notifications.models import NotificationEvent
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = NotificationEvent.objects


@pytest.fixture
def worker() -> Iterator[psycopg.Connection[Any]]:
    """Listens as a worker does."""
    with psycopg.connect(**connection_parameters(), autocommit=True) as listening:
        yield listening


def called(worker: psycopg.Connection[Any], act: Callable[[], object]) -> bool:
    """Whether the act calls whoever listens: asked of the server after the commit, not of a clock."""
    worker.execute(f"LISTEN {CHANNEL}")
    act()
    worker.execute("SELECT 1")
    return bool(list(worker.notifies(timeout=0, stop_after=1)))


def pause() -> holds.Hold:
    return holds.pause("Webhook", by="ada", length=timedelta(hours=1), limit=timedelta(days=1))


ACTS: dict[str, Callable[[NotificationEvent], object]] = {
    "requeue one": lambda event: event.requeue(by="ada"),
    "requeue many": lambda event: EVENTS.dead().requeue(by="ada"),
    "pause": lambda _: pause(),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_makes_rows_due_calls_the_workers(worker: psycopg.Connection[Any], act: str) -> None:
    event = factories.dead()
    assert called(worker, lambda: ACTS[act](event))


def test_the_end_of_a_hold_calls_the_workers(worker: psycopg.Connection[Any]) -> None:
    hold = pause()
    assert called(worker, lambda: holds.lift(hold, by="ada"))


def test_a_requeue_that_is_undone_calls_nobody(worker: psycopg.Connection[Any]) -> None:
    factories.dead()

    def undone() -> None:
        with transaction.atomic():
            EVENTS.dead().requeue(by="ada")
            transaction.set_rollback(True)

    assert not called(worker, undone)


def test_a_change_that_makes_nothing_due_calls_nobody(worker: psycopg.Connection[Any]) -> None:
    factories.dead()
    assert not called(worker, lambda: EVENTS.dead().mark_read(by="ada"))
