"""An endpoint that is down, as all sweeps see it: its rows wait, unattempted, for one probe."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from notifications import delivery
from notifications.database import database_now
from notifications.endpoints import holds
from notifications.endpoints.breaker import OnRecord, State
from notifications.engine.sweep import SweepResult
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, Status
from notifications.notifiers.base import Delivered, Endpoint, Message, Notifier
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.receiver import HELD, Answer, HttpReceiver
from tests.scripted import Script

pytestmark = pytest.mark.django_db

DOWN = TransientError("no connection", reason=Reason.NETWORK)
LONG = timedelta(hours=4)


def on_record() -> list[OnRecord]:
    return list(holds.read(now=database_now(), probe_for=timedelta(minutes=2), limit=LONG).held)


def fail_in_a_row(script: Script, of: int) -> None:
    """A sweep of so many rows, which holds their endpoint."""
    script.otherwise = DOWN
    for _ in range(of):
        factories.pending()
    delivery.send_pending(concurrency=1)


def expire() -> None:
    Hold.objects.update(until=ago(seconds=1))


def test_failures_in_a_row_hold_the_endpoint_for_the_next_sweep_too(script: Script) -> None:
    script.otherwise = DOWN
    for _ in range(30):
        factories.pending()
    first = delivery.send_pending(concurrency=1)
    assert first.rescheduled == len(script.messages) == 5
    hold = Hold.objects.get()
    assert (hold.reason, hold.channel, hold.error) == ("network", "Webhook", "no connection")
    assert delivery.send_pending().claimed == 0
    assert NotificationEvent.objects.pending().filter(retry_count=0, leased_until=None).count() == 25


def test_one_probe_opens_the_endpoint_again(script: Script) -> None:
    fail_in_a_row(script, of=30)
    script.otherwise = Script().otherwise
    expire()
    assert delivery.send_pending().sent == 25
    hold = Hold.objects.get()
    assert (hold.reopened_at is not None, hold.until > ahead(minutes=9)) == (True, True)


def test_a_probe_that_fails_costs_no_attempt_and_doubles_the_hold(script: Script) -> None:
    fail_in_a_row(script, of=30)
    expire()
    assert delivery.send_pending().rescheduled == 1
    hold = Hold.objects.get()
    assert hold.times == 2
    [probed] = NotificationEvent.objects.failed().filter(retry_count=0)
    assert probed.last_error == "no connection"
    assert hold.until - timedelta(seconds=1) < probed.next_retry_at <= hold.until
    assert [attempt.number for attempt in probed.deliveryattempts.all()] == [1]
    assert hold.until > ahead(seconds=50)


def test_of_two_workers_one_does_the_probe(script: Script) -> None:
    fail_in_a_row(script, of=10)
    expire()
    assert [hold.ours for hold in on_record()] == [True]
    assert [hold.ours for hold in on_record()] == [False]


def test_an_unused_probe_is_given_back(script: Script) -> None:
    fail_in_a_row(script, of=5)
    expire()
    assert delivery.send_pending().claimed == 0  # the five are failed now: nothing is pending
    assert [hold.ours for hold in on_record()] == [True]


def test_rows_do_not_wait_for_ever(script: Script) -> None:
    fail_in_a_row(script, of=20)
    Hold.objects.update(since=ago(hours=5), until=ahead(minutes=5))
    assert [hold.state for hold in on_record()] == [State.PAST_LIMIT]
    assert delivery.send_pending().rescheduled == 15


def test_retry_after_closes_the_recipients_own_door(webhook: HttpReceiver) -> None:
    """Two of twenty are told to wait: the others of that host are nobody's business but their own."""
    slow = {"/3", "/7"}
    webhook.answer = lambda request: (
        Answer(429, headers={"Retry-After": "600"}) if request.path in slow else Answer(200)
    )
    for n in range(20):
        for _ in range(2):
            factories.pending(recipient=webhook.url(f"/{n}"))
    result = delivery.send_pending(concurrency=1)
    assert (result.sent, result.rescheduled, len(webhook.requests)) == (36, 2, 38)
    assert {hold.recipient_prefix for hold in Hold.objects.filter(until__gt=ahead(seconds=590))} == {
        webhook.url(path) for path in slow
    }
    assert delivery.send_pending().claimed == 0


def test_retry_after_to_several_recipients_in_a_row_closes_the_host(webhook: HttpReceiver) -> None:
    webhook.answer = lambda request: Answer(429, headers={"Retry-After": "600"})
    for n in range(20):
        factories.pending(recipient=webhook.url(f"/{n}"))
    delivery.send_pending(concurrency=1)
    assert len(webhook.requests) == 3
    assert Hold.objects.get(exact=False).until > ahead(seconds=590)
    assert delivery.send_pending().claimed == 0


