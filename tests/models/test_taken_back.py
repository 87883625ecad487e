"""Decisions that are taken back: a dismissal is restored, a requeue undone; each guarded, and on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications.exceptions import TransitionRefused
from notifications.models import BulkOperation, NotificationEvent, Outage, Reading, Requeue
from notifications.operations import bulk
from notifications.operations.filters import died_of
from notifications.operations.verbs import DISMISS, REQUEUE
from notifications.reporting import words
from tests.factories import (
    ago,
    ahead,
    attempt,
    dead,
    failed,
    leased,
    not_delivered,
    pending,
    read,
    sent,
    stranded,
)

pytestmark = pytest.mark.django_db
EVERYTHING = ("status", "retry_count", "next_retry_at", "last_error", "error", "sent_at", "leased_until")


def state(event: NotificationEvent) -> dict[str, Any]:
    event.refresh_from_db()
    return {name: getattr(event, name) for name in EVERYTHING}


def operation(verb: Any = REQUEUE, query: str = "") -> BulkOperation:
    begun = bulk.start(verb, filters=query, requested=9, by="ada", via="cli")
    return bulk.finish(begun)


def undone(what: BulkOperation) -> BulkOperation:
    return bulk.finish(bulk.undo(what, by="bob", via="cli", reason="a mistake"))


# A dismissal


def test_a_dismissal_is_restored_with_all_its_evidence() -> None:
    event = dead()
    before = state(event)
    event.dismiss(by="ada", reason="known")
    assert (event.status, event.dismissed, words.kind(event)) == ("read", True, "dismissed")
    event.restore(by="bob", reason="not known after all")
    assert state(event) == before
    reading = Reading.objects.get()
    assert (reading.by, reading.undone_by, reading.undone_reason) == ("ada", "bob", "not known after all")
    assert not NotificationEvent.objects.dismissed().exists()


def test_what_was_seen_is_no_dismissal_and_is_not_restored() -> None:
    event, theirs = sent(), read()
    event.mark_seen(by="ada")
    for one in (event, theirs):
        assert (one.dismissed, words.kind(one)) == (False, "seen")
        with pytest.raises(TransitionRefused, match="it was seen, not dismissed"):
            one.restore(by="bob")
    assert set(NotificationEvent.objects.seen()) == {event, theirs}


@pytest.mark.parametrize("make", [pending, failed, sent, dead])
def test_only_the_dismissed_are_restored(make: Callable[[], NotificationEvent]) -> None:
    event = make()
    before = state(event)
    with pytest.raises(TransitionRefused):
        event.restore(by="bob")
    assert state(event) == before


def test_it_can_be_dismissed_and_restored_again_and_again() -> None:
    event = dead()
    for _ in range(3):
        event.dismiss(by="ada")
        assert event.dismissed
        event.restore(by="bob")
        assert not event.dismissed
    event.requeue(by="bob")
    event.mark_as_sent(timezone.now())
    event.mark_read(by="ada")
    assert not event.dismissed, "this time it was delivered"


@pytest.mark.parametrize(("verb", "make"), [("dismiss", sent), ("mark_seen", dead), ("dismiss", pending)])
def test_each_of_the_two_words_takes_its_own(verb: str, make: Callable[[], NotificationEvent]) -> None:
    event = make()
    with pytest.raises(TransitionRefused):
        getattr(event, verb)(by="ada")
    event.refresh_from_db()
    assert event.status == make().status


# A requeue


def test_a_requeue_that_nobody_attempted_is_undone_to_what_it_was() -> None:
    rows = [dead(), failed(due_at=ahead(minutes=5)), not_delivered()]
    before = [state(row) for row in rows]
    requeue = operation()
    assert NotificationEvent.objects.pending().count() == 3
    undo = undone(requeue)
    assert [state(row) for row in rows] == before
    assert (undo.kind, undo.changed, undo.undoes_id) == ("undo", 3, requeue.pk)
    assert set(Requeue.objects.values_list("undone_by", "undo")) == {("bob", undo.pk)}
    assert undone(requeue).changed == 0, "once"


def test_what_an_attempt_has_begun_with_stays() -> None:
    rows = [dead() for _ in range(4)]
    requeue = operation()
    delivered, running, tried, waits = rows
    NotificationEvent.objects.get(pk=delivered.pk).mark_as_sent(timezone.now())
    NotificationEvent.objects.filter(pk=running.pk).update(leased_until=ahead(minutes=1))
    attempt(tried, "transient", started_at=ahead(seconds=1))  # a probe, which costs its row nothing
    assert bulk.undoable(requeue).count() == 1
    assert undone(requeue).changed == 1
    status = {row.pk: state(row)["status"] for row in rows}
    assert status == {delivered.pk: "sent", running.pk: "pending", tried.pk: "pending", waits.pk: "dead"}


def test_an_undo_takes_back_its_own_operation_only() -> None:
    event = dead()
    first = operation()
    NotificationEvent.objects.get(pk=event.pk).mark_as_dead("again")
    second = operation()
    assert undone(first).changed == 0
    assert undone(second).changed == 1
    assert state(event)["last_error"] == "again"


def test_nothing_is_left_stranded_by_an_undo() -> None:
    event = stranded()
    requeue = operation()
    assert undone(requeue).changed == 0
    assert state(event)["status"] == "pending"


def test_an_undo_stops_what_it_undoes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "STEP", 2)
    for _ in range(5):
        dead()
    requeue = bulk.step(bulk.start(REQUEUE, requested=5, by="ada", via="cli").pk)
    undo = undone(requeue)
    requeue.refresh_from_db()
    assert (requeue.stopped_by, requeue.changed, undo.changed) == ("bob", 2, 2)
    assert NotificationEvent.objects.dead().count() == 5


def test_dismissals_of_an_operation_are_restored() -> None:
    closed = [dead() for _ in range(3)]
    other = dead()
    other.dismiss(by="ada")
    done = operation(DISMISS, "status=dead")
    assert undone(done).changed == 3
    assert {state(event)["status"] for event in closed} == {"dead"}
    assert state(other)["status"] == "read"


def test_what_was_put_back_died_of_its_outage_again() -> None:
    outage = Outage.objects.create(
        endpoint="webhook", channel="Webhook", reason="server", error="e", since=ago(hours=2), died=1
    )
    event = dead(created_at=ago(hours=3))
    attempt(event, started_at=ago(hours=1))
    requeue = operation()
    undone(requeue)
    assert list(died_of(NotificationEvent.objects.all(), outage)) == [event]


def test_a_row_in_a_workers_hands_is_not_taken_from_it() -> None:
    event = leased(status="pending")
    with_time: datetime = event.leased_until or timezone.now()
    assert NotificationEvent.objects.all().undo_requeue(by="bob").changed == 0
    assert state(event)["leased_until"] == with_time
    assert with_time > timezone.now() - timedelta(minutes=1)
