"""Raising many at once: as many calls of notify would have it, in one transaction; and from async code."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction

from notifications.models import Alert, NotificationEvent, raising
from tests import factories
from tests.fixtures import Configure
from tests.scripted import Script, channel

EVENTS = NotificationEvent.objects


def alert(**changed: Any) -> Alert:
    given = {
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "#pki",
        "message": "soon",
        **changed,
    }
    return given  # type: ignore[return-value]


def alerts(count: int, **changed: Any) -> list[Alert]:
    return [alert(message=f"host-{n} expires", **changed) for n in range(count)]


@pytest.fixture(autouse=True)
def _a_channel(configure: Configure) -> None:
    configure(CHANNELS={"Webhook": channel(Script())})


@pytest.mark.django_db
def test_each_is_answered_in_its_place_and_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a statement holds, with and without keys, some of them there before, some twice."""
    monkeypatch.setattr(raising, "MOST_ROWS", 7)
    before, _ = EVENTS.notify(**alert(dedup_key="key-5", message="the first"))
    given = [alert(message=f"host-{n}", certificate_id=f"mc-{n}") for n in range(20)]
    for n, one in enumerate(given):
        if n % 3:
            one["dedup_key"] = f"key-{n}"
    given += [alert(dedup_key="key-4", message="again"), alert(dedup_key="", certificate_id="")]
    raised = EVENTS.notify_many(iter(given))
    assert [created for _, created in raised] == [n not in (5, 20) for n in range(22)]
    assert raised[5][0].pk == before.pk
    assert raised[5][0].message == "the first"
    assert raised[20][0].pk == raised[4][0].pk
    assert EVENTS.count() == 21
    for (event, created), one in zip(raised, given, strict=True):
        stored = EVENTS.get(pk=event.pk)
        if created:
            assert (stored.message, stored.status, stored.ours) == (one["message"], "pending", True)
        assert event.created_at == stored.created_at
    assert (raised[-1][0].dedup_key, raised[-1][0].certificate_id) == (None, None)
    assert EVENTS.notify_many(given[1:3]) == [(raised[1][0], False), (raised[2][0], False)]
    assert EVENTS.notify_many([]) == []


@pytest.mark.django_db
def test_a_fault_in_one_names_it_and_nothing_is_raised() -> None:
    given = [alert(), alert(recipient="x" * 256, type=""), alert(dedup_key="digest:x"), alert(message="a\0b")]
    with pytest.raises(ValidationError) as refused:
        EVENTS.notify_many(given)
    assert set(refused.value.message_dict) == {"1.recipient", "1.type", "2.dedup_key", "3.message"}
    with pytest.raises(ValidationError) as refused:
        EVENTS.notify_many(alerts(10_000, type=""))
    assert len(refused.value.message_dict) == raising.MOST_FAULTS
    with pytest.raises(TypeError, match="alert 0 has no type"):
        EVENTS.notify_many([{"channel": "a", "recipient": "b", "message": "c"}])  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match="alert 1 has 'status', which is none of type"):
        EVENTS.notify_many([alert(), alert(status="sent")])
    assert not EVENTS.exists()


@pytest.mark.django_db
def test_few_statements_and_one_that_wakes() -> None:
    """As many as batches, not as alerts; the wake-up call is the trigger's, which PostgreSQL folds."""
    said: list[str] = []

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        said.append(sql)
        return execute(sql, *rest)

    given = [alert(message=str(n), dedup_key=f"key-{n}" if n % 2 else None) for n in range(2_000)]
    with connection.execute_wrapper(note):
        EVENTS.notify_many(given)
    assert EVENTS.count() == 2_000
    if connection.vendor == "postgresql":
        assert len(said) <= 10, said


@pytest.mark.django_db
def test_large_messages_go_in_statements_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raising, "MOST_CHARACTERS", 1_000)
    events = [NotificationEvent(message="x" * 400) for _ in range(5)]
    assert [len(batch) for batch in raising._batches(events)] == [2, 2, 1]
    assert [len(batch) for batch in raising._batches([NotificationEvent(message="x" * 4_000)])] == [1]
    assert not list(raising._batches([]))


@pytest.mark.django_db
def test_warnings_are_each_ones_and_said_once(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    mail = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "pki@example.com"}
    configure(CHANNELS={"Email": mail})
    given = [alert(channel="Email", recipient=recipient) for recipient in ("a@example.com", "nobody")]
    raised = EVENTS.notify_many([*given, *alerts(50, channel="Pager")])
    assert raised[0][0].warnings == ()
    assert "to this recipient" in raised[1][0].warnings[0]
    assert raised[2][0].warnings == ("the channel Pager has no notifier",)
    assert len(caplog.messages) == 2
    assert "50 notifications are raised, but the channel Pager has no notifier" in caplog.messages


@pytest.mark.django_db(transaction=True)
def test_what_the_callers_transaction_undoes_is_undone() -> None:
    with transaction.atomic():
        EVENTS.notify_many(alerts(3))
        transaction.set_rollback(True)
    assert not EVENTS.exists()


@pytest.mark.django_db(transaction=True)
def test_two_that_raise_the_same_at_once() -> None:
    """Each key once, whatever the order in which they name them, and neither ends the other."""
    start = threading.Barrier(2)
    created: list[int] = []
    faults: list[Exception] = []

    def run(given: list[Alert]) -> None:
        try:
            start.wait(30)
            created.append(sum(new for _, new in EVENTS.notify_many(given)))
        except Exception as error:
            faults.append(error)
        finally:
            connections.close_all()

    for round_ in range(3):
        given = [alert(dedup_key=f"{round_}-{n}") for n in range(300)]
        threads = [threading.Thread(target=run, args=[one]) for one in (given, given[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert faults == []
    assert sum(created) == EVENTS.count() == 900


@pytest.mark.django_db
def test_a_key_whose_first_event_goes_meanwhile_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruned between the two looks."""
    before, _ = EVENTS.notify(**alert(dedup_key="key"))
    insert = raising._inserted

    def then_pruned(batch: Any) -> Any:
        new = insert(batch)
        EVENTS.filter(pk=before.pk).delete()
        return new

    monkeypatch.setattr(raising, "_inserted", then_pruned)
    [(event, created)] = EVENTS.notify_many([alert(dedup_key="key")])
    assert created
    assert [event.pk] == list(EVENTS.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_from_async_code() -> None:
    async def raise_them() -> tuple[bool, list[bool]]:
        _, first = await EVENTS.anotify(**alert(dedup_key="key"))
        rest = await EVENTS.anotify_many([alert(dedup_key="key"), alert()])
        return first, [created for _, created in rest]

    assert async_to_sync(raise_them)() == (True, [False, True])


@pytest.mark.django_db
def test_the_manager_has_them_as_other_querysets_do() -> None:
    dead = factories.dead(dedup_key="key")
    [(event, created)] = EVENTS.pending().notify_many([alert(dedup_key="key")])
    assert (event.pk, created) == (dead.pk, False)
