"""The list: tabs, filters, search, what a row says, and what it costs."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications.models import BulkOperation
from tests.admin.support import LIST, As, url
from tests.factories import (
    ago,
    ahead,
    dead,
    failed,
    leased,
    not_delivered,
    notification,
    pending,
    read,
    refused,
    sent,
    stranded,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def page(client: Client, query: str = "", **extra: Any) -> str:
    response = client.get(LIST + query, **extra)
    assert response.status_code == 200
    return response.content.decode()


def listed(client: Client, query: str = "") -> set[str]:
    return {event.pk for event in client.get(LIST + query).context["cl"].result_list}


def cell(markup: str, name: str) -> str:
    """The text of the first row's cell."""
    found = re.search(rf'<t[dh] class="field-{name}[^"]*">(.*?)</t[dh]>', markup, re.DOTALL)
    assert found is not None, name
    return html.unescape(re.sub(r"<[^>]+>", "", found[1])).strip()


def tabs(client: Client, query: str = "") -> dict[str, str | None]:
    return {tab.label: tab.number for tab in client.get(LIST + query).context["cl"].tabs}


def test_what_was_not_delivered_has_a_tab_a_badge_and_a_button(client: Client) -> None:
    assert "Not delivered" not in tabs(client)
    sent(error="certctl's"), sent()
    assert "Not delivered" not in tabs(client)
    event = not_delivered()
    assert tabs(client)["Not delivered"] == "1"
    assert listed(client, "?status=not_delivered") == {event.pk}
    markup = page(client, "?status=not_delivered")
    assert cell(markup, "badge") == "✕ Not delivered"
    assert cell(markup, "requeue_button") == "Requeue"
    assert page(client, "?status=sent").count(">Requeue</button>") == 1


def test_what_the_database_refuses_is_listed(client: Client) -> None:
    event, _ = refused(failed()), failed()
    assert listed(client, "?status=refused") == {event.pk}
    assert "Refused by the database" in page(client, "?status=refused")


