"""The digest of dead letters: what it says, when it is raised, and that it is raised once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from notifications import delivery
from notifications.conf import current
from notifications.deaths import follow as deaths
from notifications.engine.handover import HandOverSender
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options
from notifications.exceptions import PermanentError, TransientError
from notifications.models import Death, NotificationEvent, Status, SweepKind
from notifications.queue import digest
from notifications.queue.reap import bury
from tests import factories
from tests.breakage import refused_rows
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
EVENTS = NotificationEvent.objects
BUSY = TransientError("HTTP 503: busy")
DOWN = "HTTP 503: upstream is down, request {}"


@pytest.fixture
def script(configure: Configure) -> Script:
    """Slack, Email and PagerDuty, with a digest to PagerDuty every hour."""
    script = Script()
    configure(
        CHANNELS={name: channel(script) for name in ("Slack", "Email", "PagerDuty")},
        DIGEST={"TO": "pagerduty:pki", "INTERVAL": HOUR},
        ESCALATION={},
    )
    return script


def kill(number: int, at: datetime, name: str = "Slack", error: str = DOWN, **fields: Any) -> None:
    """As a sweep does that finds no attempt left."""
    for n in range(number):
        factories.failed(
            channel=name, retry_count=5, due_at=at, last_error=error.format(n), created_at=at, **fields
        )
    assert bury(EVENTS.all(), now=at, max_attempts=5, limit=1000) == number


def sweep(at: datetime, kind: str = "retry") -> None:
    delivery.sweep(kind, clock=lambda: at)


def digests() -> list[NotificationEvent]:
    return list(EVENTS.filter(type=deaths.DIGEST_TYPE).order_by("pk"))


def told(event: NotificationEvent) -> str:
    """Below the first line, which is the verdict."""
    return event.message.split("\n\n", 1)[1]


def test_it_says_how_many_died_where_and_of_what(script: Script, configure: Configure) -> None:
    configure(BASE_URL="https://certctl.example.com")
    kill(8, TEN)
    kill(1, TEN + timedelta(minutes=5), error="HTTP 404: no such channel")
    kill(3, TEN + timedelta(minutes=59), name="email", error="SMTP 550: mailbox full")
    sweep(TEN + HOUR)
    [event] = digests()
    assert (event.channel, event.recipient, event.certificate_id) == ("PagerDuty", "pki", None)
    assert event.status == Status.PENDING
    assert event.dedup_key == "digest:2026-03-01T11:00:00+00:00"
    assert event.message.splitlines()[0] == ("12 died in the last hour; 12 dead letters wait for a decision.")
    assert told(event).splitlines() == [
        "12 alerts died in the last hour, 9 of them on Slack: HTTP 503: upstream is down, request …",
        "",
        "9 on Slack, 8 of them: HTTP 503: upstream is down, request …",
        "3 on Email: SMTP 550: mailbox full",
        "",
        "From 2026-03-01 10:00 UTC to 2026-03-01 11:00 UTC. In the dead-letter queue now: 12, see "
        "https://certctl.example.com/admin/notifications/notificationevent/?status=dead",
    ]


@pytest.mark.parametrize("kind", ["pending", "retry"])
def test_sweeps_of_either_kind_raise_it(kind: str, script: Script) -> None:
    kill(1, TEN)
    sweep(TEN + HOUR, kind)
    assert told(digests()[0]).startswith("1 alert died in the last hour, on Slack: HTTP 503")


def test_a_sweep_that_hands_over_to_a_task_engine_raises_it(script: Script) -> None:
    kill(1, TEN)
    settings, options = current(), Options(limit=10, clock=lambda: TEN + HOUR)
    schedule = Schedule(DueRows(SweepKind.RETRY, settings, options))

    def handing_over(engine: Engine) -> HandOverSender:
        shared = (engine.database, engine.clock, engine.lanes)
        return HandOverSender(*shared, enqueue=print, settings=settings, patient=False)

    Engine(settings, options, [schedule], handing_over).run()
    assert len(digests()) == 1


def test_nothing_is_raised_when_nothing_died(script: Script) -> None:
    factories.dead()
    factories.failed(channel="Slack")
    for minutes in (0, 60, 120):
        sweep(TEN + timedelta(minutes=minutes))
    assert digests() == []


def test_nothing_is_raised_or_counted_without_the_setting(script: Script, configure: Configure) -> None:
    configure(DIGEST={})
    kill(1, TEN)
    sweep(TEN + HOUR)
    assert digests() == []
    assert not Death.objects.exists()


def test_it_waits_for_the_intervals_end_and_comes_once(script: Script) -> None:
    kill(2, TEN)
    sweep(TEN + timedelta(minutes=59, seconds=59))
    assert digests() == []
    for minutes in (60, 61, 90, 119, 120, 240):
        sweep(TEN + timedelta(minutes=minutes))
    assert len(digests()) == 1


def test_each_interval_has_its_own_and_no_death_is_told_twice(script: Script) -> None:
    for hours in range(3):
        kill(hours + 1, TEN + hours * HOUR)
        sweep(TEN + (hours + 1) * HOUR)
    said = [told(event).split(" in ")[0] for event in sorted(digests(), key=lambda e: str(e.dedup_key))]
    assert said == ["1 alert died", "2 alerts died", "3 alerts died"]


def test_deaths_that_no_sweep_came_to_tell_of_are_told_later(script: Script) -> None:
    """The site's cron was off from eleven to two."""
    kill(2, TEN + timedelta(minutes=30))
    kill(1, TEN + 3 * HOUR)
    sweep(TEN + 4 * HOUR + timedelta(minutes=10))
    [event] = digests()
    assert told(event).startswith("3 alerts died since 2026-03-01 10:00 UTC, all of them on Slack: ")


