"""The snapshot says what the table says, and leaves out what it cannot have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from notifications import delivery
from notifications.models import AGES, NotificationEvent, Status
from notifications.reporting import parts
from notifications.reporting import snapshot as stats
from notifications.reporting.figures import Snapshot, quantile
from notifications.reporting.parts import AsOf
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.reporting.rows import WEBHOOK, held, swept, tally, this_hour
from tests.scripted import Script

EMPTY_PARTS = [name for name in Snapshot.__slots__ if name not in ("at", "estimated")]

pytestmark = pytest.mark.django_db


def test_an_empty_database_has_a_zero_for_everything(configure: Configure) -> None:
    configure(CHANNELS={"Slack": WEBHOOK, "Webhook": WEBHOOK})
    shown = stats.snapshot()
    assert shown.counts == dict.fromkeys(Status.values, 0)
    assert (shown.stranded, shown.oldest_due, shown.holds) == (0, 0.0, ())
    assert shown.dead_by_channel == {"Slack": 0, "Webhook": 0}
    assert shown.last_sweeps == {"pending": None, "retry": None}
    assert shown.attempts is not None
    assert list(shown.attempts) == ["Slack", "Webhook"]
    assert set(shown.attempts["Slack"].outcomes.values()) == {0}
    assert shown.traffic is not None
    assert shown.traffic["7d"].delivered == {"Slack": (0,) * 168, "Webhook": (0,) * 168}
    assert shown.traffic["24h"].median is None


def test_what_was_not_delivered_is_looked_for_among_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another program has left in `error`, a scrape looks at a bounded number of rows."""
    factories.not_delivered(created_at=ago(hours=2))
    factories.not_delivered(created_at=ago(hours=1))
    factories.sent(error="certctl's")
    factories.sent()
    assert stats.snapshot().not_delivered == 2
    monkeypatch.setattr("notifications.reporting.parts.MOST_WITH_AN_ERROR", 2)
    assert stats.snapshot().not_delivered == 1


def test_counts_by_status_and_stranded() -> None:
    factories.one_of_each()
    factories.dead()
    factories.stranded()
    shown = stats.snapshot()
    assert shown.counts == {"pending": 1, "failed": 2, "sent": 1, "dead": 2, "read": 1}
    assert shown.stranded == 1
    assert not shown.estimated


def test_the_dead_are_counted_under_the_channel_s_configured_name(configure: Configure) -> None:
    configure(CHANNELS={"Email": WEBHOOK, "Slack": WEBHOOK})
    for channel in ("email", "Email", "EMAIL", "Carrier Pigeon"):
        factories.dead(channel=channel)
    assert stats.snapshot().dead_by_channel == {"Email": 3, "Slack": 0, "Carrier Pigeon": 1}


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (lambda: factories.pending(created_at=ago(minutes=5)), 300),
        (lambda: factories.failed(due_at=ago(minutes=3), created_at=ago(days=1)), 180),
        (lambda: factories.leased(until=ago(minutes=2), created_at=ago(days=1)), 120),
        (lambda: factories.failed(due_at=ahead(minutes=3), created_at=ago(days=1)), 0),
        (lambda: factories.leased(until=ahead(minutes=1), status="pending", created_at=ago(days=1)), 0),
        (lambda: factories.sent(created_at=ago(days=1), leased_until=ago(days=1)), 0),
        (lambda: factories.stranded(created_at=ago(days=1)), 0),
        (lambda: factories.pending(created_at=ahead(days=1)), 0),
    ],
    ids=["pending", "retry", "lease over", "not yet", "in hand", "sent", "stranded", "from the future"],
)
def test_how_long_the_oldest_due_waits(make: Callable[[], NotificationEvent], seconds: float) -> None:
    make()
    assert stats.snapshot().oldest_due == pytest.approx(seconds, abs=30)


def test_the_oldest_due_is_the_oldest_of_all_kinds() -> None:
    factories.pending(created_at=ago(minutes=5))
    factories.failed(due_at=ago(minutes=30))
    factories.leased(until=ago(minutes=10))
    assert stats.snapshot().oldest_due == pytest.approx(1800, abs=30)


def test_the_last_sweep_of_each_kind() -> None:
    swept("retry", ago(hours=2))
    last = swept("retry", ago(hours=1))
    assert stats.snapshot().last_sweeps == {"pending": None, "retry": last}


def test_attempts_of_all_time(configure: Configure) -> None:
    configure(CHANNELS={"Email": WEBHOOK})
    tally("Email", "sent", attempts=10, milliseconds=4_000, took_0=6, took_2=3)
    tally("email", "sent", attempts=2, milliseconds=1_000, took_0=2)
    tally("Email", "interrupted", attempts=5, took_0=5)
    tally("Email", "sent", hour=this_hour(), attempts=10)
    attempts = (stats.snapshot().attempts or {})["Email"]
    assert (attempts.outcomes["sent"], attempts.outcomes["interrupted"]) == (12, 5)
    assert attempts.seconds == 5.0
    assert attempts.took == (8, 0, 3, 0, 0, 0, 1)


