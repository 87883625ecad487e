"""Section 2 of the contract, rule by rule, through real sweeps.

Where the wire matters the other side is a real HTTP server; elsewhere a scripted notifier, configured
the way a site configures its own.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.test import override_settings
from django.utils import timezone

from notifications import conf, delivery
from notifications.database import database_now
from notifications.engine import outcome as verdict
from notifications.engine.source import LEFT_TO_OTHERS
from notifications.exceptions import PermanentError, TransientError, TransitionRefused, UnknownOutcome
from notifications.models import (
    DeliveryAttempt,
    Hold,
    NotificationEvent,
    Requeue,
    Status,
    SweepKind,
    SweepRun,
)
from notifications.notifiers.base import Delivered
from notifications.queue.claim import Claimed
from notifications.queue.claim import claim as claim_from
from notifications.queue.reap import reap
from notifications.queue.record import Outcome
from notifications.queue.record import record as record_all
from notifications.queue.release import release
from tests import factories, renewals
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.receiver import DROP, HELD, Answer, HttpReceiver
from tests.scripted import Script, ScriptedSyncNotifier, channel
from tests.settings import TEST_DATABASE

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.get_default_timezone())
LEASE = timedelta(minutes=2)
OVERLOADED = TransientError("HTTP 503: overloaded", status=503)
INVALID = PermanentError("HTTP 400: invalid", status=400)


def at(now: datetime) -> Any:
    return lambda: now


def fresh(event: NotificationEvent) -> NotificationEvent:
    event.refresh_from_db()
    return event


def make_due(event: NotificationEvent) -> None:
    """Let the wait be over, the notification's own and its endpoint's."""
    NotificationEvent.objects.filter(pk=event.pk, status="failed").update(next_retry_at=ago(seconds=1))
    Hold.objects.all().delete()


def sweep_to_the_end(event: NotificationEvent, most: int = 10) -> None:
    """Sweep until nothing is left to do for the event; a sweep too many changes nothing."""
    delivery.send_pending()
    for _ in range(most):
        make_due(event)
        delivery.retry_failed()
    event.refresh_from_db()


def everything() -> list[tuple[Any, ...]]:
    """The whole table, to see that nothing changed."""
    return list(NotificationEvent.objects.order_by("pk").values_list())


def attempts(event: NotificationEvent) -> list[DeliveryAttempt]:
    return list(DeliveryAttempt.objects.filter(notification=event))


# Rule 1


def test_rule_01_an_attempts_number_is_retry_count_plus_one_and_five_are_all(webhook: HttpReceiver) -> None:
    webhook.always(503)
    event = factories.pending()
    sweep_to_the_end(event)
    assert [attempt.number for attempt in attempts(event)] == [1, 2, 3, 4, 5]
    assert webhook.ids == [event.pk] * 5
    assert event.status == Status.DEAD


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_rule_01_the_budget_is_a_setting(webhook: HttpReceiver, configure: Configure, budget: int) -> None:
    configure(MAX_ATTEMPTS=budget)
    webhook.always(503)
    event = factories.pending()
    sweep_to_the_end(event)
    assert len(webhook.requests) == budget
    assert (event.status, event.retry_count) == (Status.DEAD, budget - 1)


# Rule 2

ENDINGS = [(200, Status.SENT), (503, Status.FAILED), (404, Status.FAILED), (400, Status.DEAD)]


@pytest.mark.parametrize(("status", "becomes"), ENDINGS)
@pytest.mark.parametrize("start", ["pending", "failed"])
def test_rule_02_first_attempts_and_retries_end_the_same_way(
    webhook: HttpReceiver, start: str, status: int, becomes: str
) -> None:
    event = getattr(factories, start)()
    before = event.retry_count
    webhook.always(status)
    {"pending": delivery.send_pending, "failed": delivery.retry_failed}[start]()
    assert fresh(event).status == becomes
    assert event.retry_count == before + (becomes == Status.FAILED)
    assert (event.next_retry_at is not None) == (becomes == Status.FAILED)
    assert event.leased_until is None


def test_rule_02_no_failure_leaves_a_row_unscheduled(webhook: HttpReceiver) -> None:
    for answer in (500, 502, 503, 404, 429, 408, 302, 418, DROP):
        webhook.always(answer)
        make_due(factories.pending())
        delivery.send_pending()
    assert NotificationEvent.objects.failed().count() == 9
    assert not NotificationEvent.objects.stranded().exists()


# Rule 3


@pytest.mark.parametrize(("retry_count", "minutes"), [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_rule_03_transient_failure_backs_off_1_2_4_8_minutes(
    webhook: HttpReceiver, retry_count: int, minutes: int
) -> None:
    webhook.always(Answer(503, body="upstream is down"))
    event = factories.failed(retry_count=retry_count, due_at=NOW - timedelta(hours=1))
    delivery.retry_failed(clock=at(NOW))
    assert fresh(event).status == Status.FAILED
    assert event.retry_count == retry_count + 1
    assert event.next_retry_at == NOW + timedelta(minutes=minutes)
    assert event.last_error == "HTTP 503: upstream is down"


def test_rule_03_a_first_failure_waits_one_minute(webhook: HttpReceiver) -> None:
    webhook.always(503)
    event = factories.pending()
    delivery.send_pending(clock=at(NOW))
    assert (fresh(event).retry_count, event.next_retry_at) == (1, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [("30", 60, 60), ("600", 600, 660), ("7200", 3600, 3600), ("-5", 60, 60), ("soon", 60, 60)],
    ids=["shorter", "longer", "beyond the cap", "negative", "nonsense"],
)
def test_rule_03_a_longer_retry_after_wins_up_to_the_cap(
    webhook: HttpReceiver, retry_after: str, least: int, most: int
) -> None:
    webhook.always(Answer(429, headers={"Retry-After": retry_after}))
    event = factories.pending()
    delivery.send_pending(clock=at(NOW))
    wait = fresh(event).next_retry_at - NOW
    assert timedelta(seconds=least) <= wait <= timedelta(seconds=most)


def test_rule_03_the_wait_is_capped(script: Script, configure: Configure) -> None:
    configure(MAX_ATTEMPTS=50, BACKOFF_CAP=timedelta(hours=1))
    script.otherwise = OVERLOADED
    event = factories.failed(retry_count=40, due_at=NOW)
    delivery.retry_failed(clock=at(NOW))
    assert (fresh(event).retry_count, event.next_retry_at) == (41, NOW + timedelta(hours=1))


def test_rule_03_retry_count_is_added_in_the_database_not_from_a_value_read_earlier() -> None:
    event = factories.failed(retry_count=1)
    [held] = claim()
    NotificationEvent.objects.filter(pk=event.pk).update(retry_count=3)
    record(held, OVERLOADED)
    assert fresh(event).retry_count == 4


# Rule 4


def test_rule_04_the_last_transient_failure_kills_and_keeps_the_evidence(webhook: HttpReceiver) -> None:
    webhook.always(Answer(503, body="still down"))
    event = factories.failed(retry_count=4)
    result = delivery.retry_failed()
    assert (result.dead, result.rescheduled) == (1, 0)
    assert (fresh(event).status, event.retry_count, event.next_retry_at) == (Status.DEAD, 4, None)
    assert event.last_error == "HTTP 503: still down"


@pytest.mark.parametrize("retry_count", range(5))
def test_rule_04_a_permanent_failure_kills_on_any_attempt(webhook: HttpReceiver, retry_count: int) -> None:
    webhook.always(Answer(422, body="unknown template"))
    event = factories.failed(retry_count=retry_count)
    delivery.retry_failed()
    assert (fresh(event).status, event.retry_count, event.next_retry_at) == (Status.DEAD, retry_count, None)
    assert event.last_error.startswith("HTTP 422: unknown template")
    assert [attempt.outcome for attempt in attempts(event)] == ["permanent"]


# Rule 5


def test_rule_05_success_keeps_the_count_and_the_last_error(webhook: HttpReceiver) -> None:
    event = factories.failed(retry_count=2, last_error="HTTP 503: earlier", due_at=NOW)
    result = delivery.retry_failed(clock=at(NOW))
    assert result.sent == 1
    assert (fresh(event).status, event.sent_at, event.next_retry_at) == (Status.SENT, NOW, None)
    assert (event.retry_count, event.last_error, event.error) == (2, "HTTP 503: earlier", None)
    [attempt] = attempts(event)
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.error) == (3, "sent", 200, None)


# Rule 6


def test_rule_06_a_channel_without_a_notifier_becomes_sent_and_says_that_nothing_was(
    webhook: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    event = factories.pending(channel="Pager", created_at=NOW - LEFT_TO_OTHERS)
    result = delivery.send_pending(clock=at(NOW))
    assert (result.no_notifier, result.sent) == (1, 0)
    assert (fresh(event).status, event.sent_at) == (Status.SENT, NOW)
    assert "nothing was delivered" in event.error
    assert [attempt.outcome for attempt in attempts(event)] == ["no_notifier"]
    assert [r.levelname for r in caplog.records if event.pk in r.getMessage()] == ["WARNING"]
    assert not webhook.requests


def test_rule_06_or_it_dies_where_the_setting_says_so(configure: Configure) -> None:
    configure(CHANNELS={}, MISSING_NOTIFIER="dead")
    event = factories.failed(channel="Pager", retry_count=2, due_at=ago(minutes=10))
    result = delivery.retry_failed()
    assert (result.dead, result.no_notifier) == (1, 0)
    assert (fresh(event).status, event.retry_count, event.next_retry_at) == (Status.DEAD, 2, None)
    assert "Pager has no notifier" in event.last_error


@pytest.mark.parametrize("then", ["sent", "dead"])
@pytest.mark.parametrize("kind", SweepKind)
def test_rule_06_it_is_left_to_workers_that_have_the_channel_for_a_while(
    kind: SweepKind, then: str, configure: Configure
) -> None:
    """Two workers with different channels: the one without a notifier looks first, and takes nothing."""
    configure(CHANNELS={}, MISSING_NOTIFIER=then)
    if kind == SweepKind.PENDING:
        event = factories.pending(channel="Webhook", created_at=NOW)
    else:
        event = factories.failed(channel="Webhook", due_at=NOW)
    soon = at(NOW + LEFT_TO_OTHERS - timedelta(seconds=1))
    before = everything()
    assert delivery.sweep(kind, clock=soon).claimed == 0
    assert everything() == before
    script = Script()
    with override_settings(NOTIFICATIONS={"CHANNELS": {"webhook": channel(script)}}):
        assert delivery.sweep(kind, clock=soon).sent == 1
    assert script.ids == [event.pk]


@pytest.mark.parametrize("kind", SweepKind)
def test_rule_06_a_site_of_one_worker_is_done_with_it_after_that_while(
    kind: SweepKind, configure: Configure
) -> None:
    configure(CHANNELS={})
    event = factories.pending(created_at=NOW)
    if kind == SweepKind.RETRY:
        event = factories.failed(due_at=NOW)
    assert delivery.sweep(kind, clock=at(NOW + LEFT_TO_OTHERS)).no_notifier == 1
    assert fresh(event).not_delivered


def test_rule_06_a_requeued_one_is_left_to_others_again(script: Script) -> None:
    event = factories.not_delivered(created_at=ago(days=1))
    event.requeue(by="ada")
    assert delivery.send_pending().claimed == 0
    assert delivery.send_pending(clock=at(ahead(minutes=11))).no_notifier == 1


@pytest.mark.parametrize("spelling", ["webhook", "WEBHOOK", "wEbHoOk"])
def test_rule_06_channels_match_without_regard_to_case(webhook: HttpReceiver, spelling: str) -> None:
    event = factories.pending(channel=spelling)
    assert delivery.send_pending().sent == 1
    assert webhook.ids == [event.pk]


# Rule 7


@pytest.mark.parametrize("start", ["dead", "failed", "stranded"])
def test_rule_07_requeue_gives_a_fresh_budget_and_keeps_what_it_wiped(start: str) -> None:
    event = getattr(factories, start)(last_error="HTTP 503: gone dark")
    before = (event.status, event.retry_count, event.last_error)
    event.requeue(by="alice", via="admin")
    assert (event.status, event.retry_count) == (Status.PENDING, 0)
    assert (event.next_retry_at, event.last_error, event.leased_until) == (None, None, None)
    evidence = Requeue.objects.get(notification=event)
    assert (evidence.by, evidence.via) == ("alice", "admin")
    assert (evidence.status, evidence.retry_count, evidence.last_error) == before


@pytest.mark.parametrize(
    ("start", "why"), [("sent", "delivered"), ("read", "seen"), ("pending", "next sweep")]
)
def test_rule_07_requeue_is_refused_with_the_reason(start: str, why: str) -> None:
    event = getattr(factories, start)()
    before = everything()
    with pytest.raises(TransitionRefused, match=f"cannot requeue notification {event.pk}: .*{why}"):
        event.requeue(by="alice")
    assert everything() == before
    assert not Requeue.objects.exists()


def test_rule_07_what_had_no_notifier_was_not_delivered_and_can_be_requeued(script: Script) -> None:
    event = factories.not_delivered(created_at=ago(days=1))
    said = event.error
    assert event.not_delivered
    event.requeue(by="alice", via="admin")
    assert (event.status, event.retry_count, event.error, event.sent_at) == (Status.PENDING, 0, None, None)
    evidence = Requeue.objects.get(notification=event)
    assert (evidence.status, evidence.last_error) == (Status.SENT, said)
    with override_settings(NOTIFICATIONS={"CHANNELS": {"Pager": channel(script)}}):
        assert delivery.send_pending().sent == 1
    assert (fresh(event).status, event.error, event.not_delivered) == (Status.SENT, None, False)
    with pytest.raises(TransitionRefused, match="it was delivered"):
        event.requeue(by="alice")


def test_rule_07_an_error_alone_does_not_make_a_sent_one_undelivered() -> None:
    """certctl's rows may have one; and what certctl requeued keeps ours."""
    foreign = factories.sent(error="nothing was delivered: says certctl")
    later = factories.not_delivered()
    factories.attempt(later, "sent", started_at=ago(seconds=1), error=None)
    read = factories.not_delivered()
    read.mark_read(by="bob")
    for event in (foreign, later, read):
        assert not event.not_delivered
        with pytest.raises(TransitionRefused):
            event.requeue(by="alice")
    assert NotificationEvent.objects.all().requeue(by="alice") == (0, 3)


