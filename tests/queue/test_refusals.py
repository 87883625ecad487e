"""What the database refuses of one row, what others lock, and a worker that stops in the middle: none of it
keeps another row from being recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from notifications import conf, database, delivery
from notifications.database import AWAY, bound_session, kind_of
from notifications.deaths.follow import follow
from notifications.engine import outcome as verdict
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import (
    Death,
    DeliveryAttempt,
    Escalation,
    NotificationEvent,
    Refusal,
    Status,
    Tally,
    tallies,
)
from notifications.notifiers.base import Delivered
from notifications.queue.claim import Claimed, claim
from notifications.queue.reap import _set_aside, bury, reap, schedule_stranded
from notifications.queue.record import Recorded, record
from notifications.queue.release import release, renew
from tests import factories
from tests.engine.support import hand_over
from tests.fixtures import Configure
from tests.processes import PATIENCE, eventually
from tests.scripted import Script, channel

EVENTS = NotificationEvent.objects
LEASE = timedelta(minutes=2)
NO_PAUSE: tuple[float, ...] = ()

pytestmark = pytest.mark.django_db(transaction=True)


def claimed(count: int) -> list[Claimed]:
    for n in range(count):
        factories.pending(id=f"row-{n}")
    return claim(EVENTS.pending().order_by("created_at"), count, now=timezone.now(), lease=LEASE)


def recorded(events: list[Claimed], answer: Any = None, now: datetime | None = None) -> Recorded:
    now = now or timezone.now()
    outcomes = [verdict.decide(e, answer or Delivered(200), conf.Conf(), now, 5) for e in events]
    return record(outcomes, now=now, worker="w:1", pauses=NO_PAUSE)


def refuse(condition: str, state: str = "23514") -> None:
    """A trigger of the site's own that refuses to change some rows, by this SQLSTATE."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION refuse_some() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'not this one — 日本'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse_some BEFORE UPDATE ON notification_events"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse_some()"
        )


