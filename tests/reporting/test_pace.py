"""How long it takes until many are delivered: by options, measurements, holds, and who sweeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from notifications.models import SweepKind, Worker
from notifications.reporting import pace
from notifications.reporting.pace import how_long
from tests.factories import failed, pending
from tests.fixtures import Configure
from tests.reporting.rows import WEBHOOK, held, swept, tally

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLACK = {"NOTIFIER": "notifications.notifiers.slack.SlackNotifier"}
MEASURED = "measured in the last 24 hours"


@pytest.fixture(autouse=True)
def site(configure: Configure) -> None:
    """Slack with its own pace, Webhook with none; an always-on worker."""
    configure(CHANNELS={"Slack": {**SLACK, "MAX_PER_SECOND": 2}, "Webhook": WEBHOOK, "Fast": WEBHOOK})
    Worker.objects.create(name="w", started_at=NOW, seen_at=NOW)


def test_a_channels_own_pace() -> None:
    said = how_long([("slack", "#pki")] * 240, NOW)
    assert said == "It takes about 2 min. Slack: 240 at 2 a second (MAX_PER_SECOND)."


def test_the_slower_of_what_is_measured_and_allowed() -> None:
    tally("webhook", "sent", HOUR, attempts=10, milliseconds=100_000)
    tally(
        "webhook", "transient", HOUR, attempts=90, milliseconds=1
    )  # how long it takes to be refused tells nothing
    tally("webhook", "sent", HOUR - timedelta(hours=30), attempts=10_000, milliseconds=1)
    said = how_long([("Webhook", "ops")] * 500, NOW)
    # 50 at once, 10 s each
    assert said == f"It takes about 1 min 40 s. Webhook: 500 at 5 a second ({MEASURED})."
    tally("slack", "sent", HOUR, attempts=10, milliseconds=10_000_000)
    assert (
        how_long([("Slack", "#pki")] * 2, NOW)
        == f"It takes about 40 s. Slack: 2 at 0.05 a second ({MEASURED})."
    )


def test_hosts_are_side_by_side_and_the_channels_too() -> None:
    tally("webhook", "sent", HOUR, attempts=1, milliseconds=10_000)
    rows = [("Webhook", f"https://{host}.example/x") for host in "ab" for _ in range(300)]
    said = how_long([*rows, ("Slack", "#pki")], NOW, factor=10)
    assert said.startswith("It takes about 10 min. Webhook: 6,000 at 5 a second")
    assert said.endswith("Slack: 10 at 2 a second (MAX_PER_SECOND).")


@pytest.mark.parametrize(
    ("hold", "said"),
    [
        (
            {"until": NOW + timedelta(minutes=10)},
            "at 20 a second (RECOVERY_RATE), once its hold ends in 10 min.",
        ),
        (
            {"reason": "paused", "by": "ada", "until": NOW + timedelta(minutes=10)},
            f"at 5,000 a second ({MEASURED}), once its pause ends in 10 min.",
        ),
        ({"reopened_at": NOW, "until": NOW + timedelta(minutes=10)}, "at 20 a second (RECOVERY_RATE)."),
    ],
)
def test_what_is_held_paused_or_recovering(hold: dict[str, object], said: str) -> None:
    tally("webhook", "sent", HOUR, attempts=1, milliseconds=10)
    held("webhook", **{"since": NOW, **hold})
    text = how_long([("Webhook", "ops")] * 200, NOW)
    assert text.endswith(f"Webhook: 200 {said}")
    assert text.startswith("It takes about 1" + ("0 s" if "reopened_at" in hold else "1 min"))


def test_what_nothing_tells_of_is_said_to_be_unknown() -> None:
    unknown = "at a pace that nothing tells of: nothing was delivered in the last 24 hours."
    assert how_long([("Fax", "1")], NOW) == f"How long it takes is not known. Fax: 1 {unknown}"
    both = how_long([("Fax", "1"), ("Slack", "#pki")], NOW)
    assert both.startswith("It takes at least about 1 s. ")
    assert how_long([], NOW) == ""


def test_sweeps_by_cron_take_so_many_at_a_time() -> None:
    Worker.objects.all().delete()
    swept(SweepKind.PENDING, NOW - timedelta(seconds=30))
    said = how_long([("Slack", "#pki")] * 10, NOW, factor=1_000)
    assert said.startswith("It takes about 1 h 24 min. Slack: 10,000 at 2 a second (MAX_PER_SECOND).")
    tally("webhook", "sent", HOUR, attempts=1, milliseconds=1)
    said = how_long([("Webhook", "ops")] * 10, NOW, factor=1_000)
    assert said.startswith("It takes about 9 min. ")
    assert said.endswith("No always-on worker was seen: sweeps by cron take 1,000 in 1 min.")


def test_what_waits_already_for_the_same_endpoint_comes_first() -> None:
    """412 at one a second, 233 of the others before them."""
    for n in range(4):
        pending(channel=("Slack", "slack")[n % 2], recipient="#pki", created_at=NOW)
    failed(channel="Slack", recipient="#pki", due_at=NOW - timedelta(minutes=1))
    failed(channel="Slack", recipient="#pki", due_at=NOW + timedelta(minutes=1))
    pending(channel="Webhook", recipient="ops", created_at=NOW)
    mine = failed(channel="Slack", recipient="#pki", due_at=NOW - timedelta(minutes=1))
    said = how_long([("slack", "#pki")] * 240, NOW, besides={mine.pk})
    after = "after 5 that wait already"
    assert said == f"It takes about 3 min. Slack: 240 at 2 a second (MAX_PER_SECOND), {after}."


def test_more_wait_than_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MOST_AHEAD", 2)
    for _ in range(3):
        pending(channel="Slack", recipient="#pki", created_at=NOW)
    assert how_long([("slack", "#pki")], NOW).startswith("It takes at least about 1.5 s.")


def test_where_nothing_sweeps_nobody_knows() -> None:
    Worker.objects.all().delete()
    assert how_long([("Slack", "#pki")], NOW) == "How long it takes is not known: nothing is being delivered."
    swept(SweepKind.PENDING, NOW - timedelta(days=2))
    assert how_long([("Slack", "#pki")], NOW) == "How long it takes is not known: nothing is being delivered."


def test_a_promise_is_rounded_up() -> None:
    held("webhook", since=NOW, reason="paused", by="ada", until=NOW + timedelta(hours=2, minutes=52))
    tally("webhook", "sent", HOUR, attempts=1, milliseconds=10)
    said = how_long([("Webhook", "ops")], NOW)
    assert said.startswith("It takes about 3 h.")
    assert said.endswith("once its pause ends in 3 h.")