@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_rule_07_requeue_is_refused_while_an_attempt_is_running(status: str) -> None:
    event = factories.leased(status=status)
    before = everything()
    with pytest.raises(TransitionRefused, match="an attempt is running"):
        event.requeue(by="alice")
    assert everything() == before


def test_rule_07_requeue_after_its_worker_died_puts_the_lost_attempt_on_record() -> None:
    event = factories.lost(retry_count=2)
    event.requeue(by="alice")
    [lost] = attempts(event)
    assert (event.status, lost.outcome, lost.number) == (Status.PENDING, "interrupted", 3)


def test_rule_07_a_requeued_notification_is_sent_by_the_next_pending_sweep(webhook: HttpReceiver) -> None:
    event = factories.dead()
    event.requeue(by="alice")
    assert delivery.send_pending().sent == 1
    assert fresh(event).status == Status.SENT
    assert [attempt.number for attempt in attempts(event)] == [1]


# Rule 8


@pytest.mark.parametrize("start", ["sent", "dead"])
def test_rule_08_what_was_delivered_or_given_up_can_be_marked_read(start: str) -> None:
    event = getattr(factories, start)()
    event.mark_read(by="alice")
    assert fresh(event).status == Status.READ


@pytest.mark.parametrize("start", ["pending", "failed", "stranded", "leased"])
def test_rule_08_reading_never_cancels_a_delivery(start: str) -> None:
    event = getattr(factories, start)()
    before = everything()
    with pytest.raises(TransitionRefused, match=r"cannot mark read .*(not delivered yet|running)"):
        event.mark_read(by="alice")
    assert everything() == before


