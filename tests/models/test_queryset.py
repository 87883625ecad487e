"""The table's vocabulary, edge by edge; the rules as callers see them are in test_verbs.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from notifications import conf
from notifications.database import database_now
from notifications.exceptions import TransitionRefused
from notifications.models import (
    BulkOperation,
    DeliveryAttempt,
    NotificationEvent,
    Reading,
    Refusal,
    Requeue,
    Tally,
    conditions,
)
from notifications.models import queryset as vocabulary
from notifications.text import cut
from tests import factories
from tests.breakage import execute, refused_rows
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
TICK, HOUR = timedelta(microseconds=1), timedelta(hours=1)
ALERT = {"type": "Expiry", "channel": "Slack", "recipient": "#pki", "message": "7 days"}
NO_CHECK = "RAISE EXCEPTION USING ERRCODE = '23514'"


# Which


def test_what_is_due_at_the_very_moment() -> None:
    at = factories.failed(due_at=NOW, leased_until=NOW)
    factories.failed(due_at=NOW + TICK)
    factories.failed(due_at=NOW, leased_until=NOW + TICK)
    assert EVENTS.retry_eligible(NOW).get() == at
    assert not EVENTS.retry_eligible(NOW, max_attempts=1).exists()
    assert EVENTS.spent(NOW, max_attempts=1).get() == at
    assert not EVENTS.spent(NOW, max_attempts=2).exists()


def test_spent_is_as_of_the_databases_time_unless_given() -> None:
    spent = factories.failed(retry_count=5)
    factories.failed(retry_count=5, due_at=ahead(hours=1))
    factories.failed(retry_count=4)
    assert EVENTS.spent().get() == spent


def test_the_newest_attempt_says_whether_a_sent_one_was_delivered() -> None:
    """Of two that began at the same time the one that was recorded later."""
    delivered, without = factories.not_delivered(), factories.sent(error="the channel had no notifier")
    factories.attempt(delivered, "sent", started_at=ago(seconds=1))
    factories.attempt(delivered, "no_notifier", started_at=ago(hours=1))  # put on record late
    for outcome in ("sent", "no_notifier"):
        factories.attempt(without, outcome, started_at=NOW)
    never_tried = factories.sent(error="odd")
    assert EVENTS.not_delivered().get() == without
    outcomes = {event.pk: event.last_outcome for event in EVENTS.with_kind()}
    assert outcomes == {delivered.pk: "sent", without.pk: "no_notifier", never_tried.pk: ""}


def test_only_a_sent_one_with_an_error_is_not_delivered() -> None:
    factories.not_delivered(error=None)
    factories.not_delivered(error="")
    factories.attempt(factories.dead(error="x"), "no_notifier")
    assert not EVENTS.not_delivered().exists()


def test_not_delivered_among_the_newest_of_all() -> None:
    old, new = (factories.not_delivered(created_at=ago(hours=n)) for n in (2, 1))
    factories.sent(created_at=ago(minutes=1))  # without an error
    factories.dead(created_at=ago(minutes=1), error="x")
    factories.sent(error="odd", created_at=ago(minutes=30))
    assert not EVENTS.not_delivered(among=1).exists()
    assert EVENTS.not_delivered(among=2).get() == new
    assert set(EVENTS.not_delivered(among=3)) == {old, new}
    assert not EVENTS.filter(pk=old.pk).not_delivered(among=2).exists()


GRACE = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("since", "lately"),
    [
        (NOW - GRACE, False),
        (NOW - GRACE + TICK, True),
        (NOW + GRACE, True),
        (NOW + GRACE + TICK, False),
    ],
)
@pytest.mark.parametrize("requeued", [False, True])
def test_what_another_program_raised_lately_is_its_own(since: datetime, lately: bool, requeued: bool) -> None:
    times = {"created_at": NOW - HOUR, "requeued_at": since} if requeued else {"created_at": since}
    theirs = factories.pending(ours=None, **times)
    stranded = factories.stranded(**times)
    factories.pending(ours=None, leased_until=NOW, **times)
    factories.failed(ours=None, **times)
    ours = factories.pending(**times)
    assert set(EVENTS.in_grace(NOW, GRACE)) == ({theirs} if lately else set())
    assert set(EVENTS.pending().filter(leased_until=None).out_of_grace(NOW, GRACE)) == (
        {ours} if lately else {ours, theirs}
    )
    assert set(EVENTS.to_adopt(NOW - HOUR, NOW, GRACE)) == (set() if lately else {stranded})


def test_what_is_adopted_waits_since_then_at_the_earliest_and_is_lost() -> None:
    at = factories.stranded(created_at=NOW - HOUR)
    factories.stranded(created_at=NOW - HOUR - TICK)
    factories.stranded(created_at=NOW - HOUR, channel="Email", last_error=None)
    factories.failed(created_at=NOW - HOUR)
    assert EVENTS.to_adopt(NOW - HOUR, NOW, GRACE).get() == at


def test_what_can_be_read_is_sent_or_dead() -> None:
    rows = factories.one_of_each()
    assert set(EVENTS.filter(conditions.readable())) == {rows["sent"], rows["dead"]}


def test_refused_are_those_on_record() -> None:
    refused, ended, _ = factories.lost(), factories.sent(), factories.lost()
    for event in (refused, ended):
        Refusal.objects.create(notification=event, verb="reap", at=NOW, error="refused")
    assert EVENTS.refused().get() == refused


# A page


def test_a_page_cuts_what_is_too_long_for_all_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "PAGE_CHARACTERS", 100)
    texts = ["x" * 50, "y" * 51, "z" * 200]
    for n, text in enumerate(texts):
        factories.pending(message=text, created_at=NOW + n * HOUR)
    rows = EVENTS.order_by("created_at")
    with CaptureQueriesContext(connection) as seen:
        assert [event.message for event in rows.in_page(2)] == [texts[0], cut(texts[1], 50)]
    [query] = seen
    assert query["sql"].count('"message"') == 1, "the whole message is not read"
    assert [event.message for event in rows.in_page(2, 2)] == [cut(texts[2], 50)]
    assert [event.message for event in rows.in_page(1, 2)] == [cut(texts[2], 100)]
    assert [event.message for event in rows.in_page(2, 1)] == [cut(text, 50) for text in texts[1:]]
    assert rows.in_page(0) == []


def test_a_page_shows_what_sqlite_keeps_in_the_place_of_a_text() -> None:
    """PostgreSQL never takes it."""
    factories.pending(message="")
    assert EVENTS.all().in_page(1)[0].message == ""
    if connection.vendor == "sqlite":
        execute("UPDATE notification_events SET message = x'414243'")
        assert EVENTS.all().in_page(1)[0].message == "ABC"


# notify


def test_an_alert_is_one_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):  # in a savepoint
        event, made = EVENTS.notify(**ALERT, certificate_id="", dedup_key="once")
    assert made
    event.refresh_from_db()
    assert (event.certificate_id, event.dedup_key) == (None, "once")


@pytest.mark.parametrize("dedup_key", ["digest:2026-03-01T11:00:00+00:00", "escalation:n1"])
def test_the_apps_own_keys_are_not_for_others(dedup_key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        EVENTS.notify(**ALERT, dedup_key=dedup_key)
    said = "Keys that begin with escalation: or digest: or solved: are the app's own."
    assert refused.value.message_dict == {"dedup_key": [said]}


@pytest.mark.parametrize("dedup_key", [None, "once"])
def test_what_the_database_refuses_is_no_repetition(dedup_key: str | None) -> None:
    factories.pending()
    with refused_rows("NEW.type = 'Expiry'", NO_CHECK), pytest.raises(IntegrityError):
        EVENTS.notify(**ALERT, dedup_key=dedup_key)


@pytest.mark.parametrize(
    ("channels", "warned"), [({"Slack": channel(Script())}, False), ({}, True), ({"Slack": "odd"}, False)]
)
def test_the_log_warns_of_a_channel_that_nobody_serves_here(
    channels: dict[str, Any], warned: bool, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the settings cannot be read, nobody knows."""
    configure(CHANNELS=channels)
    if channels.get("Slack") == "odd":
        with pytest.raises(ImproperlyConfigured):
            conf.current()
    event, _ = EVENTS.notify(**{**ALERT, "channel": "slack"})
    text = f"notification {event.pk} is raised, but the channel slack has no notifier"
    assert caplog.messages == ([text] if warned else [])