def test_a_closed_door_closes_one_recipient_of_a_host_that_serves_many(webhook: HttpReceiver) -> None:
    webhook.answer = lambda request: Answer(410 if request.path == "/gone" else 200)
    gone = [factories.pending(recipient=webhook.url("/gone"), created_at=ago(hours=1)) for _ in range(5)]
    for n in range(20):
        factories.pending(recipient=webhook.url(f"/{n}"))
    result = delivery.send_pending(concurrency=1)
    assert (result.sent, result.dead) == (20, 1)
    hold = Hold.objects.get()
    assert (hold.recipient_prefix, hold.exact, hold.reason) == (webhook.url("/gone"), True, "gone")
    assert delivery.send_pending().claimed == 0
    assert NotificationEvent.objects.pending().filter(pk__in=[e.pk for e in gone]).count() == 4


def test_a_hung_endpoint_does_not_delay_the_others(
    webhook: HttpReceiver, receiver: HttpReceiver, configure: Configure
) -> None:
    """The oldest rows all belong to an endpoint that accepts and never answers."""
    configure(SEND_TIMEOUT=timedelta(seconds=2), LEASE=timedelta(seconds=32))
    webhook.answer = lambda request: (
        HELD if "hung" in request.headers["Host"] or request.path == "/hung" else Answer()
    )
    hung_host = webhook.url("/hung").replace("127.0.0.1", "localhost")
    hung = [factories.pending(recipient=hung_host, created_at=ago(hours=1)) for _ in range(200)]
    healthy = {factories.pending(recipient=webhook.url("/ok")).pk for _ in range(100)}
    result = delivery.send_pending()
    assert result.sent == len(healthy)
    attempts = DeliveryAttempt.objects.order_by("started_at")
    first_unknown = attempts.filter(outcome="unknown").first()
    assert first_unknown is not None
    # All healthy ones were answered while the hung ones still waited for their timeout.
    last_sent = NotificationEvent.objects.filter(pk__in=healthy).order_by("-sent_at").first()
    assert last_sent is not None
    assert last_sent.sent_at < first_unknown.started_at + timedelta(seconds=2)
    assert attempts.filter(outcome="unknown").count() <= 10
    waiting = NotificationEvent.objects.filter(pk__in=[e.pk for e in hung], status=Status.PENDING)
    assert waiting.filter(retry_count=0, leased_until=None).count() >= 190


class SilentNotifier(Notifier):
    """Every recipient is an endpoint of its own, and some never answer."""

    def endpoint(self, message: Message) -> Endpoint:
        return Endpoint(message.recipient, self.name, message.recipient, exact=True)

    async def send(self, message: Message) -> Delivered:
        if message.recipient.startswith("silent"):
            await asyncio.sleep(3600)
        return Delivered()


@pytest.mark.parametrize("concurrency", [50, 100])
def test_twenty_hung_endpoints_do_not_delay_the_others(configure: Configure, concurrency: int) -> None:
    """Neither by what waits for them nor by what they have in flight."""
    configure(CHANNELS={"Own": {"NOTIFIER": f"{__name__}.{SilentNotifier.__qualname__}"}})
    for n in range(400):
        factories.pending(channel="Own", recipient=f"silent {n % 20}", created_at=ago(hours=2, seconds=-n))
    for _ in range(200):
        factories.pending(channel="Own", recipient="healthy")
    sent = 0

    def watch(result: SweepResult) -> None:
        nonlocal sent
        sent = result.sent

    def stop() -> bool:
        return sent == 200 or time.monotonic() > give_up

    give_up = time.monotonic() + 20  # the hung ones run out of time after 30 seconds
    result = delivery.send_pending(limit=1000, concurrency=concurrency, progress=watch, stop=stop, grace=0.0)
    assert result.sent == 200
    silent = NotificationEvent.objects.filter(recipient__startswith="silent")
    assert silent.filter(status="failed").count() == result.rescheduled <= concurrency * 3 // 4
    assert silent.filter(status="pending", leased_until=None).count() == 400 - result.rescheduled


def test_credentials_that_are_refused_hold_the_channel(script: Script) -> None:
    script.otherwise = PermanentError("401", reason=Reason.AUTH, advice="correct the key, then requeue")
    for _ in range(10):
        factories.pending()
    assert delivery.send_pending(concurrency=1).dead == 1
    assert NotificationEvent.objects.pending().count() == 9


@pytest.mark.parametrize("exact", [True, False])
def test_more_held_hosts_than_an_expression_may_have_terms(webhook: HttpReceiver, exact: bool) -> None:
    """SQLite's limit is a thousand; their rows wait, and what goes to an open host goes out."""
    now = database_now()
    urls = [f"https://host-{n}.example.com/{'hook' if exact else ''}" for n in range(1200)]
    Hold.objects.bulk_create(
        Hold(
            endpoint=f"webhook host-{n}",
            channel="Webhook",
            recipient_prefix=url,
            exact=exact,
            reason="network",
            error="no connection",
            since=now,
            until=now + timedelta(hours=1),
        )
        for n, url in enumerate(urls)
    )
    behind = [factories.pending(recipient=url.removesuffix("hook") + "hook") for url in urls[::40]]
    event = factories.pending(recipient=webhook.url())
    assert delivery.send_pending().sent == 1
    assert webhook.ids == [event.id]
    assert {NotificationEvent.objects.get(pk=row.pk).status for row in behind} == {"pending"}
