"""/metrics: the names that others rely on, complete before anything happened, whole when a part fails."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError, connection
from prometheus_client.core import CollectorRegistry

from notifications import delivery
from notifications.models import AttemptOutcome, NotificationEvent, Status, Tally
from notifications.models.tallies import NOT_CONFIGURED
from notifications.reporting import metrics
from notifications.reporting import snapshot as stats
from notifications.reporting.figures import MOST_UNCONFIGURED
from notifications.reporting.parts import AsOf
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.reporting.promtool import promtool
from tests.reporting.rows import WEBHOOK, swept, tally
from tests.reporting.scraped import NAMES, names, page, samples, value


@pytest.mark.django_db
def test_the_names_and_types_are_those_that_others_rely_on() -> None:
    assert names(page()) == NAMES


@pytest.mark.django_db
def test_every_label_is_there_before_anything_happened(
    configure: Configure,
) -> None:
    configure(CHANNELS={"Slack": WEBHOOK, "Email": WEBHOOK})
    found = samples(page())
    for status in Status.values:
        assert value(found, "certctl_notifications", status=status) == 0
    for channel in ("Slack", "Email"):
        for outcome in AttemptOutcome.values:
            assert value(found, "certctl_notification_attempts_total", channel=channel, outcome=outcome) == 0
        duration = "certctl_notification_attempt_duration_seconds"
        assert value(found, f"{duration}_count", channel=channel) == 0
        assert value(found, f"{duration}_bucket", channel=channel, le="+Inf") == 0
    for kind in ("pending", "retry"):
        assert value(found, "certctl_notification_last_sweep_timestamp_seconds", kind=kind) == 0
    for name in ("dead_total", "oldest_due_seconds"):
        assert value(found, f"certctl_notification_{name}") == 0
    assert value(found, "certctl_notifications_stranded") == 0


@pytest.mark.django_db
def test_the_values_are_the_table_s(configure: Configure) -> None:
    configure(CHANNELS={"Slack": WEBHOOK})
    for _ in range(3):
        factories.dead()
    factories.stranded()
    factories.pending(created_at=ago(minutes=10))
    run = swept("retry", ago(minutes=1))
    tally("slack", "sent", attempts=5, milliseconds=2_500, took_0=1, took_1=2, took_3=1)
    found = samples(page())
    assert value(found, "certctl_notification_dead_total") == 3
    assert value(found, "certctl_notifications", status="dead") == 3
    assert value(found, "certctl_notifications_stranded") == 1
    assert value(found, "certctl_notification_oldest_due_seconds") == pytest.approx(600, abs=30)
    assert value(found, "certctl_notification_attempts_total", channel="Slack", outcome="sent") == 5
    last = value(found, "certctl_notification_last_sweep_timestamp_seconds", kind="retry")
    assert last == pytest.approx(run.ended_at.timestamp())
    duration = "certctl_notification_attempt_duration_seconds"
    buckets = {le: value(found, f"{duration}_bucket", channel="Slack", le=le) for le in metrics.BOUNDS}
    assert list(buckets.values()) == [1, 3, 3, 4, 4, 4, 5]
    assert value(found, f"{duration}_sum", channel="Slack") == 2.5


@pytest.mark.django_db
def test_a_channel_s_odd_name_does_not_break_the_page(configure: Configure) -> None:
    odd = 'a"b\\c\nd{e="f"} \u202e✓'
    configure(CHANNELS={odd: WEBHOOK})
    tally(odd, "sent", attempts=2)
    assert value(samples(page()), "certctl_notification_attempts_total", channel=odd, outcome="sent") == 2


@pytest.mark.django_db
def test_promtool_finds_nothing_to_complain_about() -> None:
    factories.one_of_each()
    tally("Slack", "sent", attempts=5, milliseconds=2_500, took_0=5)
    checked = promtool("check", "metrics", given=page())
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


# When something is away


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ("counts", {"certctl_notification_dead_total", "certctl_notifications"}),
        ("stranded", {"certctl_notifications_stranded"}),
        ("not_delivered", {"certctl_notifications_not_delivered"}),
        ("refused", {"certctl_notifications_refused"}),
        ("oldest_due", {"certctl_notification_oldest_due_seconds"}),
        ("last_sweeps", {"certctl_notification_last_sweep_timestamp_seconds"}),
        (
            "attempts",
            {
                "certctl_notification_attempts_total",
                "certctl_notification_attempt_duration_seconds",
                "certctl_notifications_withdrawn_total",
            },
        ),
        ("dead_by_channel", set()),
    ],
)
def test_a_failing_query_leaves_its_metric_out(
    part: str, missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(as_of: AsOf) -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        return {}

    monkeypatch.setattr(stats, "PARTS", [fails if p.__name__ == part else p for p in stats.PARTS])
    assert names(page()) == {name: kind for name, kind in NAMES.items() if name not in missing}


@pytest.mark.django_db
def test_without_the_tables_the_page_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(using: str) -> datetime:
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(stats, "database_now", away)
    text = page()
    assert not [name for name in names(text) if name.startswith("certctl_notification")]
    assert "python_info" in text


def test_registering_asks_the_database_nothing() -> None:
    metrics.register(CollectorRegistry(auto_describe=True))


@pytest.mark.django_db
def test_a_scrape_changes_nothing() -> None:
    factories.one_of_each()
    before = list(NotificationEvent.objects.order_by("pk").values())
    page()
    assert list(NotificationEvent.objects.order_by("pk").values()) == before


@pytest.mark.django_db(transaction=True)
def test_made_up_channels_are_one_label(configure: Configure) -> None:
    """However many names producers come up with, and whatever was counted under them before."""
    configure(CHANNELS={"Slack": WEBHOOK})
    for n in range(40):
        tally(f"old-{n}", "no_notifier")
        factories.pending(channel=f"made-up-{n}", created_at=ago(minutes=11))
        factories.dead(channel=f"dead-{n}")
        factories.lost(channel=f"lost-{n}", retry_count=4)
    delivery.send_pending()
    found = page()
    channels = {text for _, labels in samples(found) for name, text in labels if name == "channel"}
    assert channels == {"Slack", NOT_CONFIGURED}
    attempts = "certctl_notification_attempts_total"
    assert value(samples(found), attempts, channel=NOT_CONFIGURED, outcome="no_notifier") == 80
    assert value(samples(found), attempts, channel=NOT_CONFIGURED, outcome="interrupted") == 40
    assert set(Tally.objects.exclude(channel__startswith="old-").values_list("channel")) == {
        (NOT_CONFIGURED,)
    }
    dead = stats.snapshot().dead_by_channel or {}
    assert (len(dead), sum(dead.values())) == (1 + MOST_UNCONFIGURED + 1, 80)