def test_whoever_raises_an_alert_is_told_what_is_wrong_with_its_recipient(configure: Configure) -> None:
    configure(CHANNELS={"Slack": {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}})
    for recipient in ("#pki", "https://hook.example/"):
        for made in (True, False):
            event, new = EVENTS.notify(**{**ALERT, "recipient": recipient}, dedup_key=recipient)
            assert new == made
            said = [warning.split(": ")[0] for warning in event.warnings]
            assert said == ["the channel Slack cannot deliver to this recipient"] * (recipient == "#pki")


# Requeue and mark read


def operation() -> BulkOperation:
    made: BulkOperation = BulkOperation.objects.create(
        kind="requeue", by="ada", via="cli", started_at=NOW, requested=1
    )
    return made


def test_a_requeue_is_on_record_with_all_that_was_said() -> None:
    event, part_of = factories.dead(retry_count=4), operation()
    EVENTS.all().requeue(by="ada", via="cli", now=NOW, reason="repaired", operation=part_of)
    found = Requeue.objects.get()
    assert (found.by, found.via, found.at, found.reason) == ("ada", "cli", NOW, "repaired")
    assert (found.notification_id, found.operation_id) == (event.pk, part_of.pk)
    assert (found.status, found.retry_count, found.last_error) == ("dead", 4, factories.REFUSED)