def test_what_is_recorded_late_is_for_the_next_one(script: Script) -> None:
    """Its record was on its way while the digest was raised."""
    kill(1, TEN)
    sweep(TEN + HOUR)
    kill(1, TEN + timedelta(minutes=59))
    for minutes in (1, 30, 59):
        sweep(TEN + HOUR + timedelta(minutes=minutes))
    assert len(digests()) == 1
    sweep(TEN + 2 * HOUR)
    assert len(digests()) == 2
    assert not Death.objects.exists()


@pytest.mark.parametrize(
    ("way", "number"),
    [
        ("permanent", 1),
        ("spent", 1),
        ("lost", 1),
        ("buried", 1),
        ("verb", 1),
        ("transient", 0),
        ("sent", 0),
    ],
)
def test_every_way_to_die_counts_and_nothing_else(way: str, number: int, script: Script) -> None:
    fields = {
        "spent": {"retry_count": 4},
        "buried": {"retry_count": 5},
        "lost": {"retry_count": 4, "leased_until": TEN - HOUR},
    }.get(way, {})
    event = factories.failed(channel="Slack", due_at=TEN - HOUR, **fields)
    answers = {
        "permanent": PermanentError("no"),
        "spent": TransientError("no"),
        "transient": TransientError("x"),
    }
    script.answers = {event.pk: answers[way]} if way in answers else {}
    if way == "verb":
        event.mark_as_dead("no")
    else:
        sweep(TEN)
    assert sum(Death.objects.values_list("notifications", flat=True)) == number


def test_a_digest_that_dies_makes_no_other(script: Script) -> None:
    kill(1, TEN)
    sweep(TEN + HOUR)
    script.otherwise = PermanentError("refused")
    for hours in range(1, 6):
        sweep(TEN + hours * HOUR, "pending")
        sweep(TEN + hours * HOUR, "retry")
    [event] = digests()
    assert event.status == Status.DEAD
    assert not Death.objects.exists()