# Rule 9


def test_rule_09_the_retry_sweep_takes_exactly_what_is_due(script: Script) -> None:
    due = factories.failed(due_at=NOW, retry_count=4)
    factories.failed(due_at=NOW + timedelta(microseconds=1))
    factories.stranded()
    factories.leased(until=NOW + LEASE)
    factories.failed(due_at=NOW, leased_until=NOW + LEASE)
    factories.one_of_each(next_retry_at=NOW - timedelta(days=1)).pop("failed").delete()
    delivery.retry_failed(clock=at(NOW))
    assert script.ids == [due.pk]


def test_rule_09_oldest_next_retry_at_first_and_no_more_than_the_limit(script: Script) -> None:
    events = [factories.failed(due_at=ago(minutes=minutes)) for minutes in (3, 5, 1, 4, 2)]
    assert delivery.retry_failed(limit=3).claimed == 3
    assert set(script.ids) == {events[1].pk, events[3].pk, events[0].pk}
    delivery.retry_failed(limit=1)
    assert script.ids[3] == events[4].pk


def test_rule_09_within_a_sweep_too_the_oldest_go_first(script: Script) -> None:
    minutes = (3, 9, 1, 7, 5, 2, 8, 4, 6)
    events = {m: factories.failed(due_at=ago(minutes=m)) for m in minutes}
    delivery.retry_failed(concurrency=1)
    assert script.ids == [events[m].pk for m in sorted(minutes, reverse=True)]