def test_what_was_not_delivered_costs_no_query_a_row(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    not_delivered()
    with CaptureQueriesContext(connection) as one:
        page(client)
    for _ in range(5):
        not_delivered()
    with django_assert_num_queries(len(one)):
        page(client)


def test_the_tabs_list_what_they_say(client: Client) -> None:
    rows = {
        "dead": {dead().pk, dead().pk},
        "retrying": {failed().pk},
        "stranded": {stranded().pk},
        "pending": {pending().pk},
    }
    for status, ids in rows.items():
        assert listed(client, f"?status={status}") == ids
    assert listed(client) == set().union(*rows.values())
    assert listed(client, "?status=failed") == rows["retrying"] | rows["stranded"]
    assert tabs(client) == {"All": "5", "Dead letter": "2", "Retrying": "1", "Stranded": "1"}


def test_the_stranded_tab_is_there_only_when_needed(client: Client) -> None:
    failed()
    assert "Stranded" not in tabs(client)
    assert "Stranded" in tabs(client, "?status=stranded")


def test_tabs_keep_the_other_filters_and_count_within_them(client: Client) -> None:
    dead(channel="Slack")
    dead(channel="Email")
    response = client.get(LIST + "?channel=Slack&q=api&status=dead")
    (everything, letters, *_) = response.context["cl"].tabs
    assert everything.url == "?channel=Slack&q=api"
    assert letters.url == "?channel=Slack&q=api&status=dead"
    assert (letters.number, letters.selected, everything.selected) == ("1", True, False)


def test_filters_by_channel_without_regard_to_case_by_type_and_by_certificate(client: Client) -> None:
    new, old = dead(channel="Email"), dead(channel="email")
    other = dead(channel="Slack", type="Revocation", certificate_id="mc-other")
    assert listed(client, "?channel=EMAIL") == {new.pk, old.pk}
    assert listed(client, "?type=Revocation") == {other.pk}
    assert listed(client, "?certificate_id=mc-other") == {other.pk}
    markup = page(client, "?certificate_id=mc-other")
    assert "Certificate: <b>mc-other</b>" in markup


def test_an_old_address_of_a_group_of_errors_still_leads_to_it(client: Client) -> None:
    wanted = dead(last_error="HTTP 503: request 17 was lost")
    dead()
    response = client.get(LIST, {"status": "dead", "error": "HTTP 503: request … was lost"}, follow=True)
    assert {event.pk for event in response.context["cl"].result_list} == {wanted.pk}
    assert dict(response.context["cl"].params) == {"status": "dead", "alike": "HTTP 503: request … was lost"}


def test_filters_offer_what_is_configured_known_or_undelivered(client: Client) -> None:
    dead(channel="Carrier pigeon", type="expiration_warning")
    markup = page(client, "?channel=Telegraph")
    for option in ("Webhook", "Carrier pigeon", "Telegraph", "expiration_warning", "PolicyViolation"):
        assert f">{option}</a>" in markup


@pytest.mark.parametrize("field", ["recipient", "certificate_id", "message", "error", "last_error", "id"])
def test_search_looks_into(client: Client, field: str) -> None:
    wanted = dead(**{field: "needle-42"})
    dead()
    assert listed(client, "?q=needle-42") == {wanted.pk}


@pytest.mark.parametrize("query", ["?status=%00", "?q=%00", "?channel=a%00", "?certificate_id=%00", "?%00=1"])
def test_a_nul_in_the_url_is_no_error(client: Client, query: str) -> None:
    assert client.get(LIST + query).status_code in (200, 302)


@pytest.mark.parametrize("query", ["?status=undead", "?since=soon", "?age=2h", "?outage=x"])
def test_what_no_filter_knows_shows_nothing_and_says_so(client: Client, query: str) -> None:
    dead()
    response = client.get(LIST + query)
    assert response.status_code == 400
    markup = response.content.decode()
    assert "so nothing is shown" in markup
    assert "mc-api-prod" not in markup


def test_a_dead_row(client: Client) -> None:
    event = dead(created_at=ago(hours=3, minutes=5), last_error="HTTP 503:\n  upstream\tis down")
    seven = timezone.localtime(event.created_at) + timedelta(days=7)
    markup = page(client)
    assert cell(markup, "badge") == "✕ Dead"
    assert cell(markup, "subject") == (
        f"api.example.com expires in 7 days ({seven:%-d %b}) HTTP 503: upstream is down"
    )
    assert cell(markup, "kind") == "ExpirationWarning"
    assert (cell(markup, "on"), cell(markup, "to")) == ("Webhook", "ops@example.com")
    assert cell(markup, "certificate") == "mc-api-prod"
    assert cell(markup, "age") == "3 h"
    assert f'title="{timezone.localtime(event.created_at):%Y-%m-%d %H:%M:%S} UTC"' in markup
    assert cell(markup, "retry") == "Retry 5/5"
    assert 'title="HTTP 503:\n  upstream\tis down"' in markup
    assert cell(markup, "requeue_button") == "Requeue"
    assert f'formaction="{url("requeue", event)}"' in markup


def test_every_relative_time_has_the_exact_one_as_its_title(client: Client) -> None:
    dead(created_at=ago(hours=3, minutes=5), last_error="SMTP 550: full")
    event = dead(created_at=ago(days=2), last_error="SMTP 550: full")
    BulkOperation.objects.create(
        kind="requeue", by="alice", via="admin", requested=1, started_at=ago(hours=3), ended_at=ago(hours=3)
    )
    for address in (LIST + "?status=dead", url("change", event), LIST + "operations/"):
        markup = client.get(address).content.decode()
        times = re.findall(
            r'<time datetime="\S+" title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC">(.*?)</time>', markup
        )
        assert {"3 h", "3 h ago"} & set(times), address
    groups = client.get(LIST + "?status=dead").content.decode().split('id="nf-list"')[0]
    assert ">3 h ago</time>" in groups
    assert "first <time" in groups
    assert ">2 days ago</time>" in groups


def test_a_row_that_died_on_its_first_attempt(client: Client) -> None:
    dead(retry_count=0)
    assert cell(page(client), "retry") == "Retry 1/5 died on attempt 1"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: failed(retry_count=2, due_at=ahead(minutes=3, seconds=30)),
            "Retry 2/5 next in 3 min",
        ),
        (lambda: failed(due_at=ahead(hours=2, minutes=5)), "Retry 1/5 next in 2 h"),
        (lambda: failed(), "Retry 1/5 due now"),
        (lambda: leased(), "Retry 1/5 attempt running"),
        (lambda: stranded(), "Retry 0/5 not scheduled"),
    ],
)
def test_a_failed_row_says_when_it_is_attempted_next(client: Client, make: Any, words: str) -> None:
    make()
    assert cell(page(client), "retry") == words