@pytest.fixture(autouse=True)
def _no_trigger() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS refuse_some ON notification_events")
        cursor.execute("DROP FUNCTION IF EXISTS refuse_some()")


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """Another program's session, in the middle of a transaction; who waits for it here fails soon."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
    with psycopg.connect(connection.connection.info.dsn) as other:
        yield other
        other.rollback()
    connection.close()


def hold(other: psycopg.Connection[Any], pk: str) -> None:
    other.execute("SELECT 1 FROM notification_events WHERE id = %s FOR UPDATE", [pk])


def test_one_refused_row_is_dead_with_a_reason_and_the_others_are_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = claimed(20)
    refuse("NEW.id = 'row-7' AND NEW.status = 'failed'")
    caplog.set_level(logging.ERROR)
    answer = recorded(events, TransientError("down", reason=Reason.SERVER, status=503))
    assert answer.set_aside == {"row-7"}
    assert len(answer.written) == 19
    assert EVENTS.failed().count() == 19
    row = EVENTS.get(pk="row-7")
    assert (row.status, row.leased_until) == (Status.DEAD, None)
    assert row.last_error.isascii()
    assert "refused" in row.last_error
    assert "not this one" in row.last_error
    assert row.next_retry_at is None
    attempt = row.deliveryattempts.get()
    assert (attempt.error, attempt.reason, attempt.status_code) == (row.last_error, "", None)
    assert attempt.worker == "w:1"
    assert [r.levelname for r in caplog.records if r.name != "notifications.deaths"] == ["ERROR"]


def test_a_delivery_stays_one_where_only_its_details_are_refused() -> None:
    events = claimed(3)
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE notification_attempts ADD CONSTRAINT odd CHECK (status_code IS DISTINCT FROM 202)"
        )
    try:
        assert recorded(events, Delivered(202)).written == {e.id for e in events}
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE notification_attempts DROP CONSTRAINT odd")
    assert EVENTS.filter(status="sent", error=None).count() == 3
    found = DeliveryAttempt.objects.values_list("status_code", "error", "outcome", "worker")
    assert set(found) == {(None, None, "sent", "w:1")}


def test_a_delivery_that_cannot_be_written_is_dead_and_says_that_it_was_one() -> None:
    """In the row's own spelling: it was the settings' one, perhaps, that the database did not take."""
    [event] = claimed(1)
    refuse("NEW.status = 'sent'")
    now = timezone.now()
    delivered = verdict.decide(event, Delivered(200), conf.Conf(), now, 5)._replace(channel="WebHook")
    answer = record([delivered], now=now, worker="w:1", pauses=NO_PAUSE)
    assert answer == Recorded(set(), set(), {event.id})
    row = EVENTS.get()
    assert (row.status, row.sent_at) == ("dead", None)
    assert str(row.last_error).startswith("it was delivered, but the database refused to record")
    assert row.deliveryattempts.get().channel == "Webhook"


def test_what_takes_no_change_at_all_is_left_alone_counted_and_never_claimed_again() -> None:
    events = claimed(3)
    refuse("OLD.id = 'row-1' AND NEW.leased_until IS NULL")
    assert recorded(events).set_aside == {"row-1"}
    assert EVENTS.refused().get().pk == "row-1"
    refusal = Refusal.objects.get()
    assert refusal.verb == "record"
    assert "not this one" in refusal.error
    later = timezone.now() + 2 * LEASE
    assert reap(EVENTS.all(), now=later, max_attempts=5, limit=10) == (0, 0)
    assert claim(EVENTS.pending(), 10, now=later, lease=LEASE) == []
    assert Refusal.objects.count() == 1


def test_what_was_refused_is_tried_again_when_what_refused_it_may_be_gone() -> None:
    claimed(1)
    refuse("NEW.leased_until IS NULL")
    now = timezone.now() + LEASE
    for hours, refusals in ((0, 1), (0.9, 1), (1.1, 1)):  # one on record, however often
        assert reap(EVENTS.all(), now=now + timedelta(hours=hours), max_attempts=5, limit=10) == (0, 0)
        assert Refusal.objects.count() == refusals
    assert Refusal.objects.get().at > now
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse_some ON notification_events")
    assert reap(EVENTS.all(), now=now + timedelta(hours=2.2), max_attempts=5, limit=10) == (1, 0)
    assert EVENTS.failed().count() == 1
    assert EVENTS.refused().exists(), "that it was taken is known when nobody has refused it again"
    reap(EVENTS.all(), now=now + timedelta(hours=4), max_attempts=5, limit=10)
    assert not EVENTS.refused().exists()


@pytest.mark.parametrize("never", ["infinity", "20000-01-01 00:00:00+00", "9999-12-31 23:59:59+00"])
def test_what_waits_for_a_time_that_never_comes_is_due_now(never: str, script: Script) -> None:
    events = [factories.failed() for _ in range(3)]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notification_events SET next_retry_at = %s", [never])
    assert delivery.retry_failed().sent == 3
    assert sorted(script.ids) == sorted(event.pk for event in events)


def test_what_was_raised_at_a_time_that_never_comes_is_left_to_nobody_for_ever(script: Script) -> None:
    factories.pending(channel="Nowhere")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notification_events SET created_at = 'infinity'")
    assert delivery.send_pending().no_notifier == 1


def test_an_operators_requeue_begins_anew() -> None:
    event = factories.lost()
    Refusal.objects.create(notification=event, verb="reap", at=timezone.now(), error="refused")
    assert reap(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=10) == (0, 0)
    assert EVENTS.all().requeue(by="op").changed == 1
    assert not EVENTS.all().refused().exists()


def prepared(verb: str) -> tuple[list[str], Callable[..., Any]]:
    """(five rows that the verb changes, the verb)."""
    now = timezone.now()
    limits = {"now": now, "limit": 10}
    if verb in ("release", "record"):
        events = claimed(5)
        outcomes = [verdict.decide(e, Delivered(200), conf.Conf(), now, 5) for e in events]
        act = (
            partial(release, events, due_at=now)
            if verb == "release"
            else partial(record, outcomes, now=now, worker="w:1")
        )
        return [event.id for event in events], act
    made: dict[str, tuple[Callable[[], NotificationEvent], Callable[..., Any]]] = {
        "reap": (factories.lost, partial(reap, EVENTS.all(), max_attempts=5, **limits)),
        "unlease": (
            lambda: factories.leased(until=datetime(9999, 1, 1, tzinfo=UTC), next_retry_at=None),
            partial(reap, EVENTS.all(), max_attempts=5, **limits),
        ),
        "bury": (
            lambda: factories.failed(retry_count=5),
            partial(bury, EVENTS.all(), max_attempts=5, **limits),
        ),
        "schedule": (factories.stranded, partial(schedule_stranded, EVENTS.all(), **limits)),
        "schedule now": (
            lambda: factories.failed(due_at=datetime(9999, 1, 1, tzinfo=UTC)),
            partial(reap, EVENTS.all(), max_attempts=5, **limits),
        ),
    }
    make, act = made[verb]
    return [make().pk for _ in range(5)], act


@pytest.mark.parametrize(
    ("verb", "answer", "dead"),
    [
        ("reap", (4, 1), 1),
        ("bury", 4, 4),
        ("schedule", 4, 1),
        ("schedule now", (0, 0), 1),
        ("release", (4, frozenset()), 0),
        ("unlease", (0, 0), 1),
    ],
)
def test_every_verb_passes_over_the_one_that_is_refused(verb: str, answer: Any, dead: int) -> None:
    rows, act = prepared(verb)
    refuse(f"OLD.id = '{rows[2]}' AND NEW.status <> 'dead'" if verb != "bury" else f"OLD.id = '{rows[2]}'")
    assert act() == answer
    assert EVENTS.dead().count() == dead


@pytest.mark.parametrize("verb", ["reap", "bury", "schedule", "unlease"])
def test_what_may_not_even_die_is_put_on_record_and_left_alone(verb: str) -> None:
    rows, act = prepared(verb)
    refuse(f"OLD.id = '{rows[2]}'")
    before = EVENTS.values_list().get(pk=rows[2])
    for _ in range(2):
        act()
        refusal = Refusal.objects.get()
        assert (refusal.notification_id, refusal.verb) == (rows[2], verb)
        assert "not this one" in refusal.error
    assert EVENTS.values_list().get(pk=rows[2]) == before
    assert refusal.at <= timezone.now()


def test_what_another_program_finished_does_not_die_of_a_lease_that_stays() -> None:
    event = factories.sent(leased_until=timezone.now() - LEASE)
    refuse("OLD.status = 'sent' AND NEW.status <> 'dead'")
    for _ in range(2):
        assert reap(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=10) == (0, 0)
    event.refresh_from_db()
    assert (event.status, event.last_error) == ("sent", None)
    assert Refusal.objects.get().verb == "reap"


def test_what_is_set_aside_has_died_as_any_other(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(
        CHANNELS={name: channel(Script()) for name in ("Webhook", "Email")},
        ESCALATION={"Webhook": "Email:ops"},
    )
    rows, act = prepared("reap")
    refuse(f"OLD.id = '{rows[2]}' AND NEW.status <> 'dead'")
    act()
    row = EVENTS.get(pk=rows[2])
    assert (row.status, row.leased_until, row.next_retry_at) == ("dead", None, None)
    assert "not this one" in row.last_error
    assert f"notification {row.pk} is dead: {row.last_error}" in caplog.messages
    link = Escalation.objects.get()
    assert (link.notification_id, link.at < timezone.now()) == (row.pk, True)


DOING = {
    "reap": "reap",
    "unlease": "unlease",
    "bury": "bury",
    "schedule": "schedule",
    "schedule now": "schedule",
    "release": "releasing",
    "record": "recording",
}


@pytest.mark.parametrize("verb", DOING)
def test_a_verb_that_is_in_the_way_of_others_tries_again_after_its_pauses_and_says_so(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, act = prepared(verb)
    refuse("true", state="40001")
    with pytest.raises(OperationalError):
        act(pauses=(0.001, 0.002))
    what = f"{DOING[verb]}: in the way of others, tried again in"
    assert [line.split(" s: ")[0] for line in caplog.messages] == [f"{what} 0.001", f"{what} 0.002"]


@pytest.mark.parametrize("verb", [*DOING, "claim", "renew", "set aside"])
def test_what_a_worker_writes_is_a_transaction_of_its_own(verb: str) -> None:
    """Within another's it would be undone with that one, after the answer was given."""
    if verb == "claim":
        act: Callable[..., Any] = partial(claimed, 1)
    elif verb == "renew":
        act = partial(renew, claimed(1), timezone.now() + LEASE)
    elif verb == "set aside":
        act = partial(_set_aside, claimed(1)[0].id, ValueError("refused"), verb="reap", now=timezone.now())
    else:
        act = prepared(verb)[1]
    with database.atomic(), pytest.raises(RuntimeError, match="durable"):
        act()