def test_a_requeue_from_python_says_so_and_is_as_of_now() -> None:
    begin = database_now()
    factories.dead()
    EVENTS.all().requeue(by="ada")
    found = Requeue.objects.get()
    assert (found.via, found.reason, found.operation) == ("python", "", None)
    assert begin <= found.at <= database_now()
    assert EVENTS.get().requeued_at == found.at


def test_a_requeue_gives_a_fresh_budget_and_keeps_what_it_says_elsewhere() -> None:
    failed = factories.failed(error="kept", leased_until=NOW, due_at=NOW, retry_count=3, ours=None)
    sent = factories.not_delivered(sent_at=NOW)
    assert EVENTS.all().requeue(by="ada", now=NOW).changed == 2
    names = ("status", "retry_count", "next_retry_at", "last_error", "leased_until", "requeued_at", "ours")
    assert set(EVENTS.values_list(*names)) == {("pending", 0, None, None, None, NOW, True)}
    assert EVENTS.values_list("error", "sent_at").get(pk=failed.pk) == ("kept", None)
    assert EVENTS.values_list("error", "sent_at").get(pk=sent.pk) == (None, None)


def test_a_lease_that_ended_is_an_attempt_and_one_that_stands_is_in_the_way() -> None:
    over, unleased = factories.failed(leased_until=NOW), factories.dead()
    standing = factories.failed(leased_until=NOW + TICK)
    assert EVENTS.all().requeue(by="ada", now=NOW) == (2, 1)
    assert EVENTS.failed().get() == standing
    lost = DeliveryAttempt.objects.get()
    assert (lost.notification_id, lost.outcome, lost.started_at) == (over.pk, "interrupted", NOW)
    assert {tally.hour for tally in Tally.objects.all()} == {datetime(1970, 1, 1, tzinfo=UTC), NOW}
    assert EVENTS.get(pk=unleased.pk).status == "pending"


def test_a_requeue_clears_the_refusals_of_what_it_changed() -> None:
    for event in (factories.dead(), factories.sent()):
        Refusal.objects.create(notification=event, verb="record", at=NOW, error="refused")
    EVENTS.all().requeue(by="ada")
    assert Refusal.objects.get().notification.status == "sent"


