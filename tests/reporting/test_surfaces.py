"""Whoever asks how things stand gets the same numbers: the dashboard, REST, /metrics, the shell and MCP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from notifications.mcp import certctl_notification_stats
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.reporting.rows import WEBHOOK, swept, tally, this_hour
from tests.reporting.scraped import page, samples, value

COUNTS = {"pending": 3, "failed": 4, "sent": 5, "dead": 6, "read": 7}
STRANDED = 1
# What all of them show, by the names of /api/v1/stats/summary.
SHOWN = {f"notifications_{status}": count for status, count in COUNTS.items()} | {
    "notifications_stranded": STRANDED
}


@pytest.fixture
def staff(db: None, configure: Configure) -> Client:
    """A superuser's browser, on a table with a different number for everything."""
    configure(CHANNELS={"Slack": WEBHOOK, "Email": WEBHOOK})
    for _ in range(COUNTS["failed"] - STRANDED):
        factories.failed()
    factories.stranded()
    for make, number in ((factories.sent, 5), (factories.dead, 6), (factories.read, 7)):
        for _ in range(number):
            make(channel="slack")
    for minutes in (1, 10, 5):
        factories.pending(created_at=ago(minutes=minutes))
    for hour in (this_hour(), None):
        tally("slack", "sent", **({"hour": hour} if hour else {}), attempts=20, milliseconds=9_000)
        tally("slack", "transient", **({"hour": hour} if hour else {}), attempts=9, milliseconds=100)
    swept("retry", ago(minutes=2))
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def rest(staff: Client) -> dict[str, Any]:
    found: dict[str, Any] = staff.get("/api/v1/stats/summary").json()
    return found


def shell() -> dict[str, Any]:
    out = StringIO()
    call_command("notifications", "stats", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def scraped() -> dict[str, Any]:
    found = samples(page())
    return {
        **{f"notifications_{s}": value(found, "certctl_notifications", status=s) for s in COUNTS},
        "notifications_stranded": value(found, "certctl_notifications_stranded"),
    }


def dashboard(staff: Client) -> dict[str, Any]:
    text = staff.get("/admin/notifications/notificationevent/dashboard/").content.decode()
    cards = dict(re.findall(r'\?status=(\w+)"><b>([\d,]+)</b>', text))
    cards["failed"] = cards.pop("retrying")
    return {f"notifications_{name}": int(number) for name, number in cards.items()}


def in_the_terminal() -> dict[str, Any]:
    out = StringIO()
    call_command("notifications", "stats", "--no-color", stdout=out)
    rows = re.findall(r"^(\w+) +(\d+)$", out.getvalue(), re.MULTILINE)
    (stranded,) = re.findall(r"^(\d+) stranded", out.getvalue(), re.MULTILINE)
    counts = {f"notifications_{name}": int(number) for name, number in rows if name in COUNTS}
    return {**counts, "notifications_stranded": int(stranded)}


@pytest.mark.parametrize(
    "ask",
    [
        rest,
        dashboard,
        lambda _: shell(),
        lambda _: in_the_terminal(),
        lambda _: scraped(),
        lambda _: certctl_notification_stats.__wrapped__(),  # without its care for connections
    ],
    ids=["REST", "dashboard", "shell --json", "shell", "metrics", "MCP"],
)
def test_all_show_the_same_numbers(staff: Client, ask: Callable[[Client], dict[str, Any]]) -> None:
    assert {name: ask(staff)[name] for name in SHOWN} == SHOWN


def test_they_agree_on_all_else_too(staff: Client) -> None:
    answer, metrics = rest(staff), samples(page())
    moving = {"at": None, "oldest_due_seconds": None}
    assert answer | moving == shell() | moving
    assert answer["oldest_due_seconds"] == pytest.approx(600, abs=60)
    waited = value(metrics, "certctl_notification_oldest_due_seconds")
    assert waited == pytest.approx(answer["oldest_due_seconds"], abs=60)
    for outcome, number in answer["attempts"]["Slack"].items():
        labels = {"channel": "Slack", "outcome": outcome}
        assert value(metrics, "certctl_notification_attempts_total", **labels) == number
    text = staff.get("/admin/notifications/notificationevent/dashboard/").content.decode()
    for window in answer["deliveries"].values():
        assert (window["delivered"]["Slack"], window["failed"]["Slack"]) == (20, 9)
    assert text.count("20 delivered</span>") == text.count("9 failed attempts</span>") == 2
    assert answer["notifications_dead_by_channel"] == {"Slack": 6, "Email": 0}
    assert 'status=dead&amp;channel=Slack">6</a>' in text