def test_rule_09_due_rows_without_budget_die_unsent(script: Script) -> None:
    spent = factories.failed(retry_count=5, last_error="HTTP 503: the last of five")
    silent = factories.failed(retry_count=9, last_error=None)
    later = factories.failed(retry_count=5, due_at=ahead(minutes=5))
    result = delivery.retry_failed()
    assert (result.claimed, result.dead) == (0, 2)
    assert not script.messages
    assert (fresh(spent).status, spent.retry_count, spent.next_retry_at) == (Status.DEAD, 5, None)
    assert spent.last_error == "HTTP 503: the last of five"
    assert "no attempt left" in fresh(silent).last_error
    assert fresh(later).status == Status.FAILED


def test_rule_09_a_lowered_budget_buries_what_it_leaves_without_an_attempt(script: Script) -> None:
    event = factories.failed(retry_count=2)
    assert delivery.retry_failed(max_attempts=2).dead == 1
    assert (fresh(event).status, script.messages) == (Status.DEAD, [])


def test_rule_09_stranded_rows_are_taken_only_when_asked_for(script: Script) -> None:
    event = factories.stranded()
    assert delivery.retry_failed().claimed == 0
    assert NotificationEvent.objects.stranded().get() == event
    assert delivery.retry_failed(include_unscheduled=True).sent == 1
    assert fresh(event).status == Status.SENT


def test_rule_09_a_stranded_row_that_fails_again_is_scheduled(script: Script) -> None:
    script.otherwise = OVERLOADED
    event = factories.stranded()
    delivery.retry_failed(include_unscheduled=True, clock=at(NOW))
    assert (fresh(event).retry_count, event.next_retry_at) == (1, NOW + timedelta(minutes=1))


# Rule 10


def claim(
    now: datetime | None = None, kind: str = "retry", count: int = 10, lease: timedelta = LEASE
) -> list[Claimed]:
    """What a worker does first."""
    now = now or database_now()
    return claim_from(
        delivery.due(kind, NotificationEvent.objects.all(), now, 5), count, now=now, lease=lease
    )


def record(event: Claimed, answer: Any, now: datetime | None = None, worker: str = "b:2") -> bool:
    """What a worker does last: whether its outcome was taken."""
    now = now or database_now()
    outcome: Outcome = verdict.decide(event, answer, conf.current(), now, 1, jitter=lambda: 0.0)
    return bool(record_all([outcome], now=now, worker=worker).written)