def test_nor_does_its_escalation_in_a_world_where_all_dies(script: Script, configure: Configure) -> None:
    """One alert and one digest, each escalated along its chain, and then there is silence."""
    configure(ESCALATION={"Slack": "Email:a", "Email": "PagerDuty:b", "PagerDuty": "Slack:c"})
    script.otherwise = PermanentError("refused")
    factories.pending(channel="Slack", created_at=TEN)
    for hours in range(12):
        for kind in ("pending", "pending", "pending", "retry"):
            sweep(TEN + hours * HOUR, kind)
    assert EVENTS.exclude(type=deaths.DIGEST_TYPE).count() == 3
    assert EVENTS.filter(type=deaths.DIGEST_TYPE, dedup_key__startswith="digest:").count() == 1
    assert EVENTS.count() == EVENTS.dead().count() == 6


def test_what_went_wrong_is_logged_and_told_by_the_next_sweep(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    kill(2, TEN)
    with refused_rows("NEW.dedup_key LIKE 'digest:%'"):
        sweep(TEN + HOUR)
    assert "no digest of dead letters" in caplog.text
    assert digests() == []
    sweep(TEN + HOUR + timedelta(minutes=1))
    assert told(digests()[0]).startswith("2 alerts died in the last hour")


def test_deaths_that_cannot_be_counted_are_deaths_all_the_same(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notification_deaths RENAME TO gone")
    try:
        kill(2, TEN)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO notification_deaths")
    assert EVENTS.dead().count() == 2
    assert "2 deaths will be missing in the digest" in caplog.text


def test_two_workers_at_the_same_moment_raise_one(script: Script, transactional_db: None) -> None:
    kill(5, TEN)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait(10)
        digest.raise_due(current(), now=TEN + HOUR)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    [event] = digests()
    assert told(event).startswith("5 alerts")
    assert not Death.objects.exists()


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(hours=1), "hour"),
        (timedelta(days=1), "day"),
        (timedelta(days=7), "7 days"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(seconds=30), "30 seconds"),
        (timedelta(seconds=1), "second"),
        (timedelta(milliseconds=1500), "1.5 seconds"),
    ],
)
def test_an_interval_in_words(interval: timedelta, words: str) -> None:
    assert digest.in_words(interval) == words


def test_many_channels_are_cut() -> None:
    deaths_ = [Death(since=TEN, channel=f"c{n:02}", error="x", notifications=50 - n) for n in range(25)]
    lines = digest.text(deaths_, TEN + HOUR, HOUR, "1,225", "").splitlines()
    assert lines[0] == "950 alerts died in the last hour, 50 of them on c00: x"
    assert len(lines) == 25
    assert lines[22] == "140 on 5 other channels"
    assert lines[-1].endswith("In the dead-letter queue now: 1,225")


def test_as_many_channels_as_fit_are_not_cut_and_those_alike_stand_by_their_names() -> None:
    names = [f"c{n:02}" for n in range(20)]
    deaths_ = [Death(since=TEN, channel=name, error=f"e{name}", notifications=2) for name in reversed(names)]
    lines = digest.text(deaths_, TEN + HOUR, HOUR, "40", "").splitlines()
    assert lines[2:-2] == [f"2 on {name}: e{name}" for name in names]


@pytest.mark.parametrize(("dead", "said"), [(0, "0"), (2, "2"), (3, "more than 2"), (5, "more than 2")])
def test_the_dead_letter_queue_is_counted_up_to_a_number(
    dead: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "MOST_COUNTED", 2)
    for _ in range(dead):
        factories.dead()
    factories.sent()
    assert digest._queued() == said


def test_an_outsiders_text_stays_within_the_index(script: Script) -> None:
    """A provider says anything; PostgreSQL refuses an index entry of 2,704 bytes."""
    kill(1, TEN, name="\U0001f4a3" * 255, error=" ".join(["\U0001f4a3" * 39] * 16))
    assert len(Death.objects.get().error) <= deaths.LONGEST_ERROR