def test_traffic_of_the_last_hours(configure: Configure) -> None:
    configure(CHANNELS={"Email": WEBHOOK})
    hour = timedelta(hours=1)
    tally("Email", "sent", hour=this_hour(), attempts=3)
    tally("Email", "permanent", hour=this_hour(), attempts=1)
    tally("Email", "transient", hour=this_hour() - hour, attempts=2)
    tally("email", "sent", hour=this_hour() - 23 * hour, attempts=4)
    tally("Email", "sent", hour=this_hour() - 24 * hour, attempts=5)
    tally("Email", "sent", hour=this_hour() - 168 * hour, attempts=6)
    tally("Email", "sent", attempts=100)
    traffic = stats.snapshot().traffic or {}
    day, week = traffic["24h"], traffic["7d"]
    assert (day.hours[0], day.hours[-1]) == (this_hour() - 23 * hour, this_hour())
    assert day.delivered["Email"] == (4, *[0] * 22, 3)
    assert day.failed["Email"] == (*[0] * 22, 2, 1)
    assert sum(week.delivered["Email"]) == 12


def test_how_long_deliveries_took() -> None:
    tally("Email", "sent", hour=this_hour(), attempts=90, age_0=50, age_1=40)
    tally("Slack", "sent", hour=this_hour(), attempts=10, age_4=5, age_9=3)
    tally("Slack", "transient", hour=this_hour(), attempts=1000)
    day = (stats.snapshot().traffic or {})["24h"]
    assert day.median == pytest.approx(1.0)
    assert day.p95 == pytest.approx(120.0)


@pytest.mark.django_db(transaction=True)
def test_what_a_sweep_did_is_in_the_snapshot(script: Script) -> None:
    factories.pending(created_at=ago(seconds=20))
    delivery.send_pending()
    shown = stats.snapshot()
    assert shown.attempts is not None
    assert shown.attempts["Webhook"].outcomes["sent"] == 1
    assert sum(shown.attempts["Webhook"].took) == 1
    assert shown.traffic is not None
    assert shown.traffic["24h"].delivered["Webhook"][-1] == 1
    assert 10 <= (shown.traffic["24h"].median or 0) <= 30
    assert shown.last_sweeps is not None
    assert shown.last_sweeps["pending"] is not None
    assert shown.last_sweeps["pending"].sent == 1


def test_holds_without_the_recipients_that_can_be_secret() -> None:
    held("webhook https://hooks.example.com", recipient_prefix="https://hooks.example.com/s3cret", exact=True)
    shown = stats.snapshot()
    assert shown.holds is not None
    assert [hold.endpoint for hold in shown.holds] == ["webhook https://hooks.example.com"]
    assert "s3cret" not in str(stats.summary(shown))


def test_bad_settings_leave_the_numbers(configure: Configure) -> None:
    configure(NO_SUCH_SETTING=1)
    factories.dead(channel="Slack")
    assert stats.snapshot().dead_by_channel == {"Slack": 1}


# What cannot be had


@pytest.mark.parametrize("part", stats.PARTS, ids=lambda part: part.__name__)
def test_a_failing_part_is_left_out_and_takes_no_other_with_it(
    part: Callable[[AsOf], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(as_of: AsOf) -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        return {}

    expected = part(AsOf(timezone.now()))
    monkeypatch.setattr(stats, "PARTS", [fails if p is part else p for p in stats.PARTS])
    shown = stats.snapshot()
    missing = {name for name in EMPTY_PARTS if getattr(shown, name) is None}
    assert missing == set(expected) - {"estimated"}
    assert NotificationEvent.objects.count() == 0  # the caller's transaction is none the worse


def test_without_a_database_every_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(using: str) -> datetime:
        raise OperationalError("connection refused")

    monkeypatch.setattr(stats, "database_now", away)
    assert stats.snapshot() == Snapshot()
    assert stats.summary(stats.snapshot()) == {}


def test_no_part_begins_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ALL_SECONDS", -1.0)
    shown = stats.snapshot()
    assert shown == Snapshot(at=shown.at)


def test_a_scrape_leaves_out_what_it_does_not_show() -> None:
    shown = stats.snapshot(details=False)
    as_of = AsOf(timezone.now())
    details = {name for part in stats.DETAILS for name in part(as_of)}
    assert {name for name in EMPTY_PARTS if getattr(shown, name) is None} == details


# What it costs


def test_it_asks_a_bounded_number_of_questions(configure: Configure) -> None:
    def asked() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            stats.snapshot()
        return len(queries)

    before = asked()
    for n in range(20):
        configure(CHANNELS={f"Channel {m}": WEBHOOK for m in range(n + 1)})
        factories.dead(channel=f"Channel {n}")
        tally(f"Channel {n}", "sent", hour=this_hour())
        held(f"endpoint {n}")
    assert asked() == before <= 58


# Quantiles


def test_quantiles_of_nothing_and_beyond_the_last_bound() -> None:
    assert quantile(0.5, [0] * len(AGES), 0) is None
    assert quantile(0.5, [0] * len(AGES), 7) == AGES[-1]


@given(st.lists(st.integers(0, 1000), min_size=len(AGES), max_size=len(AGES)), st.integers(0, 1000))
def test_quantiles_lie_in_the_bucket_that_holds_them_and_in_order(counts: list[int], beyond: int) -> None:
    total = sum(counts) + beyond
    found = [quantile(q / 20, counts, total) for q in range(1, 21)]
    if not total:
        assert found == [None] * 20
        return
    values = [value for value in found if value is not None]
    assert values == sorted(values)
    for q, value in zip(range(1, 21), values, strict=True):
        at_most = sum(count for count, bound in zip(counts, AGES, strict=True) if bound <= value)
        below = sum(count for count, bound in zip(counts, AGES, strict=True) if bound < value)
        assert below <= q / 20 * total + 1e-6
        assert value == AGES[-1] or at_most <= q / 20 * total + max(counts)
