"""Whoever asks how things stand gets the same numbers: the dashboard, REST, /metrics, the shell and MCP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from notifications.mcp import certctl_get_notification, certctl_notification_stats
from notifications.models import Escalation, Hold, NotificationEvent, SweepRun, Worker
from notifications.reporting import words
from notifications.reporting.contract import EVENT
from notifications.reporting.held import HoldWords
from notifications.reporting.held import in_words as held_words
from notifications.reporting.timeline import plain, timeline
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.reporting.rows import WEBHOOK, held, swept, tally, this_hour
from tests.reporting.scraped import page, samples, value

COUNTS = {"pending": 3, "failed": 4, "sent": 5, "dead": 6, "read": 7}
STRANDED = 1
NOT_DELIVERED = 2  # of the sent
REFUSED = 3  # of the failed and the pending
# What all of them show, by the names of /api/v1/stats/summary.
SHOWN = {f"notifications_{status}": count for status, count in COUNTS.items()} | {
    "notifications_stranded": STRANDED,
    "notifications_not_delivered": NOT_DELIVERED,
    "notifications_refused": REFUSED,
}


@pytest.fixture
def staff(db: None, configure: Configure) -> Client:
    """A superuser's browser, on a table with a different number for everything."""
    configure(CHANNELS={"Slack": WEBHOOK, "Email": WEBHOOK})
    for _ in range(COUNTS["failed"] - STRANDED):
        factories.failed()
    factories.stranded()
    for _ in range(NOT_DELIVERED):
        factories.not_delivered(channel="slack")
    for make, number in ((factories.sent, 5 - NOT_DELIVERED), (factories.dead, 6), (factories.read, 7)):
        for _ in range(number):
            make(channel="slack")
    for minutes in (1, 10, 5):
        factories.pending(created_at=ago(minutes=minutes))
    for event in [*NotificationEvent.objects.failed()[:2], *NotificationEvent.objects.pending()[:1]]:
        factories.refused(event)
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
        "notifications_not_delivered": value(found, "certctl_notifications_not_delivered"),
        "notifications_refused": value(found, "certctl_notifications_refused"),
    }


def dashboard(staff: Client) -> dict[str, Any]:
    text = staff.get("/admin/notifications/notificationevent/dashboard/").content.decode()
    cards = dict(re.findall(r'\?status=(\w+)"><b(?: class="\S+")?>([\d,]+)</b>', text))
    cards["read"] = sum(int(cards[kind]) for kind in ("seen", "dismissed", "withdrawn"))
    return {f"notifications_{name}": int(number) for name, number in cards.items()}


def in_the_terminal() -> dict[str, Any]:
    out = StringIO()
    call_command("notifications", "stats", "--no-color", stdout=out)
    rows = re.findall(r"^(\w+) +(\d+)$", out.getvalue(), re.MULTILINE)
    kinds = re.findall(r"^(\d+) (stranded|not delivered|refused): ", out.getvalue(), re.MULTILINE)
    counts = {f"notifications_{name}": int(number) for name, number in rows if name in COUNTS}
    return counts | {f"notifications_{kind.replace(' ', '_')}": int(number) for number, kind in kinds}


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
    for name, window in answer["deliveries"].items():
        assert (window["delivered"]["Slack"], window["failed"]["Slack"]) == (20, 9)
        assert "Slack 20 delivered, 9 failed attempts" in in_words(staff, f"dashboard/?window={name}")
    text = staff.get("/admin/notifications/notificationevent/dashboard/").content.decode()
    assert answer["notifications_dead_by_channel"] == {"Slack": 6, "Email": 0}
    assert 'status=dead&amp;channel=Slack">6</a>' in text


# Words


def in_words(staff: Client, page: str) -> str:
    """What a page of the console says, as plain text in one line."""
    markup = staff.get(f"/admin/notifications/notificationevent/{page}").content.decode()
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def typed(*arguments: str) -> str:
    """What the command line says to a person."""
    out = StringIO()
    call_command("notifications", *arguments, "--no-color", stdout=out)
    return out.getvalue()


@pytest.fixture
def storied(staff: Client) -> NotificationEvent:
    """Something of everything that can happen to a notification."""
    event = factories.dead(created_at=ago(hours=9, minutes=10), dedup_key="k", retry_count=1)
    factories.attempt(event, started_at=ago(hours=8, minutes=10), status_code=503, duration_ms=1250)
    event.requeues.create(by="ada", via="cli", at=ago(hours=7), status="dead", retry_count=4, reason="fixed")
    factories.attempt(event, "permanent", number=2, started_at=ago(hours=6), error="HTTP 404: gone")
    event.readings.create(by="", via="api", at=ago(hours=5), status="dead", reason="known")
    Escalation.objects.create(notification=event, raised=factories.pending(), at=ago(hours=4))
    return event


