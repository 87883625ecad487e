"""A notification among others: the next ones of the list, all of one recipient, all of one certificate."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote, urlencode

import pytest
from django.test import Client

from notifications.admin import around
from notifications.admin import list as listed
from tests.admin.support import LIST, As, text, url
from tests.factories import ago, dead, failed, not_delivered, pending, read, sent

pytestmark = pytest.mark.django_db
CERTIFICATE = LIST + "certificate/"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def ids(client: Client, query: str) -> list[str]:
    return [row.pk for row in client.get(LIST + query).context["cl"].result_list]


def test_one_search_finds_all_of_one_recipient_anywhere_in_history(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "LOOKED_AT", 3)
    old = [dead(recipient="ops", created_at=ago(days=days)) for days in (800, 900)]
    delivered = sent(recipient="ops", created_at=ago(days=1000))
    for _ in range(5):
        sent(recipient="ops@example.com")
    everything = [*(event.pk for event in old), delivered.pk]
    for query in ("?q=ops", "?q=+ops+", "?recipient=ops", "?q=ops&age=over30d"):
        assert ids(client, query) == everything, query
        assert client.get(LIST + query).context["cl"].reach is None, query
    assert ids(client, "?q=ops&status=dead") == ids(client, "?recipient=ops&status=dead") == everything[:2]
    assert "Dead letter 2" in text(client.get(LIST + "?q=ops"))
    for days in range(4):  # now it has more than are looked at in a tab
        sent(recipient="ops", created_at=ago(days=days))
    assert len(ids(client, "?q=ops")) == 7, "in order of time an index has all"
    assert client.get(LIST + "?q=ops&status=sent").context["cl"].reach.many == 3


def test_older_and_newer_are_those_of_the_list_that_one_came_from(client: Client) -> None:
    first, second, third = (dead(channel="Slack", created_at=ago(days=days)) for days in (3, 2, 1))
    sent(channel="Slack", created_at=ago(hours=30))
    dead(channel="Email", created_at=ago(hours=60))
    query = "channel=slack&status=dead"
    page = client.get(LIST + f"?{query}").content.decode()
    [address] = re.findall(rf'href="([^"]*{re.escape(second.pk)}/change/[^"]*)"', page)
    assert quote(query, safe="") in address, "the list hands its filters on"
    found = client.get(address).context["around"]
    kept = f"?{urlencode({'_changelist_filters': query})}"
    assert (found.newer, found.older) == (url("change", third) + kept, url("change", first) + kept)
    assert client.get(found.newer).context["around"].newer == ""
    assert client.get(found.older).context["around"].older == ""
    assert found.back == f"{LIST}?{query}"
    page = client.get(address)
    assert page.context["send_url"] == url("send", second) + kept
    [requeue, _] = [there for _, there in page.context["verbs"]]
    assert client.post(requeue, {"page": "1"}).headers["Location"] == url("change", second) + kept
    second.refresh_from_db()
    assert second.status == "pending"
    plain = client.get(url("change", second)).context["around"]
    assert {plain.newer, plain.older}.isdisjoint({url("change", first), url("change", third), ""})
    assert client.get(url("change", second) + "?_changelist_filters=status%3Dbogus").status_code == 200


def test_no_more_is_looked_at_for_them_than_by_the_list(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "LOOKED_AT", 3)
    moment = ago(days=1)
    newest = dead(last_error="needle", created_at=moment)
    for n in range(3):
        dead(created_at=moment - timedelta(minutes=n + 1))
    dead(last_error="needle", created_at=moment - timedelta(minutes=9))
    asked = urlencode({"_changelist_filters": "error=needle"})
    page = client.get(f"{url('change', newest)}?{asked}")
    assert page.context["around"].older == ""
    assert "looked for among 3." in text(page)


def test_a_certificate_says_to_whom_what_was_sent_and_when(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"certificate_id": "mc/api & co"}
    events = [
        sent(recipient="ops", created_at=ago(days=9), sent_at=ago(days=8), retry_count=2, **mine),
        dead(recipient="\u202epki", created_at=ago(days=7), message="<b>soon</b>", **mine),
        not_delivered(created_at=ago(days=6), **mine),
        failed(created_at=ago(days=5), **mine),
        pending(created_at=ago(days=4), **mine),
        read(created_at=ago(days=3), sent_at=ago(days=2), **mine),
        dead(created_at=ago(days=1), **mine),
    ]
    events[-1].dismiss(by="ada")
    sent(certificate_id="mc")
    address = f"{CERTIFICATE}?{urlencode({'id': 'mc/api & co'})}"
    assert f'href="{address.replace("+", "%20")}"' in client.get(url("change", events[0])).content.decode()
    page = client.get(address)
    rows = page.context["rows"]
    assert [row.event.pk for row in rows] == [event.pk for event in events], "the oldest first"
    delivered = [row.event.pk for row in rows if row.delivered]
    assert delivered == [events[0].pk, events[5].pk]
    assert [row.delivered for row in rows if row.delivered] == [events[0].sent_at, events[5].sent_at]
    assert [row.otherwise for row in rows[1:5]] == [
        "never",
        "never",
        "not yet: due now",
        "not yet: with the next delivery",
    ]
    said = text(page)
    assert "on attempt 3" in said
    assert "[U+202E]pki on Webhook" in said
    assert "2 ✓ Sent" in said
    assert "<b>soon</b>" in said
    for card, number in (("dead", 1), ("dismissed", 1), ("sent", 2)):
        assert len(ids(client, f"?{urlencode({'certificate_id': 'mc/api & co', 'status': card})}")) == number
    monkeypatch.setattr(around, "PER_PAGE", 3)
    met, later = [], address.partition("?")[2]
    while later:
        part = client.get(f"{CERTIFICATE}?{later.removeprefix('?')}")
        met += [row.event.pk for row in part.context["rows"]]
        later = part.context["later"]
    assert met == [event.pk for event in events], "page by page each once"


@pytest.mark.parametrize("query", ["", "?id=%00", "?id=nothing", "?id=x&after=bogus", "?id=x&after=%00"])
def test_a_certificate_that_nobody_knows(client: Client, query: str) -> None:
    assert "Nothing was raised about it." in text(client.get(CERTIFICATE + query))