def test_the_budget_is_the_configured_one(client: Client, settings: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "MAX_ATTEMPTS": 7}
    dead(retry_count=6)
    assert cell(page(client), "retry") == "Retry 7/7"


def test_a_sent_row_is_quiet_unless_nothing_was_delivered(client: Client) -> None:
    sent(retry_count=2, last_error="HTTP 503")
    markup = page(client)
    assert "HTTP 503" not in cell(markup, "subject")
    assert (cell(markup, "retry"), cell(markup, "requeue_button")) == ("", "")
    sent(error="nothing was delivered: no notifier", channel="Pager")
    assert "nothing was delivered: no notifier" in page(client, "?channel=pager")


def test_a_status_of_another_program_is_shown_as_it_is(client: Client) -> None:
    notification("<odd>")
    assert cell(page(client), "badge") == "? <odd>"


def test_what_an_outsider_wrote_is_text(client: Client) -> None:
    evil = "<script>alert('x')</script>\"'><img src=x>"
    dead(
        recipient=evil,
        channel=evil,
        type=evil,
        certificate_id=evil,
        last_error=evil,
        error=evil,
        message=evil,
    )
    for query in ("", "?status=dead", "?channel=" + evil):
        markup = page(client, query)
        assert "<script>alert" not in markup
        assert "<img src=x" not in markup
        assert html.escape(evil) in markup


def test_an_empty_list_says_what_that_means(client: Client) -> None:
    assert "No dead letters." in page(client, "?status=dead")
    assert "Nothing is waiting for a retry." in page(client, "?status=retrying")
    assert "Nothing matches." in page(client, "?status=dead&channel=Slack")


def test_a_refresh_is_only_what_changes(client: Client) -> None:
    dead()
    client.post(url("requeue", dead()))
    markup = page(client, "?status=dead", headers={"X-Notifications-Refresh": "1"})
    assert 'data-live="nf-tabs"' in markup
    assert 'data-live="nf-list"' in markup
    assert "Retry 5/5" in markup
    assert "<html" not in markup
    assert "Requeued: " not in markup
    assert "Requeued: " in page(client), "a refresh must not use up what the next page has to say"


def test_no_style_or_script_is_inline(client: Client) -> None:
    event = dead()
    for address in (LIST, url("change", event)):
        markup = client.get(address).content.decode()
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", markup)


def test_the_list_costs_the_same_for_one_row_and_for_many(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    # session, user, count, page, six tabs, holds, operations, the last sweep of each kind, what is left
    # to certctl, and for the filters' options the newest and the newest dead
    dead()
    failed()
    with django_assert_num_queries(17):
        page(client)
    for make in (dead, failed, sent, pending, read, stranded, leased) * 10:
        make()
    with django_assert_num_queries(17) as queries:
        page(client)
    assert_reads_no_message(queries)
    with django_assert_num_queries(15):
        page(client, headers={"X-Notifications-Refresh": "1"})


def assert_reads_no_message(queries: CaptureQueriesContext) -> None:
    (rows,) = [query["sql"] for query in queries.captured_queries if "LIMIT 50" in query["sql"]]
    columns = rows.split(" FROM ")[0]
    assert '"last_error"' in columns
    assert re.findall(r'(\w+)\([^(]*"message"', columns) in (["SUBSTR"], ["LEFT"]), "its beginning, no more"
    assert columns.count('"message"') == 1