def test_rule_10_a_claimed_row_is_nobody_elses_until_the_lease_ends() -> None:
    event = factories.failed(due_at=NOW)
    [held] = claim(NOW)
    assert held.leased_until == NOW + LEASE
    assert claim(NOW + LEASE - timedelta(microseconds=1)) == []
    assert fresh(event).leased_until == held.leased_until


def test_rule_10_claiming_hides_a_failed_row_from_a_certctl_that_knows_no_leases() -> None:
    event = factories.failed(due_at=NOW)
    claim(NOW)
    assert certctl_sees(NOW + LEASE - timedelta(seconds=1)) == []
    assert certctl_sees(NOW + LEASE) == [event.pk]


def certctl_sees(now: datetime) -> list[str]:
    """certctl's own retry query."""
    value = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM notification_events WHERE status = 'failed' AND next_retry_at IS NOT NULL"
            " AND next_retry_at <= %s AND retry_count < 5",
            [value],
        )
        return [pk for (pk,) in cursor.fetchall()]


def test_rule_10_a_claimed_pending_row_stays_pending_and_unscheduled() -> None:
    event = factories.pending()
    claim(kind="pending")
    assert (fresh(event).status, event.next_retry_at) == (Status.PENDING, None)
    assert claim(kind="pending") == []


@pytest.mark.parametrize("microsecond", [0, 1, 499_999, 999_999])
def test_rule_10_what_is_claimed_is_what_the_table_says(microsecond: int) -> None:
    event = factories.failed(
        created_at=NOW.replace(microsecond=microsecond),
        message='\N{SNOWMAN} {"a": \\0}',
        certificate_id=None,
        retry_count=3,
    )
    [held] = claim()
    fresh(event)
    told = {"interrupted": 0, "due_at": event.created_at, "answered": {}, "opened": (), "traced": ""}
    written = {name: getattr(event, name) for name in held._fields if name not in told}
    assert held._asdict() == written | told


def test_rule_10_a_time_beyond_the_calendar_does_not_keep_the_others_back() -> None:
    odd, event = factories.failed(), factories.failed()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notification_events SET created_at = 'infinity' WHERE id = %s", [odd.pk])
    held = claim()
    assert {row.id for row in held} == {odd.pk, event.pk}
    assert all(record(row, Delivered()) for row in held)


def test_rule_10_recording_clears_the_lease() -> None:
    event = factories.failed()
    [held] = claim()
    assert record(held, OVERLOADED)
    assert fresh(event).leased_until is None


def test_rule_10_a_second_record_of_the_same_claim_is_refused() -> None:
    event = factories.failed()
    [held] = claim()
    at = database_now()
    assert record(held, OVERLOADED, at)
    before = everything()
    record(held, INVALID, at)
    assert everything() == before
    assert len(attempts(event)) == 1


def test_rule_10_a_late_worker_cannot_overwrite_what_happened_after_its_lease() -> None:
    event = factories.failed(due_at=NOW, retry_count=1)
    [late] = claim(NOW)
    end = NOW + LEASE
    reap(NotificationEvent.objects.all(), now=end, max_attempts=5, limit=10)
    [current] = claim(end)
    before = everything()
    assert not record(late, Delivered(200), end)
    assert everything() == before
    assert record(current, OVERLOADED, end)
    assert fresh(event).retry_count == 3
    # What the receiver accepted is on record, whatever the row says.
    assert [attempt.outcome for attempt in attempts(event)] == ["interrupted", "sent", "transient"]


@pytest.mark.parametrize("verb", ["requeued", "deleted", "sent by certctl"])
def test_rule_10_a_late_record_changes_nothing_when_the_row(verb: str) -> None:
    event = factories.failed(due_at=ago(minutes=5))
    [late] = claim(ago(minutes=4))
    match verb:
        case "requeued":
            event.requeue(by="alice")
        case "deleted":
            NotificationEvent.objects.filter(pk=event.pk).delete()
        case "sent by certctl":
            NotificationEvent.objects.filter(pk=event.pk).update(status="sent", sent_at=ago(seconds=3))
    before, history = everything(), DeliveryAttempt.objects.count()
    assert not record(late, INVALID)
    assert everything() == before
    assert DeliveryAttempt.objects.count() == history + (verb != "deleted")


def test_rule_10_a_dead_workers_row_is_due_again_and_the_lost_attempt_counts(script: Script) -> None:
    event = factories.lost(retry_count=1)
    result = delivery.retry_failed()
    assert (result.claimed, result.sent) == (1, 1)
    assert fresh(event).retry_count == 2
    assert [(a.number, a.outcome) for a in attempts(event)] == [(2, "interrupted"), (3, "sent")]


def test_rule_10_a_lost_first_attempt_is_failed_and_scheduled(script: Script) -> None:
    event = factories.lost(status=Status.PENDING)
    delivery.send_pending()
    assert (fresh(event).status, event.retry_count) == (Status.FAILED, 1)
    assert event.next_retry_at <= timezone.now()
    assert "interrupted" in event.last_error