@pytest.mark.parametrize("verb", ["requeue", "mark_read"])
def test_a_verb_over_many_locks_in_one_order_and_reads_no_message(verb: str) -> None:
    """Two operators who lock the same rows in two orders wait for each other."""
    for _ in range(3):
        factories.dead(dedup_key=None)
    with CaptureQueriesContext(connection) as seen:
        getattr(EVENTS.order_by("created_at"), verb)(by="ada")
    reads = [query["sql"] for query in seen if query["sql"].startswith("SELECT")]
    looked_at = [sql for sql in reads if '"retry_count"' in sql or '"status"' in sql.split("FROM")[0]]
    assert len(looked_at) == 1
    assert 'ORDER BY "notification_events"."id"' in looked_at[0]
    assert not [sql for sql in reads if '"message"' in sql or '"dedup_key"' in sql]


def test_a_reading_is_on_record_with_all_that_was_said() -> None:
    begin = database_now()
    part_of = operation()
    seen, dismissed = factories.sent(), factories.dead()
    EVENTS.filter(pk=seen.pk).mark_read()
    EVENTS.filter(pk=dismissed.pk).mark_read(by="ada", via="cli", reason="known", operation=part_of)
    one, two = Reading.objects.order_by("id")
    assert (one.notification_id, one.status, one.by, one.via, one.reason, one.operation) == (
        seen.pk,
        "sent",
        "",
        "python",
        "",
        None,
    )
    assert (two.notification_id, two.status, two.by, two.via, two.reason, two.operation) == (
        dismissed.pk,
        "dead",
        "ada",
        "cli",
        "known",
        part_of,
    )
    assert begin <= one.at <= two.at <= database_now()
    assert set(EVENTS.values_list("status", flat=True)) == {"read"}


def test_many_are_changed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "BATCH", 2)
    for _ in range(5):
        factories.dead()
    factories.sent()
    with CaptureQueriesContext(connection) as seen:
        assert EVENTS.all().requeue(by="ada") == (5, 1)
    assert len([q for q in seen if q["sql"].startswith('UPDATE "notification_events"')]) == 3
    assert [list(part) for part in vocabulary.batched("abcde", 2)] == [["a", "b"], ["c", "d"], ["e"]]


# Why not


WHY = {
    ("requeue", "sent"): "it is sent: it was delivered",
    ("requeue", "read"): "it is read: a person has seen or dismissed it",
    ("requeue", "pending"): "it is pending: the next sweep sends it",
    ("mark_read", "pending"): "it is pending: what is not delivered yet cannot be read",
    ("mark_read", "failed"): "it is failed: what is not delivered yet cannot be read",
    ("mark_read", "read"): "it is read already",
}


@pytest.mark.parametrize(("verb", "status"), WHY)
def test_a_refusal_says_why(verb: str, status: str) -> None:
    event = factories.notification(status)
    with pytest.raises(TransitionRefused) as refused:
        getattr(event, verb)(by="ada")
    words = verb.replace("_", " ")
    assert (refused.value.verb, refused.value.event_id) == (words, event.pk)
    assert refused.value.why == WHY[verb, status]


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("record_failed_attempt", ("x", NOW), "record a failed attempt of"),
        ("mark_as_dead", ("x",), "dead-letter"),
        ("mark_as_sent", (NOW,), "mark as sent"),
    ],
)
def test_what_is_finished_or_held_takes_no_outcome(verb: str, arguments: tuple[Any, ...], words: str) -> None:
    finished, held = factories.sent(), factories.pending()
    EVENTS.filter(pk=held.pk).update(leased_until=ahead(hours=1))
    for event, why in (
        (finished, "it is sent"),
        (held, "an attempt is running; try again when it has ended"),
    ):
        with pytest.raises(TransitionRefused) as refused:
            getattr(event, verb)(*arguments)
        assert (refused.value.verb, refused.value.event_id, refused.value.why) == (words, event.pk, why)


def test_a_lease_that_ended_is_no_reason() -> None:
    """A worker's late outcome, where nobody took the row since."""
    event = factories.pending()
    EVENTS.update(leased_until=ago(seconds=1))
    event.mark_as_sent(NOW)
    assert (event.status, event.sent_at, event.leased_until) == ("sent", NOW, None)
    finished = factories.read(leased_until=ago(seconds=1))
    with pytest.raises(TransitionRefused, match="it is read"):
        finished.mark_as_sent(NOW)
