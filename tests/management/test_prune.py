"""prune: what goes, what never goes, and at what size."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from notifications.models import DeliveryAttempt, NotificationEvent, Reading, Requeue, SweepRun, Tally
from tests import factories
from tests.factories import ago
from tests.management.support import Run
from tests.reporting.rows import swept, tally, this_hour

pytestmark = pytest.mark.django_db

OLD = {"created_at": ago(days=91)}
OLD_SENT = OLD | {"sent_at": ago(days=91)}


def left() -> set[str]:
    return set(NotificationEvent.objects.values_list("pk", flat=True))


def test_what_is_finished_and_old_goes_with_its_history(run: Run) -> None:
    gone = [factories.sent(**OLD_SENT), factories.read(**OLD_SENT), factories.read(**OLD, sent_at=None)]
    for event in gone:
        factories.attempt(event)
        event.requeues.create(by="a", via="cli", at=ago(days=91), status="dead", retry_count=0)
        event.readings.create(by="a", via="cli", at=ago(days=91), status="sent")
    kept = factories.sent(created_at=ago(days=89), sent_at=ago(days=89))
    factories.attempt(kept)
    ran = run("prune", "--older-than", "90d")
    assert (ran.code, ran.out) == (0, "3 notifications, 0 sweeps and 0 hourly tallies deleted\n")
    assert left() == {kept.pk}
    assert DeliveryAttempt.objects.count() == 1
    assert not Requeue.objects.exists()
    assert not Reading.objects.exists()


@pytest.mark.parametrize(
    "make",
    [factories.pending, factories.failed, factories.stranded, factories.dead, factories.leased],
)
def test_what_is_not_delivered_never_goes(run: Run, make: Callable[..., NotificationEvent]) -> None:
    event = make(**OLD)
    run("prune", "--older-than", "1d")
    assert left() == {event.pk}


def test_what_arrived_lately_is_not_old(run: Run) -> None:
    event = factories.sent(**OLD, sent_at=ago(days=1))
    run("prune", "--older-than", "90d")
    assert left() == {event.pk}


def test_one_status_only(run: Run) -> None:
    sent, read = factories.sent(**OLD_SENT), factories.read(**OLD_SENT)
    run("prune", "--older-than", "90d", "--status", "read")
    assert left() == {sent.pk}
    assert run("prune", "--older-than", "90d", "--status", " sent , read ", "--json").json == {
        "notifications": 1,
        "sweeps": 0,
        "tallies": 0,
        "dry_run": False,
    }
    assert read.pk not in left()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--older-than", "soon"),
        ("--older-than", "-1d"),
        ("--older-than", "2999-01-01"),
        ("--older-than", "90d", "--status", "dead"),
        ("--older-than", "90d", "--status", "pending"),
        ("--older-than", "90d", "--status", ""),
        ("--older-than", "90d", "--batch", "0"),
    ],
)
def test_prune_refuses_what_it_does_not_understand(run: Run, arguments: tuple[str, ...]) -> None:
    event = factories.dead(**OLD)
    assert run("prune", *arguments).code == 2
    assert left() == {event.pk}


def test_old_sweeps_and_hourly_tallies_go_too(run: Run) -> None:
    swept("retry", ago(days=91))
    kept = swept("retry", ago(days=89))
    tally("Email", "sent", attempts=7)
    tally("Email", "sent", hour=this_hour() - timedelta(days=91))
    tally("Email", "sent", hour=this_hour())
    ran = run("prune", "--older-than", "90d", "--json")
    assert ran.json == {"notifications": 0, "sweeps": 1, "tallies": 1, "dry_run": False}
    assert list(SweepRun.objects.all()) == [kept]
    assert Tally.objects.count() == 2  # the running hour, and all time


def test_the_running_hour_is_counted_on(run: Run) -> None:
    tally("Email", "sent", hour=this_hour())
    run("prune", "--older-than", "1s")
    assert Tally.objects.count() == 1


def test_a_dry_run_counts_and_deletes_nothing(run: Run) -> None:
    event = factories.sent(**OLD_SENT)
    swept("retry", ago(days=91))
    ran = run("prune", "--older-than", "90d", "--dry-run")
    assert ran.out == "1 notifications, 1 sweeps and 0 hourly tallies would be deleted; nothing was\n"
    assert left() == {event.pk}
    assert SweepRun.objects.count() == 1