def test_rule_10_a_notification_that_kills_its_worker_dies_on_its_fifth_attempt() -> None:
    event = factories.failed(retry_count=0, due_at=NOW)
    now, claims = NOW, 0
    while claim(now):
        claims += 1
        assert claims <= 5
        now += LEASE
        reap(NotificationEvent.objects.all(), now=now, max_attempts=5, limit=10)
    assert (fresh(event).status, event.retry_count, claims) == (Status.DEAD, 4, 5)
    assert [(a.number, a.outcome) for a in attempts(event)] == [(n, "interrupted") for n in range(1, 6)]


def test_rule_10_releasing_spends_nothing() -> None:
    failed, pending = factories.failed(retry_count=2), factories.pending()
    now = database_now()
    held = claim(now) + claim(now, kind="pending")
    assert release(held, due_at=now).rows == 2
    assert (fresh(failed).status, failed.retry_count, failed.next_retry_at) == (Status.FAILED, 2, now)
    assert (fresh(pending).status, pending.next_retry_at, pending.leased_until) == (
        Status.PENDING,
        None,
        None,
    )
    assert not DeliveryAttempt.objects.exists()


def test_rule_10_a_late_release_takes_nothing_from_the_present_holder() -> None:
    factories.failed(due_at=NOW)
    late = claim(NOW)
    reap(NotificationEvent.objects.all(), now=NOW + LEASE, max_attempts=5, limit=10)
    claim(NOW + LEASE)
    before = everything()
    assert release(late, due_at=NOW).rows == 0
    assert everything() == before


if TEST_DATABASE == "postgresql":  # SQLite has no clock but the machine's

    def test_rule_10_leases_end_by_the_databases_clock_not_the_workers(script: Script) -> None:
        event = factories.leased()
        with time_machine.travel(ahead(hours=1)):
            result = delivery.retry_failed()
        assert (result.claimed, result.dead, fresh(event).retry_count) == (0, 0, 1)


@pytest.mark.django_db(transaction=True)
def test_rule_10_no_transaction_is_open_while_something_is_sent(webhook: HttpReceiver) -> None:
    seen: list[bool] = []

    def look(request: Any) -> Answer:
        with ThreadPoolExecutor(1) as elsewhere:
            seen.append(elsewhere.submit(a_writer_could_write).result())
        return Answer()

    webhook.answer = look
    factories.failed()
    assert delivery.retry_failed().sent == 1
    assert seen == [True]