def test_the_page_and_the_shell_tell_the_same_story(staff: Client, storied: NotificationEvent) -> None:
    page, shell = in_words(staff, f"{storied.pk}/change/"), typed("show", storied.pk)
    now = timezone.now()
    entries = timeline(storied, now)
    assert [str(entry.kind) for entry in entries] == [
        "raised",
        "attempt",
        "requeue",
        "attempt",
        "reading",
        "escalation",
        "next",
    ]
    for entry in entries:
        for text in (page, shell):
            assert entry.sentence in text
            assert entry.detail in text
            assert entry.at is None or words.timestamp(entry.at) in text
        for label, fact in entry.facts:
            assert f"{label} {fact}" in page
            assert f"{label.lower()}: {plain(fact)}" in shell
    for label, text in words.facts(storied, 5, now):
        assert text in page
        assert re.search(rf"^{label} +{re.escape(text)}$", shell, re.MULTILINE)


def test_programs_are_told_the_same_of_one_notification(staff: Client, storied: NotificationEvent) -> None:
    over_http = staff.get(f"/api/v1/notifications/{storied.pk}").json()
    shell = json.loads(typed("show", storied.pk, "--json"))
    assistant = certctl_get_notification.__wrapped__(storied.pk).model_dump(mode="json")
    assert {name: shell[name] for name in over_http} == over_http
    for name in (*EVENT, "attempts"):
        assert to_the_second(assistant[name]) == to_the_second(over_http[name])


def to_the_second(value: Any) -> Any:
    """Times without the fractions that one library writes and another does not."""
    return json.loads(re.sub(r"(T\d\d:\d\d:\d\d)(\.\d+)?Z", r"\1Z", json.dumps(value)))


def test_lists_say_the_same_of_a_row(staff: Client) -> None:
    event = factories.dead(created_at=ago(hours=3, minutes=5), retry_count=2, last_error="HTTP 503:\n\tdown")
    page = in_words(staff, "?status=dead")
    (row,) = [line for line in typed("list").splitlines() if line.startswith(event.pk)]
    assert "3/5" in row
    assert "died on attempt 3" in page
    for said in ("HTTP 503: down", "3 h"):
        assert said in row
        assert said in page


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"until": ago(minutes=1)},
        {"since": ago(hours=50)},
        {"reason": "paused", "by": "ada", "error": "they move"},
        {"reopened_at": ago(minutes=1)},
    ],
    ids=["held", "its probe is due", "past the limit", "paused", "recovering"],
)
def test_a_hold_is_the_same_everywhere(staff: Client, fields: dict[str, Any]) -> None:
    hold = held("slack", **{"channel": "slack", "error": "HTTP 401: no", **fields})
    factories.pending(channel="Slack")
    said = in_words_of(hold)
    listed = typed("holds")
    row = json.loads(typed("holds", "--json"))[0]
    page = in_words(staff, "endpoints/")
    assert (row["state"], row["scope"], row["why"], row["waiting"]) == (said.state, said.scope, said.why, 1)
    for words_of_it in (said.scope, said.state, said.until, hold.error):
        assert words_of_it in listed
        assert words_of_it in page
    shown = {"REST": rest(staff)["holds"], "shell": shell()["holds"]}
    assert [found["state"] for found in (*shown["REST"], *shown["shell"])] == [said.state] * 2
    told = (said.state, f"{said.scope} ,", f"{said.until},", said.cause)
    assert re.search(r"Slack \S " + " ".join(map(re.escape, told)), in_words(staff, "dashboard/"))
    for text in (said.state, said.until, said.why):
        assert text in typed("stats")


def in_words_of(hold: Hold) -> HoldWords:
    return held_words(hold, timezone.now(), timedelta(hours=4))


def test_the_sweeps_are_the_same_everywhere(staff: Client) -> None:
    run = swept("pending", ago(minutes=7, seconds=5))
    said = words.sweep(run, timezone.now())
    assert f"Pending : {said}" in in_words(staff, "dashboard/")
    assert f"Last pending sweep: {said}." in typed("stats")


def test_a_worker_that_fell_silent_is_told_everywhere(staff: Client) -> None:
    Worker.objects.create(name="w:1", started_at=ago(hours=1), seen_at=ago(minutes=3, seconds=5))
    SweepRun.objects.update(ended_at=ago(minutes=4))
    swept("pending", ago(minutes=4))
    said = "The always-on worker was last seen 3 min ago, and nobody has swept since. "
    assert said in in_words(staff, "dashboard/")
    assert said in typed("stats")
    assert not staff.get("/readyz").json()["checks"]["workers"]["ok"]


def test_a_stalled_sweep_is_told_everywhere(staff: Client) -> None:
    SweepRun.objects.update(ended_at=ago(minutes=20, seconds=5))
    said = "Nothing is being delivered: the last sweep ended 20 min ago. "
    for text in (in_words(staff, "dashboard/"), in_words(staff, ""), typed("stats")):
        assert said in text
    assert staff.get("/readyz").status_code == 503
