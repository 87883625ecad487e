"""The console says what is so: each page asks the same functions, and none leaves out what matters."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client

from notifications.admin import guard
from notifications.admin import list as listed
from notifications.endpoints import holds
from notifications.models import BulkOperation, Hold, NotificationEvent
from notifications.operations import bulk
from notifications.reporting import words
from notifications.text import isolated, revealed, revealed_markup
from tests.admin.outages import hold, outage
from tests.admin.support import LIST, As, act, person, said, text, typed, url
from tests.factories import (
    ago,
    ahead,
    dead,
    failed,
    not_delivered,
    pending,
    read,
    refused,
    sent,
    stranded,
)
from tests.reporting.rows import swept, tally, this_hour
from tests.scripted import Script

pytestmark = pytest.mark.django_db
ENDPOINTS, OPERATIONS, DASHBOARD = LIST + "endpoints/", LIST + "operations/", LIST + "dashboard/"
PAUSE = {"channel": "Webhook", "length": "30m", "why": "they move", "recipient": "", "match": "exact"}
ALL = {"select_across": "1", "_selected_action": "-"}


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


# Pauses (2)


@pytest.mark.parametrize(
    ("recipient", "match", "scope", "waiting"),
    [
        ("hooks.example.com", "exact", "Webhook to https://hooks.example.com/…", 2),
        ("hooks.example.com", "prefix", "Webhook to https://hooks.example.com/…", 2),
        ("hooks.example.com/", "prefix", "Webhook to https://hooks.example.com/…", 2),
        ("https://hooks.example.com", "prefix", "Webhook to https://hooks.example.com/…", 2),
        ("https://hooks.example.com/1", "exact", "Webhook to https://hooks.example.com/1", 1),
        ("localhost:8000", "exact", "Webhook to http://localhost:8000/…", 1),
        ("ops@example.com", "exact", "Webhook to ops@example.com", 1),
        ("", "exact", "Webhook", 4),
    ],
)
def test_what_is_typed_becomes_an_endpoint(
    client: Client, script: Script, recipient: str, match: str, scope: str, waiting: int
) -> None:
    for number in (1, 2):
        pending(recipient=f"https://hooks.example.com/{number}")
    pending(recipient="http://localhost:8000/x")
    failed(recipient="ops@example.com")
    data = {**PAUSE, "recipient": recipient, "match": match}
    asked = client.post(ENDPOINTS, {**data, "ask": "1"})
    assert f"It covers {scope}: {waiting} wait now." in text(asked)
    assert not Hold.objects.exists(), "asking pauses nothing"
    response = client.post(ENDPOINTS, {**data, "pause": "1"}, follow=True)
    assert said(response)[0].endswith(f"It covers {scope}: {waiting} wait now.")
    assert holds.scope(Hold.objects.get()) == scope
    [row] = response.context["rows"]
    assert row.waiting == waiting


def test_a_pause_that_covers_nothing_says_so_before_and_after(client: Client, script: Script) -> None:
    data = {**PAUSE, "recipient": "hoks.example.com"}
    doubt = "None of the newest 10,000 notifications goes there: is it spelled right?"
    asked = client.post(ENDPOINTS, {**data, "ask": "1"})
    assert doubt in text(asked)
    assert "Pause all the same" in text(asked)
    response = client.post(ENDPOINTS, {**data, "pause": "1"}, follow=True)
    assert doubt in said(response)[0]
    assert [message.level_tag for message in response.context["messages"]] == ["warning"]
    assert doubt in typed("pause", "webhook", "hoks.example.com")


@pytest.mark.parametrize("wrong", [{"length": "soon"}, {"channel": "Slak"}, {"length": "5h"}])
def test_a_refused_form_keeps_what_was_typed(client: Client, script: Script, wrong: dict[str, str]) -> None:
    data = {**PAUSE, "recipient": "https://a.example/x", "match": "prefix", **wrong}
    markup = client.post(ENDPOINTS, {**data, "pause": "1"}).content.decode()
    for value in (data["recipient"], data["length"], data["why"]):
        assert f'value="{value}"' in markup
    assert '<option value="prefix" selected>' in markup


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"length": "bogus"}, "Not a duration: write 90s, 2m or 1h."),
        ({"length": "9h"}, "a pause is at most 4 h long"),
        ({"recipient": "nosuch host", "match": "prefix"}, "a host has no blank in it"),
    ],
)
def test_a_pause_is_judged_before_it_is_offered(
    client: Client, script: Script, wrong: dict[str, str], why: str
) -> None:
    page = client.post(ENDPOINTS, {**PAUSE, **wrong, "ask": "1"})
    assert f"Not as it stands: {why}" in text(page)
    assert 'name="pause"' not in page.content.decode()


# Who was first (3)


@pytest.mark.parametrize("how", ["selection", "group", "list"])
def test_the_second_who_confirms_is_told_who_was_first(signed_in: As, how: str) -> None:
    rows = [dead(last_error="HTTP 503") for _ in range(3)]
    queries = {"selection": "?status=dead", "group": "?status=dead&channel=Webhook&alike=HTTP 503"}
    query = queries.get(how, "?status=dead")
    chosen = {} if how == "selection" else ALL
    first, second = signed_in("superuser"), signed_in("requeuer")
    asked = act(second, "requeue_selected", *rows, query=query, **chosen)
    hidden = dict(re.findall(r'name="(asked_\w+)" value="([^"]*)"', asked.content.decode()))
    assert hidden["asked_for"] == "3"
    act(first, "requeue_selected", *rows, query=query, confirm="1", **chosen)
    response = act(
        second, "requeue_selected", *rows, query=query, confirm="1", follow=True, **chosen, **hidden
    )
    [told] = said(response)
    which = "3 of these" if how == "selection" else "3 notifications"
    assert told.startswith("Requeued: 0 notifications.")
    assert f"superuser: requeued {which}" in told
    late = act(second, "requeue_selected", *rows, query=query, **chosen)
    assert f"Somebody was first. superuser: requeued {which}" in text(late)


def test_nobody_is_named_who_did_nothing(client: Client) -> None:
    response = act(client, "requeue_selected", dead(), confirm="1", follow=True, asked_for="1")
    assert said(response) == ["Requeued: 1 notification."]


# One state (4, 5)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "held"),
        ({"until": ago(seconds=1)}, "held"),
        ({"since": ago(hours=5)}, "held past the limit"),
        ({"reason": "paused", "by": "ada"}, "paused"),
        ({"reopened_at": ago(minutes=1)}, "recovering"),
    ],
)
def test_dashboard_and_endpoints_say_the_same(
    client: Client, script: Script, fields: dict[str, Any], state: str
) -> None:
    hold(**{"endpoint": "webhook paused 3f2a", **fields})
    [row] = client.get(ENDPOINTS).context["rows"]
    [channel] = client.get(DASHBOARD).context["health"]
    [(_, words, badge)] = channel.holds
    assert (words, badge, words.state) == (row.words, row.badge, state)
    for page in (ENDPOINTS, DASHBOARD):
        assert "✓ open" not in text(client.get(page))


def test_a_pauses_own_key_is_shown_to_nobody(client: Client, script: Script) -> None:
    hour, limit = timedelta(hours=1), timedelta(hours=4)
    holds.pause("Webhook", "https://a.example/", exact=False, length=hour, limit=limit, by="ada")
    key = Hold.objects.get().endpoint
    shown = client.get("/api/v1/stats/summary").json()["holds"]
    assert [found["endpoint"] for found in shown] == ["Webhook, some recipients"]
    pages = [text(client.get(page)) for page in (DASHBOARD, ENDPOINTS)]
    for said_of_it in (*pages, typed("stats"), typed("holds")):
        assert key not in said_of_it


def test_a_row_behind_a_hold_or_a_pause_says_so_wherever_it_is_shown(client: Client, script: Script) -> None:
    hold(reason="server")
    hold(endpoint="p", recipient_prefix="", exact=True, reason="paused", by="ada", error="they move")
    held, paused = failed(recipient="https://hooks.example.com/1"), pending(recipient="ops")
    free = failed(recipient="https://elsewhere.example.com/")
    page = client.get(LIST)
    waits = re.findall(r'<a class="nf-waits" href="([^"]+)"[^>]*>([^<]+)</a>', page.content.decode())
    assert [(where, what.split(" until ")[0]) for where, what in waits] == [
        (ENDPOINTS, "paused"),
        (ENDPOINTS, "held"),
    ]
    for event, why in ((held, "held (its server fails)"), (paused, "paused by ada")):
        for shown in (text(client.get(url("change", event))), typed("show", event.pk)):
            assert re.search(rf"Waits until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: {re.escape(why)}", shown)
            assert "with the next delivery" not in shown
            assert "due now" not in shown
    assert "due now" in typed("show", free.pk)


@pytest.mark.parametrize("fields", [{"reopened_at": ago(minutes=1)}, {"since": ago(hours=5)}])
def test_what_keeps_nothing_back_is_not_waited_for(
    client: Client, script: Script, fields: dict[str, Any]
) -> None:
    hold(**fields)
    event = pending(recipient="https://hooks.example.com/1")
    assert "with the next delivery" in text(client.get(url("change", event)))


def test_a_later_retry_is_later_than_the_hold(client: Client, script: Script) -> None:
    hold(until=ahead(minutes=5))
    event = failed(due_at=ahead(hours=1), recipient="https://hooks.example.com/1")
    assert "next in 59 min" in text(client.get(url("change", event)))


def test_the_confirmation_says_how_many_will_wait_and_for_what(client: Client, script: Script) -> None:
    hold(endpoint="p", recipient_prefix="", reason="paused", by="ada", error="they move")
    rows = [dead(recipient="ops") for _ in range(3)]
    asked = text(act(client, "requeue_selected", *rows))
    assert "3 wait once they are requeued: Webhook is paused until" in asked
    assert "1 waits once it is requeued: Webhook" in text(act(client, "requeue_selected", rows[0]))
    assert "wait once" not in text(act(client, "dismiss_selected", *rows))


# Dismissed and seen (6)


def test_dismissed_and_seen_are_two_words_on_every_surface(client: Client) -> None:
    closed, seen = dead(recipient="closed"), sent(recipient="seen")
    closed.dismiss(by="ada", reason="known")
    seen.mark_seen(by="ada")
    for status, event, badge in (("dismissed", closed, "⊘ Dismissed"), ("seen", seen, "✓ Seen")):
        page = client.get(f"{LIST}?status={status}")
        assert [row.pk for row in page.context["cl"].result_list] == [event.pk]
        assert badge in text(page)
        assert badge in text(client.get(url("change", event)))
        answer = client.get("/api/v1/notifications", {"status": status}).json()
        assert [(row["id"], row["dismissed"]) for row in answer["data"]] == [(event.pk, event == closed)]
        assert client.get(f"/api/v1/notifications/{event.pk}").json()["dismissed"] == (event == closed)
        assert [row["id"] for row in json.loads(typed("list", "--status", status, "--json"))] == [event.pk]
        [line] = [line for line in typed("list").splitlines() if line.startswith(event.pk)]
        assert line.split()[1] == status
    assert "Dismissed 1" in text(client.get(LIST)), "a tab, where there are any"


def test_a_dismissed_one_is_restored_from_its_page_and_from_the_list(client: Client) -> None:
    one, other = dead(), dead()
    for event in (one, other):
        event.dismiss(by="ada")
    assert [verb.name for verb, _ in client.get(url("change", one)).context["verbs"]] == ["restore"]
    response = act(client, "restore_selected", query="?status=dismissed", confirm="1", follow=True, **ALL)
    assert said(response) == ["Restored: 2 notifications."]
    assert NotificationEvent.objects.dead().count() == 2
    assert "Restored by superuser via admin" in text(client.get(url("change", one)))


def test_restoring_from_the_command_line_and_over_rest(client: Client) -> None:
    one, other, seen = dead(), dead(), sent()
    one.dismiss(by="ada")
    other.dismiss(by="ada")
    seen.mark_seen(by="ada")
    assert typed("restore", one.pk) == "1 restored\n"
    assert client.post(f"/api/v1/notifications/{other.pk}/restore").status_code in (200, 403)
    assert typed("restore", "--all", "--yes").startswith(("0 restored", "1 restored"))
    assert NotificationEvent.objects.dead().count() == 2
    seen.refresh_from_db()
    assert seen.status == "read"


# Outages (8)


def test_older_outages_stay_within_reach(client: Client, script: Script) -> None:
    for n in range(23):
        outage(1 if n in (0, 22) else 0, endpoint=f"e{n}", died=1)
    seen: list[str] = []
    address = ENDPOINTS
    while address:
        page = client.get(address)
        seen += [offer.outage.endpoint for offer in page.context["offers"]]
        older = page.context["older"]
        address = ENDPOINTS + older if older else ""
    assert seen == [f"e{n}" for n in reversed(range(23))]
    assert "Requeue these" in page.content.decode(), "the oldest, too"


def test_what_was_not_counted_is_not_said_to_be_none(
    client: Client, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.operations.redrive.LOOKED_THROUGH", 1)
    outage(2)
    for _ in range(2):
        dead(channel="Email", created_at=ago(hours=1))
    page = client.get(ENDPOINTS)
    assert "0+" not in text(page)
    assert page.context["offers"][0].count == "not counted"
    assert "Requeue these" in page.content.decode()


# A slow database (9)

PAGES = ("", "?status=dead", "dashboard/", "endpoints/", "operations/")
OTHERS = ("/admin/", "/admin/auth/user/", "/admin/password_change/")


@pytest.mark.parametrize("page", [*PAGES, *OTHERS])
def test_every_page_has_a_limit_of_time_and_a_sentence(
    client: Client, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    client.get(LIST)
    monkeypatch.setattr(guard, "LOOKING_SECONDS", 0.0)
    response = client.get(page if page in OTHERS else LIST + page)
    assert response.status_code == 503
    assert "The database does not answer" in text(response)
    assert "Nothing was changed." in text(response)


def test_the_login_page_says_so_too(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    person("viewer")
    for name in ("LOOKING_SECONDS", "DECIDING_SECONDS"):
        monkeypatch.setattr(guard, name, 0.0)
    login = {"username": "viewer", "password": "wrong"}
    answers = [client.get("/admin/login/"), Client().post("/admin/login/", login)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("The database does not answer" in text(answer) for answer in answers)
    assert all("Nothing was changed." in text(answer) for answer in answers), "a login decides nothing"
    assert Client().get("/admin/login/").status_code == 200, "it asks the database for nothing"


def test_a_decision_that_the_database_did_not_answer_says_that_it_may_be_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = dead()
    monkeypatch.setattr(guard, "DECIDING_SECONDS", 0.0)
    times = iter([100.0, 110.4])
    monkeypatch.setattr(guard, "monotonic", lambda: next(times))
    response = client.post(url("requeue", event))
    assert response.status_code == 503
    assert "This page waited 10 s for it" in text(response)
    assert "may have been done or not" in text(response)


def test_what_could_not_be_read_is_said_to_be_unknown(
    client: Client, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError("canceling statement due to statement timeout")

    for name in ("counts", "dead_by_channel", "holds", "traffic", "latest"):
        away.__name__ = name
    monkeypatch.setattr("notifications.reporting.snapshot.PARTS", (away,))
    shown = text(client.get(DASHBOARD))
    assert "No channel is configured" not in shown
    assert "How things stand is not known" in shown
    assert re.search(r"Webhook not known \? dead delivered: not known failed: not known", shown)


# Text that turns others round (10)

TURNING = "ops\u202egro.elpmaxe\u2066\x1b[2J"


def test_hidden_characters_are_shown_on_every_page(client: Client, script: Script) -> None:
    event = dead(
        recipient=TURNING, certificate_id=TURNING, message=TURNING, last_error=TURNING, type=TURNING,
        channel="Web\u202ehook",
    )  # fmt: skip
    hold(recipient_prefix=TURNING, error=TURNING)
    texts = {"filters": TURNING, "reason": TURNING, "by": TURNING}
    BulkOperation.objects.create(kind="requeue", via="admin", requested=1, started_at=ago(), **texts)
    outage(0, recipient_prefix=TURNING, error=TURNING, died=1)
    pages = [client.get(LIST + page) for page in PAGES] + [client.get(url("change", event))]
    pages += [act(client, "requeue_selected", event)]
    pages += [act(client, "dismiss_selected", query="?status=dead", **ALL)]
    pages += [client.post(url("requeue", event), follow=True)]
    for page in pages:
        shown = re.sub(r"<[^>]*>", "", page.content.decode())
        assert not re.search("[\u202a-\u202e\x1b]|\u2066", shown), page.request["PATH_INFO"]
        assert "[U+202E]" in shown or page.request["PATH_INFO"] == DASHBOARD
    assert act(client, "requeue_selected", event).status_code == 200
    assert f'value="{event.pk}"' in pages[0].content.decode()


def test_an_id_with_hidden_characters_can_still_be_chosen(client: Client) -> None:
    event = dead(id="id\u202e\x1b")
    assert f'value="{event.pk}"' in client.get(LIST).content.decode()
    act(client, "requeue_selected", event, confirm="1")
    event.refresh_from_db()
    assert event.status == "pending"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("é, 日本", "é, 日本"),
        ("a\u202eb", "a[U+202E]b"),
        ("\u05d0\u05d1", "\u2068\u05d0\u05d1\u2069"),
        ("\u05d0\u2069b", "\u2068\u05d0[U+2069]b\u2069"),
    ],
)
def test_a_text_within_a_sentence_is_isolated(given: str, shown: str) -> None:
    assert isolated(given) == shown
    assert revealed(shown) == shown, "what is isolated already stays so"


def test_tags_are_left_as_they_are() -> None:
    assert revealed_markup('<input value="\u202e">\u202e') == '<input value="\u202e">[U+202E]'


# What is counted is what is shown (11)


def test_what_a_card_counts_its_link_shows(client: Client, script: Script) -> None:
    for make, number in ((pending, 1), (failed, 2), (stranded, 3), (sent, 4), (dead, 5), (not_delivered, 6)):
        for _ in range(number):
            make()
    refused(failed())
    read()
    markup = client.get(DASHBOARD).content.decode()
    cards = re.findall(r'<li[^>]*><a href="([^"]+)"><b[^>]*>([\d,]+)</b>', markup)
    assert len(cards) >= 8
    for address, number in cards:
        assert client.get(unescape(address)).context["cl"].result_count == int(number), address


def test_a_group_that_was_not_counted_to_the_end_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        dead(last_error="HTTP 503")
    assert ">6</td>" in client.get(LIST + "?status=dead").content.decode()
    monkeypatch.setattr(listed, "DETAILED", 4)
    assert re.search(r">\d\+</td>", client.get(LIST + "?status=dead").content.decode())


def test_groups_name_a_channel_as_the_settings_do(client: Client, script: Script) -> None:
    for channel in ("webhook", "WEBHOOK", "Webhook"):
        dead(channel=channel)
    [(group, _)] = client.get(LIST + "?status=dead").context["cl"].groups
    assert (group.channel, group.count) == ("Webhook", 3)
    assert act(client, "requeue_selected", *NotificationEvent.objects.all()).context["survey"].channels == [
        ("Webhook", 3)
    ]


# What became of them


def test_an_operation_says_what_became_of_what_it_changed(client: Client) -> None:
    rows = [dead() for _ in range(5)]
    act(client, "requeue_selected", *rows, confirm="1")
    operation = BulkOperation.objects.get()
    for row in rows[:2]:
        NotificationEvent.objects.get(pk=row.pk).mark_as_sent(ago())
    NotificationEvent.objects.get(pk=rows[2].pk).mark_as_dead("again")
    page = client.get(f"{OPERATIONS}{operation.pk}/")
    counts = {now.url.split("status=")[1].split("&")[0]: now.number for now in page.context["became"]}
    assert counts == {"sent": "2", "pending": "2", "dead": "1"}
    for now in page.context["became"]:
        assert client.get(now.url).context["cl"].result_count == int(now.number)
    assert "Undo for the 2 that nobody has attempted" in text(page)
    response = client.post(f"{OPERATIONS}{operation.pk}/", {"undo": "1"}, follow=True)
    assert said(response) == ["Undone: 2 notifications."]
    assert NotificationEvent.objects.dead().count() == 3


def test_what_a_stopped_one_left_can_be_done(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "STEP", 3)
    for _ in range(8):
        dead(created_at=ago(hours=1))
    answer = act(client, "requeue_selected", query="?status=dead", confirm="1", **ALL)
    address = answer.headers["Location"].removesuffix("?begun=1")
    client.post(address, {"stop": "1"})
    late = dead()
    page = client.get(address)
    assert "Requeue: stopped" in text(page)
    assert "Requeue the other 5" in text(page)
    client.post(address, {"rest": "1"})
    newest = BulkOperation.objects.order_by("pk").last()
    assert newest
    bulk.finish(newest)
    assert list(NotificationEvent.objects.dead()) == [late], "what was raised since is not meant"


def test_what_is_read_has_a_tab_and_its_number(client: Client) -> None:
    for make in (read, sent):
        make()
    figures = {figure.label: figure for figure in client.get(DASHBOARD).context["quiet"]}
    for kind in ("seen", "dismissed", "withdrawn"):
        cl = client.get(f"{LIST}?{figures[kind].query}").context["cl"]
        number = figures[kind].number
        assert [(tab.label, tab.number) for tab in cl.tabs if tab.selected] == [(kind.capitalize(), number)]


def test_a_row_that_waits_for_a_pause_says_so_in_its_timeline(client: Client, script: Script) -> None:
    paused = hold("webhook paused", recipient_prefix="", reason="paused", by="maria")
    page = text(client.get(url("change", failed(due_at=ago(minutes=1)))))
    assert f"Waits until {words.minute(paused.until)}: paused by maria" in page
    assert "Next attempt" not in page


# A verdict first


def test_one_sentence_comes_first_and_is_the_same_everywhere(client: Client, script: Script) -> None:
    call_command("send_notifications", stdout=StringIO())
    hold(since=ago(minutes=50))
    pending(recipient="https://hooks.example.com/1")
    for _ in range(2):
        dead()
    dashboard, index = text(client.get(DASHBOARD)), text(client.get("/admin/"))
    held = "Webhook to https://hooks.example.com/… has been held for 50 min, 1 waits;"
    wanted = f"{held} 2 died in the last hour; 2 dead letters wait for a decision."
    assert wanted in dashboard
    assert wanted in index
    assert typed("status").startswith(wanted)
    assert json.loads(typed("status", "--json"))["bad"] is True


def test_the_verdict_says_the_worst_three_and_counts_the_others(client: Client, script: Script) -> None:
    call_command("send_notifications", stdout=StringIO())
    for n in range(2):
        hold(f"webhook https://h{n}", recipient_prefix=f"https://h{n}/", since=ago(minutes=50))
    pending(recipient="https://h1/x")
    dead()
    for channel in ("Email", "Webhook"):
        stranded(channel=channel, error=None if channel == "Email" else "HTTP 503")
    page, index = client.get(DASHBOARD), text(client.get("/admin/"))
    verdict = page.context["verdict"]
    assert verdict.text.startswith("Webhook to https://h1/… has been held for 50 min, 1 waits; 1 died")
    assert verdict.text.endswith("1 dead letter waits for a decision, and 2 more.")
    assert "Webhook to https://h0/… has been held for 50 min, nothing waits." in verdict.all
    assert "2 stranded: nothing tries them again, 1 of them probably delivered." in verdict.all
    assert "All else" not in verdict.text
    assert "#nf-facts" in client.get("/admin/").content.decode()
    assert "and 2 more" in index
    assert all(fact in text(page) for fact in verdict.all)
    assert typed("status").strip() == verdict.text


def test_what_is_held_and_paused_counts_its_waiting_once(client: Client, script: Script) -> None:
    call_command("send_notifications", stdout=StringIO())
    hold("webhook", recipient_prefix="", since=ago(minutes=50))
    hold("webhook paused", recipient_prefix="", since=ago(minutes=5), reason="paused", by="maria")
    hold("webhook https://h", recipient_prefix="https://h/", since=ago(minutes=9))
    pending(recipient="https://h/1")
    said = typed("status")
    assert said.startswith(
        "Webhook has been held for 50 min and paused by maria for 5 min, 1 waits; Webhook to"
    )
    assert said.count("1 waits") == 1


def test_where_nobody_sweeps_nothing_else_is_said_to_be_delivered(client: Client) -> None:
    swept("pending", ago(seconds=5))
    tally("Webhook", "sent", this_hour(), attempts=3, age_1=3)
    failed()
    said = typed("status")
    assert said.startswith("No retry sweep has ever run, and 1 notification waits for one.")
    assert "delivered" not in said


def test_when_nothing_is_wrong_it_says_that(client: Client, script: Script) -> None:
    pending()
    call_command("send_notifications", stdout=StringIO())
    assert typed("status").startswith("Nothing is wrong: all is delivered, 95 of 100 within")