def a_writer_could_write() -> bool:
    """From another connection: whether every row can be locked at once."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            if other.vendor == "postgresql":
                cursor.execute("SET lock_timeout = '100ms'")
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
                )
                if cursor.fetchone()[0]:
                    return False
            else:
                cursor.execute("PRAGMA busy_timeout = 100")
            cursor.execute("UPDATE notification_events SET message = message")
            return bool(cursor.rowcount)
    except DatabaseError:
        return False
    finally:
        other.close()


# Rule 11


@pytest.mark.parametrize("recipient", ["ops", "URL"])
def test_rule_11_every_attempt_carries_the_same_key(webhook: HttpReceiver, recipient: str) -> None:
    webhook.script(503, DROP, 429)
    event = factories.pending(recipient=webhook.url("/own") if recipient == "URL" else recipient)
    sweep_to_the_end(event)
    assert event.status == Status.SENT
    keys = {(r.headers["webhook-id"], r.headers["Idempotency-Key"]) for r in webhook.requests}
    assert (len(webhook.requests), keys) == (4, {(event.pk, event.pk)})


def test_rule_11_a_request_that_got_no_answer_is_repeated_and_marked_unknown(webhook: HttpReceiver) -> None:
    webhook.script(DROP)
    event = factories.pending()
    delivery.send_pending()
    [attempt] = attempts(event)
    assert (fresh(event).status, attempt.outcome, attempt.reason) == (Status.FAILED, "unknown", "unknown")
    assert "may have arrived" in event.last_error


# Rule 12


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even the error fails")


class HalfMade(TransientError):
    def __init__(self, text: str) -> None:
        """It forgets to call its base."""


def later(**oddities: Any) -> TransientError:
    return TransientError("busy", **oddities)


def changed_later(**oddities: Any) -> TransientError:
    error = TransientError("busy")
    vars(error).update(oddities)
    return error


STRANGE_ANSWERS = {
    "an exception": RuntimeError("boom"),
    "an exception without words": Odd(),
    "an error that is half made": HalfMade("busy"),
    "an error changed afterwards": changed_later(reason="sunspots", status="x", retry_after="soon"),
    "a group": ExceptionGroup("many", [ValueError("one"), KeyError("two")]),
    "a recursion": RecursionError(),
    "no memory": MemoryError(),
    "an end of the program": SystemExit(3),
    "a cancellation": __import__("asyncio").CancelledError(),
    "a timeout": TimeoutError(),
    "nothing": None,
    "a string": "ok",
    "a number": 200,
    "a class": object(),
    "an error that is returned as a dict": {"status": 500},
    "a strange status": later(status="overloaded"),
    "a huge status": later(status=10**12),
    "a strange reason": later(reason="because the moon is in the seventh house"),
    "a retry_after in words": later(retry_after="soon"),
    "a retry_after that is no number": later(retry_after=float("nan")),
    "an endless retry_after": later(retry_after=float("inf")),
    "a NUL in the error": TransientError("bad \x00 byte"),
    "half a character in the error": TransientError("bad \udc80 byte"),
    "a very long error": TransientError("x" * 1_000_000),
    "bytes as error": TransientError(b"\xff\x00"),  # type: ignore[arg-type]
    "a strange status of success": Delivered("created"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("notifier", ["async", "in a thread"])
@pytest.mark.parametrize("oddity", STRANGE_ANSWERS)
def test_rule_12_one_notifications_failure_never_stops_a_sweep(
    configure: Configure, oddity: str, notifier: str
) -> None:
    script = Script()
    entry = channel(script, ScriptedSyncNotifier) if notifier == "in a thread" else channel(script)
    configure(CHANNELS={"Webhook": entry})
    before, odd, after = [factories.failed(due_at=ago(minutes=m)) for m in (3, 2, 1)]
    script.answers[odd.pk] = STRANGE_ANSWERS[oddity]
    result = delivery.retry_failed(concurrency=1)
    assert (fresh(before).status, fresh(after).status) == (Status.SENT, Status.SENT)
    assert result.claimed == result.finished == 3
    assert fresh(odd).leased_until is None
    assert len(attempts(odd)) == 1


@pytest.mark.parametrize("oddity", [o for o in STRANGE_ANSWERS if "success" not in o])
def test_rule_12_what_a_faulty_notifier_does_is_a_failure_to_be_tried_again(
    script: Script, oddity: str
) -> None:
    event = factories.failed()
    script.otherwise = STRANGE_ANSWERS[oddity]
    delivery.retry_failed()
    assert (fresh(event).status, event.retry_count) == (Status.FAILED, 2)
    assert event.next_retry_at > timezone.now()
    assert event.last_error
    assert len(event.last_error) <= 2000


@pytest.mark.parametrize("retry_count", [-1, -7, 2**31 - 1])
@pytest.mark.parametrize("status", [Status.PENDING, Status.FAILED])
def test_rule_12_a_row_with_a_count_that_another_program_got_wrong_stops_nothing(
    script: Script, status: str, retry_count: int
) -> None:
    factories.notification(status, retry_count=retry_count, next_retry_at=ago(minutes=2))
    other = factories.notification(status, retry_count=0, next_retry_at=ago(minutes=1))
    script.otherwise = OVERLOADED
    delivery.sweep("pending" if status == Status.PENDING else "retry")
    assert (fresh(other).status, other.retry_count) == (Status.FAILED, 1)


def test_rule_12_a_lost_lease_on_such_a_row_stops_nothing(script: Script) -> None:
    factories.lost(retry_count=-7)
    factories.lost(status=Status.PENDING, retry_count=2**31 - 1)
    other = factories.failed()
    delivery.retry_failed()
    assert fresh(other).status == Status.SENT


@pytest.mark.parametrize("text", ["", " ", "{{ x }}{% y %}", "%s %(x)s {0}", "日本語 🔐 \u202e", "x" * 4_000])
def test_rule_12_odd_rows_are_delivered_as_they_are(webhook: HttpReceiver, text: str) -> None:
    event = factories.pending(message=text, certificate_id=text[:200])
    assert delivery.send_pending().sent == 1
    data = webhook.requests[0].json["data"]
    assert (data["id"], data["message"], data["certificate_id"]) == (event.pk, text, text[:200])


def test_rule_12_one_endpoints_hanging_never_delays_anothers_delivery(
    webhook: HttpReceiver, configure: Configure
) -> None:
    with HttpReceiver() as hanging:
        hanging.always(HELD)
        slow = [factories.failed(due_at=ago(hours=1), recipient=hanging.url()) for _ in range(8)]
        quick = [factories.failed() for _ in range(8)]

        def watch(so_far: delivery.SweepResult) -> None:
            if so_far.sent == len(quick):
                hanging.let_go()

        result = delivery.retry_failed(progress=watch)
    assert result.sent == len(slow) + len(quick), "the quick ones were recorded only after the slow ones"


def test_rule_12_a_dead_endpoints_backlog_is_not_a_queue_for_the_others(webhook: HttpReceiver) -> None:
    with HttpReceiver() as hanging:
        hanging.always(HELD)
        old = {"due_at": ago(hours=1), "recipient": hanging.url()}
        for _ in range(300):
            factories.failed(**old)
        quick = [factories.failed() for _ in range(5)]

        def watch(so_far: delivery.SweepResult) -> None:
            if so_far.sent == len(quick):
                hanging.let_go()

        delivery.retry_failed(progress=watch)
    states = NotificationEvent.objects.filter(pk__in=[event.pk for event in quick])
    assert set(states.values_list("status", flat=True)) == {Status.SENT}


@pytest.mark.parametrize("retry_after", [None, "5400", "999999999"])
def test_rule_12_one_refusal_puts_no_row_of_the_endpoint_off_for_longer_than_the_cap(
    webhook: HttpReceiver, retry_after: str | None
) -> None:
    webhook.always(Answer(429, headers={"Retry-After": retry_after} if retry_after else {}))
    events = [factories.failed(due_at=NOW) for _ in range(30)]
    delivery.retry_failed(clock=at(NOW), concurrency=1)
    cap = NOW + timedelta(hours=1)
    assert all(fresh(event).next_retry_at <= cap for event in events)
    assert len(webhook.requests) < len(events)
    assert all(hold.until <= cap for hold in Hold.objects.all())


# Rule 13


@pytest.mark.parametrize("kind", ["retry", "pending"])
def test_rule_13_a_failure_to_list_what_is_due_sends_nothing(script: Script, kind: str) -> None:
    factories.failed()
    factories.pending()
    with connection.execute_wrapper(refuse_to_list), pytest.raises(DatabaseError, match="cannot list"):
        delivery.sweep(kind)
    assert not script.messages
    assert not SweepRun.objects.exists()


def refuse_to_list(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """Between Django and the database: the claim fails."""
    if "RETURNING id, type" in sql:
        raise DatabaseError("cannot list")
    return execute(sql, params, many, context)


@pytest.mark.parametrize("command", ["retry_notifications", "send_notifications"])
@pytest.mark.django_db(transaction=True)
def test_rule_13_and_ends_the_command_with_exit_code_1(
    webhook: HttpReceiver,
    process_environment: dict[str, str],
    certctl_command: list[str],
    command: str,
) -> None:
    factories.failed()
    factories.pending()
    environment = {**process_environment, "CERTCTL_WEBHOOK_URL": webhook.url()}
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notification_events RENAME TO hidden")
        try:
            ran = subprocess.run(
                [*certctl_command, command], env=environment, capture_output=True, text=True, timeout=60
            )
        finally:
            cursor.execute("ALTER TABLE hidden RENAME TO notification_events")
    assert (ran.returncode, ran.stdout, webhook.requests) == (1, "", [])
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" not in ran.stderr


def test_rule_13_bad_settings_send_and_claim_nothing(configure: Configure) -> None:
    event = factories.failed()
    configure(CHANNELS={"Webhook": {"NOTIFIER": "no.such.Notifier"}})
    with pytest.raises(ImproperlyConfigured, match="channel Webhook"):
        delivery.retry_failed()
    assert fresh(event).leased_until is None


# What a sweep says of itself


def test_a_sweep_counts_every_row_once_and_leaves_a_record(script: Script) -> None:
    ok, busy, bad, last = (factories.failed(channel="Webhook") for _ in range(4))
    NotificationEvent.objects.filter(pk=last.pk).update(retry_count=4)
    missing = factories.failed(channel="Pager", due_at=ago(minutes=10))
    script.answers = {busy.pk: OVERLOADED, bad.pk: INVALID, last.pk: UnknownOutcome("no answer")}
    result = delivery.retry_failed()
    assert fresh(ok).status == fresh(missing).status == Status.SENT
    assert result.as_dict() | {"seconds": 0} == {
        "kind": "retry",
        "claimed": 5,
        "sent": 1,
        "rescheduled": 1,
        "dead": 2,
        "no_notifier": 1,
        "released": 0,
        "seconds": 0,
    }
    run = SweepRun.objects.get()
    assert (run.kind, run.claimed, run.sent, run.rescheduled, run.dead) == ("retry", 5, 1, 1, 2)
    assert run.worker
    assert run.started_at <= run.ended_at


def test_a_sweep_with_nothing_to_do_is_a_sweep_all_the_same(script: Script) -> None:
    assert delivery.retry_failed().claimed == 0
    assert SweepRun.objects.count() == 1


# 16. Withdraw


@pytest.mark.parametrize("make", [factories.pending, factories.failed, factories.dead])
def test_rule_16_an_expiry_alert_whose_certificate_was_renewed_since_is_withdrawn(make: Any) -> None:
    old = renewals.certificate()
    event, other = renewals.about(old, make=make), renewals.about(old, make=make, type="Revocation")
    assert NotificationEvent.objects.all().withdraw(by="ada") == (0, 2)
    new = renewals.renew(old)
    assert NotificationEvent.objects.all().withdraw(by="ada", via="cli") == (1, 1)
    event.refresh_from_db()
    other.refresh_from_db()
    assert (event.status, event.withdrawn, other.status) == ("read", True, make().status)
    assert f"renewed: serial {new.serial}, valid until " in event.withdrawals.get().reason


def test_rule_16_never_while_an_attempt_runs_or_once_it_is_delivered() -> None:
    old = renewals.certificate()
    running, delivered = (renewals.about(old, make=m) for m in (factories.leased, factories.sent))
    renewals.renew(old)
    for event, why in ((running, "an attempt is running"), (delivered, "it was delivered")):
        with pytest.raises(TransitionRefused, match=why):
            event.withdraw(by="ada")


def test_rule_16_before_each_attempt(script: Script) -> None:
    old = renewals.certificate()
    renewals.about(old)
    renewals.about(old, make=factories.failed)
    renewals.renew(old)
    assert [delivery.send_pending().withdrawn, delivery.retry_failed().withdrawn] == [1, 1]
    assert not script.ids
