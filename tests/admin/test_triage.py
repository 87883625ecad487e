"""What people say of a group of dead letters: snoozed, whose it is, a note. It hides nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from notifications.models import GroupNote, NotificationEvent
from notifications.operations import triage
from notifications.operations.triage import Overtaken, standings
from tests.admin.support import LIST, As, said, text, typed
from tests.factories import ago, attempt, dead
from tests.scripted import Script

pytestmark = pytest.mark.django_db
NOW = timezone.now()
ERROR = "HTTP 404: no_service: request … was not taken"
OTHER = "HTTP 503: upstream is down"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("reader")


@pytest.fixture(autouse=True)
def two_groups(db: None, script: Script) -> None:
    for number in range(3):
        dead(channel="webhook", last_error=ERROR.replace("…", str(number)), created_at=ago(days=1))
    dead(last_error=OTHER, created_at=ago(days=1))


def address(channel: str = "Webhook", error: str = ERROR) -> str:
    return f"{LIST}group/?{urlencode({'channel': channel, 'alike': error})}"


def decide(client: Client, **data: str) -> Any:
    version = client.get(address()).context["version"]
    return client.post(address(), {"version": str(version), **data}, follow=True)


def shown(client: Client) -> tuple[list[str], list[str]]:
    """The errors of the groups, and of those that are folded away."""
    cl = client.get(LIST + "?status=dead&groups=count").context["cl"]
    return [group.error for group, _ in cl.groups], [group.error for group, _ in cl.snoozed_groups]


def test_a_snoozed_group_is_folded_away_and_counted_all_the_same(client: Client) -> None:
    assert shown(client) == ([ERROR, OTHER], [])
    before = typed("status")
    response = decide(client, snooze="1", length="4h")
    assert re.match(r"Snoozed by reader \S+ s ago, until ", said(response)[0])
    assert shown(client) == ([OTHER], [ERROR])
    page = text(client.get(LIST + "?status=dead"))
    assert "1 group snoozed, 3 dead letters" in page
    assert "Dead letter 4" in page
    assert "4 notifications" in page
    assert typed("status") == before
    assert NotificationEvent.objects.dead().count() == 4
    [entry] = LogEntry.objects.all()
    assert entry.user.get_username() == "reader"
    assert entry.change_message.endswith(f"Group: Webhook: {ERROR}")
    assert said(decide(client, wake="1")) == ["The snooze is ended."]
    assert shown(client) == ([ERROR, OTHER], [])
    assert "Not snoozed: ended by reader" in text(client.get(address()))


def test_a_snooze_ends_at_its_time(client: Client) -> None:
    now = NOW
    triage.snooze("Webhook", ERROR, version=0, by="ada", now=now, until=now + timedelta(hours=1))
    key = GroupNote.key_of("WEBHOOK", ERROR)
    for minutes, snoozed in ((59, True), (60, False)):
        assert standings([("webhook", ERROR)], now + timedelta(minutes=minutes))[key].snoozed == snoozed
    GroupNote.objects.update(snoozed_until=ago(minutes=1))
    assert shown(client) == ([ERROR, OTHER], [])
    assert "The snooze is over: it was begun by ada" in text(client.get(address()))


def test_a_snooze_ends_when_so_many_more_have_died(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(client, snooze="1", growth="2", length="")
    assert shown(client) == ([OTHER], [ERROR])
    dead(last_error=ERROR.replace("…", "77"))  # raised since, so it died since
    attempt(dead(channel="Slack", last_error=ERROR.replace("…", "5"), created_at=ago(days=1)), "transient")
    attempt(NotificationEvent.objects.filter(last_error=OTHER).get(), "permanent")
    assert shown(client) == ([ERROR, OTHER], [ERROR]), "that of another channel is another group"
    assert "until 2 more have died (1 so far)" in text(client.get(LIST + "?status=dead"))
    old = dead(last_error=ERROR.replace("…", "78"), created_at=ago(days=9))
    attempt(old, "sent", started_at=timezone.now())
    assert shown(client)[1] == [ERROR], "it has not failed since"
    monkeypatch.setattr(triage, "LOOKED_AT", 0)
    assert shown(client)[1] == [], "what cannot be counted is not left alone"
    monkeypatch.undo()
    attempt(old, "transient", started_at=timezone.now())
    assert shown(client)[1] == []
    assert "(2 so far)" in text(client.get(address()))


def test_it_is_assigned_and_noted(client: Client, signed_in: As) -> None:
    signed_in("requeuer")
    assert said(decide(client, assign="", to="requeuer")) == ["Assigned to requeuer."]
    assert said(decide(client, note="1", text="they move\n\u202ehosts <b>")) == ["The note is kept."]
    page = text(client.get(LIST + "?status=dead"))
    assert "Assigned to requeuer ." in page
    assert "they move [U+202E]hosts <b>" in page
    note = GroupNote.objects.get()
    assert (note.assigned_by, note.noted_by, note.version) == ("reader", "reader", 2)
    assert note.assigned_at is not None
    assert said(decide(client, assign="reader", to="requeuer")) == ["Assigned to reader."], "the button"
    assert said(decide(client, assign="", to="")) == ["Assigned to nobody."]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"snooze": "1"}, "say until when, or until how many more have died."),
        ({"snooze": "1", "length": "soon"}, "Not a duration: write 90s, 2m or 1h."),
        ({"snooze": "1", "length": "999999999d"}, "that is beyond the calendar."),
        ({"snooze": "1", "growth": "0"}, "a group grows by a number from 1 to 1,000."),
        ({"snooze": "1", "growth": "²"}, "a group grows by a number from 1 to 1,000."),
        ({"assign": "", "to": "nobody such"}, "nobody named nobody such may look at notifications."),
        ({"assign": "", "to": "nobody"}, "nobody named nobody may look at notifications."),
        ({"note": "1", "text": "x" * 2001}, "a note has at most 2,000 characters."),
        ({}, "nothing was chosen"),
    ],
)
def test_what_says_nothing_is_refused_with_why(
    client: Client, signed_in: As, data: dict[str, str], why: str
) -> None:
    signed_in("nobody")
    assert said(decide(client, **data)) == [f"Not done: {why}"]
    assert not GroupNote.objects.exists()


def test_nobody_overwrites_what_they_have_not_seen(client: Client) -> None:
    triage.assign("Webhook", ERROR, version=0, by="ada", now=timezone.now(), to="bob")
    response = client.post(address(), {"version": "0", "assign": "reader"}, follow=True)
    [told] = said(response)
    assert re.fullmatch(r"Not done: ada changed this \S+ s ago, and this is how it is now\.", told)
    assert GroupNote.objects.get().assigned_to == "bob"
    with pytest.raises(Overtaken, match="ada has changed it"):
        triage.take_note("webhook", ERROR, version=7, by="x", now=timezone.now(), text="x")
    assert "Assigned to bob" in text(response)


@pytest.mark.parametrize(
    "query", ["", "?channel=Webhook", "?channel=%00&alike=x", "?channel=x&alike=" + "y" * 1001]
)
def test_what_is_no_group_is_refused(client: Client, query: str) -> None:
    for response in (client.get(f"{LIST}group/{query}"), client.post(f"{LIST}group/{query}", {"wake": "1"})):
        assert response.status_code == 400


def test_a_group_that_has_gone_is_shown(client: Client) -> None:
    page = client.get(address(error="never heard"))
    assert "0 dead letters now" in text(page)
    response = client.post(
        address(error="no fingerprint 17"), {"version": "0", "note": "1", "text": "x"}, follow=True
    )
    assert said(response) == ["The note is kept."]
    assert GroupNote.objects.get().error == "no fingerprint …"


def test_a_group_that_is_asked_for_by_an_error_as_it_is_is_the_same_group(client: Client) -> None:
    raw = ERROR.replace("…", "2")
    decide(client, note="1", text="known")
    page = client.get(address(error=raw))
    assert (page.context["error"], page.context["count"]) == (ERROR, "3")
    assert page.context["note"].note == "known"
    assert client.get(page.context["group_list"]).context["cl"].result_count == 3
