"""What is renewed while a worker has it in hand is withdrawn, unless its attempt has begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from django.db import connection

from notifications import conf
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options, SweepResult
from notifications.models import DeliveryAttempt, NotificationEvent, NotificationQuerySet, SweepKind
from tests.engine.test_unheard import lost_once
from tests.fixtures import Configure
from tests.processes import eventually
from tests.receiver import HELD, HttpReceiver
from tests.renewals import about, certificate, renew

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects
COUNT, AT_ONCE = 12, 5  # alerts to one endpoint, and how many are under way before it has answered
Beside = Callable[[Callable[[], object]], "Future[None]"]


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


def deliver() -> SweepResult:
    """One sweep, by an engine that waits for a database that is away."""
    settings, options = conf.current(), Options(limit=100, patient=True)
    schedule = Schedule(DueRows(SweepKind.PENDING, settings, options))
    Engine(settings, options, [schedule]).run()
    assert schedule.result
    return schedule.result


def lose_an_answer(patch: pytest.MonkeyPatch) -> None:
    batch = lost_once(NotificationQuerySet.withdraw_batch)
    patch.setattr(NotificationQuerySet, "withdraw_batch", lambda *args, **options: batch(*args, **options))


@pytest.mark.parametrize("heard", [True, False])
def test_what_waits_for_its_turn_is_withdrawn_and_what_is_under_way_arrives(
    slow: HttpReceiver, beside: Beside, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    """Also where the answer to the withdrawal is lost on its way."""
    old = certificate()
    for _ in range(COUNT):
        about(old)

    def meanwhile() -> None:
        if not heard:
            lose_an_answer(monkeypatch)
        renew(old)
        eventually(lambda: EVENTS.filter(status="read").count() == COUNT - AT_ONCE, "withdrawals")

    happens = beside(meanwhile)
    result = deliver()
    happens.result()
    assert len(slow.requests) == AT_ONCE == DeliveryAttempt.objects.count()
    assert EVENTS.filter(status="sent", leased_until=None).count() == AT_ONCE
    assert EVENTS.filter(status="read", leased_until=None).count() == COUNT - AT_ONCE
    assert (result.sent, result.withdrawn) == (AT_ONCE, COUNT - AT_ONCE if heard else 0)


def test_where_nothing_is_to_be_withdrawn_all_arrive(beside: Beside, configure: Configure) -> None:
    configure(WITHDRAW_RENEWED=False)
    old = certificate()
    for _ in range(COUNT):
        about(old)
    happens = beside(lambda: renew(old))
    assert deliver().sent == COUNT
    happens.result()


def test_what_a_claim_withdrew_without_hearing_of_it_is_not_sent(
    webhook: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = certificate()
    event = about(old)
    renew(old)
    lose_an_answer(monkeypatch)
    assert deliver().sent == 0
    event.refresh_from_db()
    assert (event.status, event.leased_until, webhook.requests) == ("read", None, [])
