"""How things stand: what the dashboard says, and when it and the list raise the alarm."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications.admin import dashboard
from notifications.models import Withdrawal, Worker
from tests.admin.support import LIST, As
from tests.factories import ago, attempt, dead, failed, pending, read, sent, stranded
from tests.fixtures import Configure
from tests.reporting.rows import held, swept, tally

pytestmark = pytest.mark.django_db
DASHBOARD = LIST + "dashboard/"
SLACK = {
    "NOTIFIER": "notifications.notifiers.slack.SlackNotifier",
    "URL": "https://hooks.example.com/services/x",
}


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("viewer")


@pytest.fixture(autouse=True)
def two_channels(configure: Configure) -> None:
    webhook = {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}
    configure(CHANNELS={"Slack": SLACK, "Webhook": webhook})


def context(client: Client) -> Any:
    return client.get(DASHBOARD).context


def words(client: Client, address: str = DASHBOARD) -> str:
    markup = client.get(address).content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def test_the_counts_lead_to_their_lists(client: Client) -> None:
    for make in (dead, dead, failed, stranded, pending, sent):
        make()
    shown = context(client)
    assert {figure.query: figure.number for figure in shown["loud"] if figure.query} == {
        "status=dead": "2",
        "status=stranded": "1",
    }
    assert {figure.query: figure.number for figure in shown["quiet"]} == {
        "status=pending": "1",
        "status=failed": "2",
        "status=sent": "1",
        "status=seen": "0",
        "status=dismissed": "0",
        "status=withdrawn": "0",
    }


def test_what_is_read_is_told_apart_and_each_figure_is_its_list(client: Client) -> None:
    for event in [sent() for _ in range(3)]:
        event.mark_seen(by="ada")
    for event in [dead() for _ in range(3)]:
        event.dismiss(by="ada")
    event.restore(by="ada")
    Withdrawal.objects.create(notification=read(), via="sweep", at=ago(hours=1), status="pending")
    figures = {figure.label: figure for figure in context(client)["quiet"]}
    assert {name: figures[name].number for name in ("seen", "dismissed", "withdrawn")} == {
        "seen": "3",
        "dismissed": "2",
        "withdrawn": "1",
    }
    for name in ("seen", "dismissed", "withdrawn"):
        rows = client.get(f"{LIST}?{figures[name].query}").context["cl"].result_list
        assert [event.status for event in rows] == ["read"] * int(figures[name].number)


def test_the_oldest_due_has_waited(client: Client) -> None:
    assert "0 s nothing is due" in words(client)
    failed(due_at=ago(minutes=7))
    assert "7 min the oldest due has waited" in words(client)


def test_dead_letters_by_channel_lead_to_them(client: Client) -> None:
    dead(channel="slack")
    dead(channel="Slack")
    dead(channel="Fax & co")
    health = {channel.channel: channel for channel in context(client)["health"]}
    assert {name: channel.dead for name, channel in health.items()} == {
        "Slack": "2",
        "Webhook": "0",
        "Fax & co": "1",
    }
    assert f"{LIST}?status=dead&amp;channel=Fax%20%26%20co" in client.get(DASHBOARD).content.decode()


def test_each_channels_health(client: Client) -> None:
    event = dead(channel="Slack")
    attempt(event, "sent", started_at=ago(hours=2))
    attempt(event, error="HTTP 404: <gone>", started_at=ago(minutes=9))
    dead(channel="Fax")
    held("slack hooks.example.com", channel="slack", reason="gone", error="HTTP 404: no_service")
    slack, webhook, fax = context(client)["health"]
    assert (slack.channel, [hold.reason for hold, *_ in slack.holds]) == ("Slack", ["gone"])
    assert timezone.now() - slack.delivered > timedelta(minutes=119)
    assert (slack.error, webhook.holds, webhook.delivered) == ("HTTP 404: <gone>", [], None)
    assert (webhook.configured, fax.configured) == (True, False)
    markup = client.get(DASHBOARD).content.decode()
    assert "HTTP 404: &lt;gone&gt;" in markup
    text = words(client)
    assert "Slack ✕ held slack , tried again at " in text
    assert "Webhook ✓ delivering" in text
    assert "Fax ✕ Not configured" in text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("gone", "Slack ✕ held Slack , the next delivery tries it, it is gone"),
        ("paused", "Slack ✓ delivering"),
    ],
)
def test_a_hold_waits_for_its_probe_and_a_pause_just_ends(client: Client, reason: str, said: str) -> None:
    held("slack", channel="Slack", reason=reason, error="", until=ago(seconds=1))
    assert said in words(client)


def test_the_hours_of_a_day_and_of_a_week(client: Client) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    tally("Slack", "sent", hour, attempts=30, age_1=28, age_4=2)
    tally("Slack", "transient", hour - timedelta(hours=3), attempts=10)
    tally("Slack", "sent", hour - timedelta(hours=50), attempts=60, age_1=60)
    day = context(client)["window"]
    (chart,) = day["charts"]
    assert (chart.channel, chart.delivered, chart.failed, chart.top) == ("Slack", "30", "10", "30")
    assert (chart.bars.count("M"), chart.line.count("L")) == (1, 23), "one bar, and a line through every hour"
    assert "v-120h" in chart.bars, "the tallest fills the height"
    assert f" {dashboard.HEIGHT - 40}L" in chart.line, "on the same scale"
    assert [hour.title.split(": ")[1] for hour in chart.hours] == [
        "0 delivered, 10 failed attempts",
        "30 delivered, 0 failed attempts",
    ]
    [week] = client.get(DASHBOARD, {"window": "7d"}).context["window"]["charts"]
    assert (day["quiet"], week.delivered, len(week.hours)) == (["Webhook"], "90", 3)
    assert "UTC" in client.get(DASHBOARD).content.decode().split('class="nf-axis"')[1][:120]
    assert "half within" in words(client)
    assert day["pace"] == "half within 5.8 s, 95 of 100 within 1 min 15 s"


@pytest.mark.parametrize(("window", "said"), [("24h", "24 hours"), ("7d", "7 days")])
def test_where_nothing_was_delivered_no_pace_is_told(client: Client, window: str, said: str) -> None:
    text = words(client, f"{DASHBOARD}?window={window}")
    assert f"Nothing was delivered in the last {said}." in text
    assert "within" not in text


def test_the_last_sweep_of_each_kind_and_the_workers(client: Client) -> None:
    swept("retry", ago(minutes=2), claimed=9, sent=5, rescheduled=3, dead=1, worker="pki-1:4711")
    Worker.objects.create(name="pki-2:1", started_at=ago(hours=1), seen_at=ago(seconds=3), in_flight=4)
    text = words(client)
    assert "Retry : 2 min ago, 9 taken up, 5 sent, 3 to be tried again, 1 dead, by pki-1:4711" in text
    assert "Pending : never" in text
    assert re.search(r"pki-2:1 : seen \d+ s ago, 4 being sent", text)


def test_all_is_well(client: Client) -> None:
    swept("retry", ago(minutes=1))
    swept("pending", ago(seconds=9))
    failed()
    verdict = context(client)["verdict"]
    assert verdict.text == "Nothing is wrong, and nothing was delivered in the last 24 hours."
    assert not verdict.bad
    assert 'role="alert"' not in client.get(LIST).content.decode()


def test_a_site_that_runs_one_kind_of_sweep_only_is_not_warned(client: Client) -> None:
    swept("retry", ago(minutes=1))
    sent()
    assert not context(client)["verdict"].bad


@pytest.mark.parametrize(
    ("age", "warning"), [(None, "no sweep has ever run"), (20, "the last sweep ended 20 min ago")]
)
def test_no_sweep_lately_is_told_on_the_dashboard_and_on_the_list(
    client: Client, age: int | None, warning: str
) -> None:
    if age:
        swept("retry", ago(minutes=age))
        swept("pending", ago(minutes=age + 5))
    said = f"Nothing is being delivered: {warning}."
    assert said in words(client)
    assert said in words(client, LIST)
    refreshed = client.get(LIST, headers={"X-Notifications-Refresh": "1"}).content.decode()
    assert "Nothing is being delivered" in refreshed


def test_one_kind_that_stopped_is_told_when_something_waits_for_it(client: Client) -> None:
    swept("retry", ago(minutes=20))
    swept("pending", ago(seconds=9))
    stranded()
    assert context(client)["verdict"].text.startswith("1 stranded"), "what is stranded waits for no sweep"
    failed()
    assert context(client)["verdict"].text.startswith(
        "The last retry sweep ended 20 min ago, and 1 notification waits for the next one;"
    )


def test_it_costs_the_same_for_few_and_for_many(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    # On PostgreSQL every part of the snapshot has a savepoint, and every status a count of its own.
    for _ in range(2):
        with django_assert_max_num_queries(64) as queries:
            context(client)
        first = len(queries)
        for make in (dead, failed, sent, pending) * 10:
            attempt(make())
    assert len(queries) == first


def test_a_refresh_is_the_dashboard_alone(client: Client) -> None:
    markup = client.get(DASHBOARD, headers={"X-Notifications-Refresh": "1"}).content.decode()
    assert 'data-live="nf-dashboard"' in markup
    assert "<html" not in markup


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client: Client) -> None:
    tally("Slack", "sent", timezone.now().replace(minute=0, second=0, microsecond=0), attempts=30, age_1=30)
    markup = client.get(DASHBOARD).content.decode()
    assert "<svg" in markup
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", markup)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", markup)