def test_what_another_program_locks_is_passed_over_and_tried_again(other: psycopg.Connection[Any]) -> None:
    events = claimed(20)
    hold(other, "row-3")
    answer = recorded(events)
    assert (len(answer.written), answer.locked) == (19, {"row-3"})
    other.rollback()
    assert recorded([e for e in events if e.id == "row-3"]).written == {"row-3"}


def test_release_names_what_another_program_locks(other: psycopg.Connection[Any]) -> None:
    events = claimed(3)
    hold(other, "row-1")
    assert release(events, due_at=timezone.now()) == (2, {"row-1"})
    other.rollback()
    assert release(events, due_at=timezone.now()) == (1, frozenset())


def test_a_batch_that_is_locked_when_it_comes_back_was_never_begun_with(
    other: psycopg.Connection[Any], settings: Any, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(settings, configure)
    from notifications.engine.task_api import deliver_batch

    def broken(*args: Any, **options: Any) -> None:
        hold(other, event.pk)
        raise ConnectionError("the broker is away")

    event = factories.pending()
    monkeypatch.setattr(type(deliver_batch), "enqueue", broken)
    with pytest.raises(ConnectionError):
        delivery.send_pending()
    assert EVENTS.filter(leased_until__isnull=False).count() == 1
    other.rollback()
    reap(EVENTS.all(), now=timezone.now() + timedelta(hours=1), max_attempts=5, limit=10)
    assert list(EVENTS.values_list("status", "retry_count", "leased_until")) == [("pending", 0, None)]


@pytest.fixture
def frozen(configure: Configure) -> Iterator[threading.Event]:
    """A worker that has counted deaths and tallies, and stops before its COMMIT."""
    configure(DIGEST={"TO": "Webhook:ops", "INTERVAL": timedelta(hours=1)})
    counted, go_on = threading.Event(), threading.Event()

    def stop_in_the_middle() -> None:
        try:
            with database.atomic():
                follow(EVENTS.all(), ["dead"], now=timezone.now())
                tallies.add([tallies.Counted("Webhook", "transient", 5)], now=timezone.now())
                counted.set()
                go_on.wait(PATIENCE)
        finally:
            database.connection().close()

    factories.dead(id="dead")
    thread = threading.Thread(target=stop_in_the_middle)
    thread.start()
    assert counted.wait(PATIENCE)
    yield go_on
    go_on.set()
    thread.join()


def test_a_worker_that_stops_before_its_commit_stops_no_other(frozen: threading.Event) -> None:
    events = claimed(100)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    assert len(recorded(events, PermanentError("no")).written) == 100
    frozen.set()
    eventually(lambda: tallied("transient") == [1], "the count of the one that was stopped")
    assert tallied("permanent") == [100]
    assert sorted(Death.objects.values_list("notifications", flat=True)) == [1, 100]


def tallied(outcome: str) -> list[int]:
    rows = Tally.objects.filter(hour=tallies.EPOCH, outcome=outcome)
    return list(rows.values_list("attempts", flat=True))


def test_a_bound_session_ends_what_is_left_open(other: psycopg.Connection[Any]) -> None:
    events = claimed(1)
    other.execute("SELECT 1 FROM notification_events WHERE id = %s FOR UPDATE", [events[0].id])
    bound_session(connection, 1.0)
    with pytest.raises(OperationalError) as waited:
        EVENTS.update(message="waits for the lock")
    assert kind_of(waited.value) == "contended"
    with pytest.raises(OperationalError) as slow, connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")
    assert kind_of(slow.value) == "contended"
    with pytest.raises(AWAY) as idle:
        stay_idle_until(lambda: ended(other))
    assert kind_of(idle.value) == "away"
    connection.close()


def stay_idle_until(ended: Callable[[], bool]) -> None:
    with database.atomic():
        EVENTS.exists()
        eventually(ended, "the end of the idle session")
        EVENTS.exists()


def ended(other: psycopg.Connection[Any]) -> bool:
    other.rollback()  # within one transaction it sees the same sessions for ever
    found = other.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    return found == (0,)


def test_a_requeue_that_ends_a_lease_is_counted_under_the_configured_name(configure: Configure) -> None:
    configure(CHANNELS={"Webhook": {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}})
    factories.lost(channel="webhook")
    assert EVENTS.all().requeue(by="op").changed == 1
    assert DeliveryAttempt.objects.get().channel == "Webhook"
    assert Tally.objects.get(hour=tallies.EPOCH).channel == "Webhook"
    factories.lost(channel="webhook")
    reap(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=10)
    assert Tally.objects.get(hour=tallies.EPOCH).attempts == 2


def test_a_claim_takes_no_more_bytes_than_it_may_and_says_so() -> None:
    for _ in range(40):
        factories.pending(message="é" * 300_000)
    due = EVENTS.pending().order_by("created_at")
    first = claim(due, 100, now=timezone.now(), lease=LEASE)
    assert (len(first), first.full) == (32, True)
    assert {len(event.message) for event in first} == {256 * 1024 + 1}, (
        "one more than is delivered, to be told from one that fits"
    )
    rest = claim(due, 100, now=timezone.now(), lease=LEASE)
    assert (len(rest), rest.full) == (8, False)


def test_a_lease_that_may_not_be_extended_is_left_to_end(caplog: pytest.LogCaptureFixture) -> None:
    events = claimed(3)
    refuse("OLD.id = 'row-1'")
    assert renew(events, timezone.now() + 2 * LEASE) == {"row-0", "row-2"}
    assert "the lease of notification row-1 was not extended: " in caplog.text
