"""What receivers are told, when, and that whatever one does harms nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications import delivery, signals
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import NotificationEvent, Status
from tests import factories
from tests.fixtures import Configure
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects


class Told:
    """A receiver that notes what it is told, and by which thread."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.threads: set[str] = set()

    def __call__(self, sender: Any, signal: Any, **arguments: Any) -> None:
        assert not connection.in_atomic_block
        self.all.append(arguments)
        self.threads.add(threading.current_thread().name)

    @property
    def ids(self) -> list[str]:
        return sorted(arguments["event"].pk for arguments in self.all)


@pytest.fixture
def told() -> Iterator[dict[str, Told]]:
    receivers = {name: Told() for name in ("delivered", "died", "held")}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    yield receivers
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


def test_a_sweep_tells_of_what_it_delivered_and_of_what_died(script: Script, told: dict[str, Told]) -> None:
    good, bad, later = factories.pending(), factories.pending(), factories.pending()
    script.answers = {bad.pk: PermanentError("no"), later.pk: TransientError("not now")}
    delivery.send_pending()
    assert told["delivered"].ids == [good.pk]
    assert told["died"].ids == [bad.pk]
    assert [told[name].all[0]["event"].status for name in ("delivered", "died")] == ["sent", "dead"]
    assert told["delivered"].threads == told["died"].threads == {"signals"}
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


def test_what_had_no_notifier_was_not_delivered(configure: Configure, told: dict[str, Told]) -> None:
    configure(CHANNELS={})
    event = factories.pending(created_at=factories.ago(minutes=11))
    delivery.send_pending()
    event.refresh_from_db()
    assert event.status == Status.SENT
    assert told["delivered"].all == []


def test_a_verb_tells_at_once_where_it_is_committed(told: dict[str, Told]) -> None:
    sent, dead = factories.pending(), factories.pending()
    with transaction.atomic():
        sent.mark_as_sent(timezone.now())
        dead.mark_as_dead("a person said so")
        assert told["delivered"].all == told["died"].all == []
    assert (told["delivered"].ids, told["died"].ids) == ([sent.pk], [dead.pk])
    assert told["died"].threads == {threading.current_thread().name}


def test_of_what_is_undone_nobody_is_told(told: dict[str, Told]) -> None:
    event = factories.pending()
    with transaction.atomic():
        event.mark_as_dead("no")
        transaction.set_rollback(True)
    assert told["died"].all == []


def test_an_endpoint_that_is_held_once(script: Script, told: dict[str, Told]) -> None:
    """Its next holds, when a probe failed, are no news; those after it delivered again are."""
    script.otherwise = TransientError("HTTP 401: bad token", reason=Reason.AUTH)
    factories.pending()
    delivery.send_pending()
    [news] = told["held"].all
    assert (news["channel"], news["recipient"]) == ("Webhook", "")
    assert "bad token" in news["error"]
    assert isinstance(news["until"], datetime)
    assert news["until"] > timezone.now()
    run_out()
    delivery.send_pending()
    assert len(told["held"].all) == 1
    run_out()
    script.otherwise = script.__class__().otherwise
    delivery.send_pending()
    script.otherwise = TransientError("HTTP 401: bad token", reason=Reason.AUTH)
    factories.pending()
    delivery.send_pending()
    assert len(told["held"].all) == 2


def run_out() -> None:
    from notifications.models import Hold

    assert Hold.objects.update(until=factories.ago(seconds=1)) == 1
    EVENTS.filter(status=Status.FAILED).update(status=Status.PENDING, next_retry_at=None)


def test_a_receiver_that_fails_harms_nothing(
    script: Script, told: dict[str, Told], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither what is recorded, nor what the others are told."""

    def fails(**_: Any) -> None:
        raise ZeroDivisionError("a receiver's own fault")

    def exits(**_: Any) -> None:
        raise SystemExit

    events = [factories.pending() for _ in range(3)]
    signals.delivered.connect(fails)
    signals.died.connect(exits)
    script.answers = {events[0].pk: PermanentError("no")}
    try:
        delivery.send_pending()
    finally:
        signals.delivered.disconnect(fails)
        signals.died.disconnect(exits)
    assert [EVENTS.get(pk=event.pk).status for event in events] == ["dead", "sent", "sent"]
    assert told["delivered"].ids == sorted(event.pk for event in events[1:])
    assert "a receiver's own fault" in caplog.text
    assert "SystemExit" in caplog.text


def test_a_receiver_that_hangs_stops_nothing(
    script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All is recorded while it hangs, and the sweep ends without it."""
    monkeypatch.setattr(signals, "PATIENCE", 0.1)
    let_go, returned = threading.Event(), threading.Event()

    def hangs(**_: Any) -> None:
        let_go.wait(60)
        returned.set()

    events = [factories.pending() for _ in range(450)]  # more than one batch
    signals.delivered.connect(hangs)
    try:
        assert delivery.send_pending().sent == len(events)
        assert EVENTS.count_by_status("sent") == len(events)
        assert "left alone" in caplog.text
        [hung] = [thread for thread in threading.enumerate() if thread.name == "signals"]
    finally:
        signals.delivered.disconnect(hangs)
        let_go.set()
    hung.join(60)
    assert returned.is_set()
    assert not hung.is_alive()


def test_more_than_receivers_can_take_is_dropped_and_said(
    script: Script, told: dict[str, Told], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    aside = signals.Aside()
    aside._jobs.maxsize = 2
    begun, let_go = threading.Event(), threading.Event()
    aside.begin()
    assert aside.add(lambda: (begun.set(), let_go.wait(60))[1] and None)  # type: ignore[func-returns-value]
    assert begun.wait(60)
    done: list[int] = []
    for n in range(5):
        assert aside.add(lambda n=n: done.append(n))  # type: ignore[misc]
    let_go.set()
    aside.end()
    assert done == [0, 1]
    assert "not told of 3 transactions" in caplog.text


def test_without_receivers_no_statement_more(script: Script, django_assert_num_queries: Any) -> None:
    """And no thread."""
    with_receivers, without = [], []

    def recorded(statements: list[str], signal_of: Any = None) -> None:
        def note(execute: Any, sql: str, *rest: Any) -> Any:
            statements.append(sql)
            return execute(sql, *rest)

        event = factories.pending()
        if signal_of:
            signals.died.connect(signal_of)
        try:
            with connection.execute_wrapper(note):
                event.mark_as_dead("no")
        finally:
            signals.died.disconnect(signal_of)

    recorded([])  # what is asked only once
    recorded(without)
    recorded(with_receivers, Told())
    assert len(with_receivers) == len(without) + 1
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]
