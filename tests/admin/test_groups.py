"""Dead letters by error: the newest one's words, where they went, when, and in which order."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from notifications.admin import list as listed
from notifications.admin.charts import bars, line, spark
from notifications.admin.groups import place_of
from notifications.deaths.fingerprints import FOLD, WORDS, fingerprint, parts
from tests.admin.support import LIST, As
from tests.factories import ago, dead

pytestmark = pytest.mark.django_db
DEAD = LIST + "?status=dead"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("viewer")


def groups(client: Client, query: str = "") -> list[Any]:
    return [group for group, _ in client.get(DEAD + query).context["cl"].groups]


def test_the_title_is_the_newest_error_with_what_changes_told_apart(client: Client) -> None:
    dead(last_error="HTTP 503 from https://a.example.com: busy, request 1", created_at=ago(hours=1))
    dead(last_error="HTTP 503 from https://b.example.com: busy,\nrequest 2", created_at=ago(minutes=1))
    assert len(groups(client)) == 1
    markup = client.get(DEAD).content.decode()
    assert "HTTP 503 from <i>https://b.example.com:</i> busy, request <i>2</i>" in markup


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "HTTP 404: gone",
        f"{'word ' * WORDS}detail 7",
        "a 1 2 b",
        "SMTP 550: 5.1.1 <a@b.example>: no",
    ],
)
def test_the_parts_are_the_text_and_agree_with_the_fingerprint(text: str) -> None:
    found = parts(text)
    assert " ".join(part.text for part in found) == " ".join(text.split())
    stays = [word for part in found if not part.changes for word in part.text.split()]
    assert stays == [word for word in fingerprint(text).split() if word != FOLD and text.strip()]


def test_where_most_went(client: Client) -> None:
    for n in range(3):
        dead(recipient=f"https://hooks7.example.com/{n}", last_error="HTTP 503")
    dead(recipient="https://elsewhere.example.com/", last_error="HTTP 503")
    for _ in range(2):
        dead(channel="Slack", recipient="#pki", last_error="HTTP 404")
    dead(channel="Email", recipient="ops@example.com", last_error="SMTP 550")
    tops = {group.channel: group.top for group in groups(client)}
    assert tops == {
        "Webhook": ("3 of 4", "hooks7.example.com"),
        "Slack": ("all 2", "#pki"),
        "Email": ("", "ops@example.com"),
    }
    assert place_of("https://[odd") == "https://[odd"


def test_the_last_day_is_drawn_and_what_began_in_it_is_new(client: Client) -> None:
    for hours in (0, 0, 5, 23):
        dead(last_error="HTTP 503", created_at=ago(hours=hours, minutes=1))
    dead(last_error="HTTP 404", created_at=ago(hours=30))
    dead(last_error="HTTP 404", created_at=ago(hours=2))
    new, old = sorted(groups(client), key=lambda group: group.error, reverse=True)
    assert [new.hours[n] for n in (-1, -6, 0)] == [2, 1, 1]
    assert new.spark_text == "4 raised in the last 24 hours, at most 2 in an hour"
    assert (new.spark.count("M"), old.spark.count("M")) == (3, 1)
    markup = client.get(DEAD).content.decode()
    assert markup.count('class="nf-new"') == 1
    assert "HTTP 503" in markup.split('class="nf-new"')[0].rsplit("<tr>", 1)[1]


def test_sorted_by_last_seen_or_by_count(client: Client) -> None:
    for _ in range(3):
        dead(last_error="HTTP 503", created_at=ago(hours=2))
    dead(last_error="HTTP 404", created_at=ago(minutes=1))
    assert [group.error for group in groups(client)] == ["HTTP 404", "HTTP 503"]
    assert [group.error for group in groups(client, "&groups=count")] == ["HTTP 503", "HTTP 404"]
    page = client.get(DEAD + "&groups=count").content.decode()
    assert re.search(r'<a href="\?groups=count&amp;status=dead" aria-current="true">count</a>', page)
    assert not client.get(DEAD + "&groups=count").context["cl"].narrowed, "an order narrows nothing"


def test_three_where_the_list_is_filtered(client: Client) -> None:
    for n in range(7):
        dead(last_error=f"error of kind {'abcdefg'[n]}")
    cl = client.get(DEAD).context["cl"]
    assert (len(cl.top_groups), len(cl.other_groups)) == (listed.TOP_GROUPS, 7 - listed.TOP_GROUPS)
    assert len(client.get(DEAD + "&channel=Webhook").context["cl"].top_groups) == 3


def test_many_cost_what_few_cost(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    dead()
    client.get(DEAD)
    with CaptureQueriesContext(connection) as few:
        client.get(DEAD)
    for n in range(30):
        dead(last_error=f"error of kind {chr(97 + n % 26)}", recipient=f"https://h{n}.example.com/")
    with django_assert_num_queries(len(few)):
        client.get(DEAD)


def test_a_drawing_stays_within_its_box() -> None:
    assert bars([0, 0], 10, 10, 0) == line([0, 0], 10, 10, 0) == spark([]) == ""
    assert bars([0, 5, 10], 30, 20, 10) == "M10 20v-10h7.5V20zM20 20v-20h7.5V20z"
    assert bars([1, 10_000], 20, 20, 10_000).startswith("M0 20v-1.5h"), "what is not nothing is seen"
    assert line([0, 10], 20, 20, 10) == "M3.75 20L13.75 0"
