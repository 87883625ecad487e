"""What Python callers may do: section 3 of the contract."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Q

from notifications import conf, delivery
from notifications.database import database_now
from notifications.exceptions import TransitionRefused
from notifications.models import DeliveryAttempt, NotificationEvent, Requeue, Status
from notifications.notifiers.endpoint import Endpoint, going_to
from notifications.reporting.snapshot import snapshot
from notifications.text import fold
from tests import factories, scripted
from tests.factories import ago, ahead

pytestmark = pytest.mark.django_db

ALERT = {
    "type": "ExpirationWarning",
    "channel": "Slack",
    "recipient": "#pki",
    "message": "api.example.com expires in 7 days",
}
EVENTS = NotificationEvent.objects


# notify


def test_notify_makes_a_pending_event_with_the_tables_defaults() -> None:
    event, created = EVENTS.notify(**ALERT, certificate_id="mc-api-prod")
    event.refresh_from_db()
    assert created
    assert {name: getattr(event, name) for name in ALERT} == ALERT
    assert (event.certificate_id, event.status, event.retry_count) == ("mc-api-prod", "pending", 0)
    assert (event.sent_at, event.next_retry_at, event.last_error, event.error) == (None, None, None, None)


def test_an_insert_that_names_only_certctls_columns_works() -> None:
    columns = "id, type, certificate_id, channel, recipient, message, sent_at, status, error"
    values = ["n-1", "expiration_warning", None, "email", "ops@example.com", "text", None, "pending", None]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO notification_events ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", values
        )
    event = EVENTS.get(pk="n-1")
    assert (event.retry_count, event.leased_until, event.dedup_key) == (0, None, None)
    assert ago(minutes=1) < event.created_at < ahead(minutes=1)


@pytest.mark.parametrize("status", Status.values)
def test_the_same_dedup_key_again_answers_the_first_event(status: str) -> None:
    first = factories.notification(status, dedup_key="expiry:mc-api-prod:7")
    again, created = EVENTS.notify(**{**ALERT, "message": "another text"}, dedup_key="expiry:mc-api-prod:7")
    assert (again, created) == (first, False)
    assert again.message == first.message
    assert EVENTS.count() == 1


def test_a_dedup_key_counts_for_the_whole_table_whatever_the_queryset() -> None:
    first = factories.sent(dedup_key="once")
    assert EVENTS.pending().notify(**ALERT, dedup_key="once") == (first, False)


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_a_dedup_key_every_call_makes_an_event(nothing: str | None) -> None:
    made = [EVENTS.notify(**ALERT, dedup_key=nothing) for _ in range(2)]
    assert [created for _, created in made] == [True, True]
    assert EVENTS.filter(dedup_key=None).count() == 2


def test_a_repeated_notify_inside_a_transaction_leaves_the_transaction_usable() -> None:
    with transaction.atomic():
        EVENTS.notify(**ALERT, dedup_key="once")
        EVENTS.notify(**ALERT, dedup_key="once")
        EVENTS.notify(**ALERT, dedup_key="twice")
    assert EVENTS.count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_same_dedup_key_from_many_threads_at_once_makes_one_event() -> None:
    threads = 8
    together = threading.Barrier(threads)

    def raise_alert(_: int) -> tuple[str, bool]:
        try:
            together.wait(20)
            event, created = EVENTS.notify(**ALERT, dedup_key="expiry:mc-api-prod:7:Slack")
            return event.pk, created
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(raise_alert, range(threads)))
    assert len({pk for pk, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert EVENTS.count() == 1


LONG = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(100))
IMPOSSIBLE = [
    ("recipient", "x" * 256),
    ("type", "x" * 256),
    ("channel", "x" * 256),
    ("message", ""),
    ("recipient", ""),
    ("channel", None),
    ("message", "a NUL \x00 byte"),
    ("recipient", "ops\x00@example.com"),
    ("certificate_id", "mc\x00"),
    ("dedup_key", "a\x00b"),
    ("message", "half a character \udc80"),
    ("dedup_key", "half a character \udc80"),
    ("dedup_key", LONG),
    ("certificate_id", LONG),
    ("message", "é" * (128 * 1024 + 1)),
]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_notify_refuses_what_the_table_cannot_hold_and_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        EVENTS.notify(**{**ALERT, field: value})
    assert list(refused.value.message_dict) == [field]
    assert not EVENTS.exists()


@pytest.mark.parametrize(
    "text", ["x" * 256 * 1024, "日本語 🔐", "line\r\nbreak", "'; DROP TABLE x; --", "%s{0}"]
)
def test_notify_keeps_every_text_as_it_is(text: str) -> None:
    event, _ = EVENTS.notify(**{**ALERT, "message": text}, dedup_key=text[:1000])
    event.refresh_from_db()
    assert event.message == text


# Which notifications


def test_the_vocabulary_chains_with_the_orms_own() -> None:
    on_slack, elsewhere = factories.one_of_each(channel="slack"), factories.one_of_each(channel="Teams")
    slack = EVENTS.on_channel("Slack")
    assert slack.pending().get() == on_slack["pending"]
    assert slack.failed().get() == on_slack["failed"]
    assert EVENTS.filter(channel="Teams").dead().get() == elsewhere["dead"]
    assert EVENTS.dead().exclude(Q(channel="Teams")).count() == 1


@pytest.mark.parametrize(
    "name", ["email", "EMAIL", "Ämail", "ämail", "\u212aafka", "kafka", "straße", "STRASSE"]
)
@pytest.mark.parametrize("other", ["Email", "Ämail", "Kafka", "Strasse"])
def test_case_of_a_channel_is_that_of_ascii_letters_everywhere(
    name: str, other: str, configure: Callable[..., None]
) -> None:
    configure(CHANNELS={other: scripted.channel([])})
    alike = fold(name) == fold(other)
    row = factories.pending(channel=other)
    assert list(EVENTS.on_channel(name)) == ([row] if alike else [])
    assert list(EVENTS.filter(going_to([Endpoint("", name)]))) == ([row] if alike else [])
    assert Endpoint("", name).covers(other, "x") == alike
    assert (conf.current().channel(name) == other) == alike


def test_stranded_is_failed_without_a_next_retry() -> None:
    factories.one_of_each()
    event = factories.stranded()
    assert EVENTS.stranded().get() == event


def test_retry_eligible_is_what_the_retry_sweep_would_take() -> None:
    now = ahead(hours=1)
    late = factories.failed(due_at=ago(minutes=1), retry_count=4)
    early = factories.failed(due_at=ago(minutes=2), retry_count=0)
    spent = factories.failed(retry_count=5)
    soon = factories.failed(due_at=now)
    for factory in (factories.stranded, factories.leased, factories.pending, factories.dead):
        factory()
    assert list(EVENTS.retry_eligible()) == [early, late]
    assert set(EVENTS.retry_eligible(max_attempts=6)) == {early, late, spent}
    lost = EVENTS.exclude(leased_until=None).get()
    assert set(EVENTS.retry_eligible(now=now)) == {early, late, soon, lost}


@pytest.mark.parametrize("status", Status.values)
def test_count_by_status(status: str) -> None:
    factories.one_of_each()
    factories.notification(status)
    assert EVENTS.count_by_status(status) == 2
    assert EVENTS.filter(channel="Nowhere").count_by_status(status) == 0


def test_count_by_a_status_that_is_none_is_zero() -> None:
    assert EVENTS.count_by_status("delivered") == 0


# Verbs over many


def test_requeue_over_many_says_how_many_and_skips_what_the_rules_refuse() -> None:
    rows = factories.one_of_each()
    rows["leased"] = factories.leased()
    assert EVENTS.all().requeue(by="alice", via="cli") == (2, 4)
    assert EVENTS.pending().count() == 3
    requeued = {rows["dead"].pk, rows["failed"].pk}
    assert set(Requeue.objects.values_list("notification_id", flat=True)) == requeued
    assert set(Requeue.objects.values_list("by", "via")) == {("alice", "cli")}


@pytest.mark.parametrize(
    "narrow",
    [lambda rows: rows.order_by("created_at")[:3], lambda rows: rows.filter(message="0"), lambda rows: rows],
)
def test_requeue_changes_the_rows_of_the_queryset_and_no_others(narrow: Callable[[Any], Any]) -> None:
    for n in range(5):
        factories.dead(message=str(n))
    rows = narrow(EVENTS.dead())
    wanted = {event.pk for event in rows}
    assert rows.requeue(by="alice").changed == len(wanted)
    assert {event.pk for event in EVENTS.pending()} == wanted


def test_requeue_of_more_rows_than_fit_one_batch() -> None:
    many = 2_500
    EVENTS.bulk_create(NotificationEvent(**ALERT, status="dead", retry_count=4) for _ in range(many))
    assert EVENTS.dead().requeue(by="alice") == (many, 0)
    assert (EVENTS.pending().count(), Requeue.objects.count()) == (many, many)


def test_requeue_of_nothing_is_nothing() -> None:
    assert EVENTS.none().requeue(by="alice") == (0, 0)


def test_requeue_twice_is_once() -> None:
    event = factories.dead()
    stale = EVENTS.get(pk=event.pk)
    event.requeue(by="alice")
    with pytest.raises(TransitionRefused, match="it is pending"):
        stale.requeue(by="bob")
    assert Requeue.objects.count() == 1


def test_mark_read_over_many_counts_what_it_changed() -> None:
    factories.one_of_each()
    assert EVENTS.all().mark_read(by="alice") == (2, 3)
    assert {status: EVENTS.count_by_status(status) for status in ("read", "pending", "failed")} == {
        "read": 3,
        "pending": 1,
        "failed": 1,
    }


# Verbs on one event


def test_record_failed_attempt_reschedules() -> None:
    event, due_at = factories.failed(retry_count=2), ahead(minutes=4)
    event.record_failed_attempt("HTTP 502: bad gateway", due_at)
    assert (event.status, event.retry_count) == (Status.FAILED, 3)
    assert (event.next_retry_at, event.last_error) == (due_at, "HTTP 502: bad gateway")


def test_record_failed_attempt_counts_in_the_database() -> None:
    event = factories.failed(retry_count=1)
    stale = EVENTS.get(pk=event.pk)
    event.record_failed_attempt("one", ahead(minutes=1))
    stale.record_failed_attempt("two", ahead(minutes=1))
    assert stale.retry_count == 3


def test_record_failed_attempt_cannot_strand_a_notification() -> None:
    event = factories.pending()
    with pytest.raises(ValueError, match="next_retry_at"):
        event.record_failed_attempt("down", None)  # type: ignore[arg-type]
    event.refresh_from_db()
    assert event.status == Status.PENDING


def test_mark_as_dead_keeps_the_count() -> None:
    event = factories.failed(retry_count=3)
    event.mark_as_dead("HTTP 410: gone")
    assert (event.status, event.retry_count) == (Status.DEAD, 3)
    assert (event.next_retry_at, event.last_error) == (None, "HTTP 410: gone")


def test_mark_as_sent_keeps_the_evidence() -> None:
    event, moment = factories.failed(retry_count=3, last_error="earlier"), ago(seconds=5)
    event.mark_as_sent(moment)
    assert (event.status, event.sent_at, event.next_retry_at) == (Status.SENT, moment, None)
    assert (event.retry_count, event.last_error) == (3, "earlier")


@pytest.mark.parametrize("error", ["a NUL \x00", "half \udc80", "x" * 100_000])
def test_an_errors_text_is_made_to_fit(error: str) -> None:
    event = factories.pending()
    event.record_failed_attempt(error, ahead(minutes=1))
    event.mark_as_dead(error)
    assert event.last_error
    assert len(event.last_error) <= 2000


VERBS: dict[str, Callable[[NotificationEvent], None]] = {
    "requeue": lambda event: event.requeue(by="alice"),
    "mark_read": lambda event: event.mark_read(by="alice"),
    "record_failed_attempt": lambda event: event.record_failed_attempt("down", ahead(minutes=1)),
    "mark_as_dead": lambda event: event.mark_as_dead("gone"),
    "mark_as_sent": lambda event: event.mark_as_sent(ago(seconds=1)),
}
ALLOWED = {
    "requeue": {"dead", "failed"},
    "mark_read": {"sent", "dead"},
    "record_failed_attempt": {"pending", "failed"},
    "mark_as_dead": {"pending", "failed"},
    "mark_as_sent": {"pending", "failed"},
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", Status.values)
def test_a_verb_works_from_the_states_that_allow_it_and_says_why_from_the_others(
    verb: str, status: str
) -> None:
    event = factories.one_of_each()[status]
    others = list(EVENTS.exclude(pk=event.pk).order_by("pk").values_list())
    if status in ALLOWED[verb]:
        VERBS[verb](event)
    else:
        with pytest.raises(TransitionRefused, match=f"notification {event.pk}: it is {status}"):
            VERBS[verb](event)
        assert EVENTS.get(pk=event.pk).status == status
    assert list(EVENTS.exclude(pk=event.pk).order_by("pk").values_list()) == others


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_on_a_row_that_is_gone_raises_does_not_exist(verb: str) -> None:
    event = factories.dead()
    EVENTS.filter(pk=event.pk).delete()
    with pytest.raises(NotificationEvent.DoesNotExist):
        VERBS[verb](event)
    assert not EVENTS.exists()


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "mark_read"])
@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_verb_is_refused_while_a_worker_has_the_row(verb: str, status: str) -> None:
    event = factories.notification(status, next_retry_at=ago(minutes=1))
    before_the_claim = EVENTS.get(pk=event.pk)
    EVENTS.filter(pk=event.pk).update(leased_until=ahead(minutes=2))
    with pytest.raises(TransitionRefused, match="an attempt is running"):
        VERBS[verb](before_the_claim)


@pytest.mark.parametrize("verb", ["record_failed_attempt", "mark_as_dead", "mark_as_sent"])
def test_the_holder_of_the_lease_may_record_and_the_lease_is_over(verb: str) -> None:
    event = factories.leased()
    VERBS[verb](event)
    assert event.leased_until is None


def test_attempts_and_requeues_go_with_their_notification() -> None:
    event = factories.dead()
    factories.attempt(event)
    event.requeue(by="alice")
    event.delete()
    assert not DeliveryAttempt.objects.exists()
    assert not Requeue.objects.exists()


def test_a_requeued_notification_is_due_from_its_requeue() -> None:
    """In the queue's order, and in the figure of the oldest due."""
    old = factories.dead(created_at=ago(days=30))
    fresh = factories.pending(created_at=ago(minutes=1))
    NotificationEvent.objects.filter(pk=old.pk).requeue(by="ada")
    due = delivery.due("pending", NotificationEvent.objects.all(), database_now(), 5)
    assert [event.pk for event in due] == [fresh.pk, old.pk]
    oldest = snapshot().oldest_due
    assert oldest is not None
    assert oldest < 120


def test_a_page_is_bounded_whatever_its_messages_hold(django_assert_num_queries: Any) -> None:
    """A hundred rows of 2.4 MB were a page of 228 MB."""
    long, short = "ü" * 2_400_000, "api.example.com expires in 7 days"
    for message in (long, long, short):
        factories.pending(message=message)
    with django_assert_num_queries(1):
        page = NotificationEvent.objects.order_by("created_at").in_page(100)
        lengths = [len(event.message) for event in page]
    assert max(lengths) * 100 <= 2 * 1024 * 1024
    assert page[2].message == short
