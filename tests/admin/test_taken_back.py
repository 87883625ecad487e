"""What an operation's page says of it once somebody took it back, and the ways there."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import urlencode

import pytest
from django.test import Client
from playwright.sync_api import expect

from notifications.models import BulkOperation, NotificationEvent, OperationKind
from notifications.operations import bulk
from notifications.operations.verbs import DISMISS, REQUEUE, TAKEN_BACK, Verb
from tests.admin.browser import Open
from tests.admin.support import LIST, As, act, text, url
from tests.factories import ago, dead

pytestmark = pytest.mark.django_db
OPERATIONS = LIST + "operations/"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def newest() -> BulkOperation:
    found = BulkOperation.objects.order_by("pk").last()
    assert found
    return found


def page_of(operation: BulkOperation) -> str:
    return f"{OPERATIONS}{operation.pk}/"


def requeued(number: int = 4) -> BulkOperation:
    for _ in range(number):
        dead(created_at=ago(hours=1))
    made = bulk.start(REQUEUE, filters="status=dead", requested=number, by="ada", via="admin")
    return bulk.finish(made)


def links(response: object) -> list[str]:
    return re.findall(r'href="([^"]+)"', response.content.decode())  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", [REQUEUE, DISMISS])
def test_an_operation_that_was_taken_back_says_by_whom_when_and_where(client: Client, verb: object) -> None:
    for _ in range(4):
        dead(created_at=ago(hours=1))
    done = bulk.finish(bulk.start(verb, filters="status=dead", requested=4, by="ada", via="admin"))  # type: ignore[arg-type]
    client.post(page_of(done), {"undo": "1"})
    undo = newest()
    page = client.get(page_of(done))
    word = "undone" if verb is REQUEUE else "restored"
    assert re.search(rf"Undone by superuser .{{1,9}} ago : 4 {word} \( operation {undo.pk} \)", text(page))
    assert page_of(undo) in links(page)
    assert page.context["title"].endswith(": undone")
    assert page.context["became"] == [], "what was put back is told by what put it back"
    assert page_of(done) in links(client.get(page_of(undo)))
    [card] = client.get(page_of(undo)).context["became"]
    assert card.number == "4"
    listing = client.get(OPERATIONS)
    assert "Undone by superuser" in text(listing)
    assert page_of(undo) in links(listing)


@pytest.mark.parametrize("verb", [REQUEUE, DISMISS])
def test_the_list_says_how_many_were_taken_back_one_by_one(client: Client, verb: Verb) -> None:
    rows = [dead(created_at=ago(hours=1)) for _ in range(5)]
    done = bulk.finish(bulk.start(verb, filters="status=dead", requested=5, by="ada", via="admin"))
    assert "taken back" not in text(client.get(OPERATIONS))
    verb_back = TAKEN_BACK[OperationKind(done.kind)]
    getattr(NotificationEvent.objects.filter(pk=rows[0].pk), verb_back.name)(by="bob", via="cli")
    bulk.finish(
        bulk.start(TAKEN_BACK[OperationKind(done.kind)], ids=[rows[1].pk], requested=1, by="eve", via="admin")
    )
    assert "2 taken back since" in text(client.get(OPERATIONS))
    assert page_of(done) in links(client.get(OPERATIONS))
    client.post(page_of(done), {"undo": "1"})
    assert re.search(r"Undone by superuser .*: 3 .*2 more taken back since", text(client.get(OPERATIONS)))


def test_what_was_not_put_back_is_still_counted(client: Client) -> None:
    done = requeued()
    first = NotificationEvent.objects.pending().first()
    assert first
    first.mark_as_sent(ago())
    client.post(page_of(done), {"undo": "1"})
    page = client.get(page_of(done))
    assert page.context["title"] == "Requeue: partly undone"
    [card] = page.context["became"]
    assert card.number == "1"
    assert client.get(card.url).context["cl"].result_count == 1


def test_an_undo_counts_no_row_that_somebody_decided_on_since(client: Client) -> None:
    done = requeued()
    client.post(page_of(done), {"undo": "1"})
    undo = newest()
    [*some] = NotificationEvent.objects.dead()[:3]
    act(client, "requeue_selected", *some, confirm="1")
    [card] = client.get(page_of(undo)).context["became"]
    assert (card.number, "status=dead" in card.url) == ("1", True)
    assert client.get(card.url).context["cl"].result_count == 1


def test_a_stopped_one_that_was_undone_offers_no_rest(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "STEP", 3)
    for _ in range(8):
        dead(created_at=ago(hours=1))
    stopped = bulk.step(bulk.start(REQUEUE, filters="status=dead", requested=8, by="ada", via="admin").pk)
    client.post(page_of(stopped), {"stop": "1"})
    assert "Requeue the other 5" in text(client.get(page_of(stopped)))
    client.post(page_of(stopped), {"undo": "1"})
    bulk.finish(newest())
    assert "Requeue the other" not in text(client.get(page_of(stopped)))
    client.post(page_of(stopped), {"rest": "1"})
    assert NotificationEvent.objects.dead().count() == 8


def test_the_rest_of_a_stopped_one_is_what_it_never_changed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it requeued and died again was reached; of a rest that is stopped too, what both left is left."""
    monkeypatch.setattr(bulk, "STEP", 3)
    rows = [dead(created_at=ago(hours=1, minutes=n)) for n in range(8)]
    stopped = bulk.step(bulk.start(REQUEUE, filters="status=dead", requested=8, by="ada", via="admin").pk)
    client.post(page_of(stopped), {"stop": "1"})
    die_again()
    assert "Requeue the other 5" in text(client.get(page_of(stopped)))
    client.post(page_of(stopped), {"rest": "1"})
    rest = newest()
    assert (rest.requested, rest.changed) == (5, 3)
    assert f"left as they were by operation {stopped.pk}" in text(client.get(page_of(rest)))
    client.post(page_of(rest), {"stop": "1"})
    die_again()
    assert "Requeue the other 2" in text(client.get(page_of(rest)))
    client.post(page_of(rest), {"rest": "1"})
    assert newest().changed == 2
    pending = NotificationEvent.objects.pending().values_list("pk", flat=True)
    assert set(pending) == {row.pk for row in rows[6:]}


def die_again() -> None:
    for row in NotificationEvent.objects.pending():
        row.mark_as_dead("again")


def test_what_is_done_at_once_leads_to_its_page(client: Client) -> None:
    rows = [dead() for _ in range(3)]
    answer = act(client, "requeue_selected", *rows, confirm="1", follow=True)
    assert "Requeued: 3 notifications. What became of them, and Undo" in text(answer)
    assert page_of(newest()) in links(answer)


def test_who_comes_second_is_led_to_what_the_first_did(client: Client, signed_in: As) -> None:
    rows = [dead() for _ in range(3)]
    act(client, "requeue_selected", *rows, confirm="1")
    first = newest()
    answer = act(signed_in("requeuer"), "requeue_selected", *rows, confirm="1", follow=True)
    assert "superuser: requeued 3 of these" in text(answer).replace("\u2068", "").replace("\u2069", "")
    assert page_of(first) in links(answer)


def test_an_operation_that_found_nothing_says_why(client: Client, signed_in: As) -> None:
    rows = [dead() for _ in range(3)]
    act(client, "requeue_selected", *rows, confirm="1")
    first = newest()
    act(signed_in("requeuer"), "requeue_selected", *rows, confirm="1")
    page = client.get(page_of(newest()))
    assert "superuser: requeued 3 of these" in text(page)
    assert page_of(first) in links(page)
    nothing = bulk.finish(bulk.start(DISMISS, ids=["gone"], requested=1, by="ada", via="admin"))
    assert "There was none that it could take: dismiss takes dead" in text(client.get(page_of(nothing)))


def test_a_second_operator_of_one_is_told_who_was_first(client: Client, signed_in: As) -> None:
    event = dead()
    client.post(url("requeue", event))
    answer = signed_in("requeuer").post(url("requeue", event), {"page": ""}, follow=True)
    assert re.search(r"it is pending: .*\. superuser: requeued it .{1,9} ago\.", text(answer))


def test_a_dismissal_from_its_page_stays_there(client: Client) -> None:
    event = dead()
    kept = "status=dead&channel=Webhook"
    page = client.get(url("change", event) + "?" + urlencode({"_changelist_filters": kept}))
    assert f'name="page" value="{escape(kept)}"' in page.content.decode()
    asked = act(client, "dismiss_selected", event, page=kept)
    assert f'name="page" value="{escape(kept)}"' in asked.content.decode()
    done = act(client, "dismiss_selected", event, page=kept, confirm="1", reason="known")
    assert done.headers["Location"] == url("change", event) + "?" + urlencode({"_changelist_filters": kept})
    assert NotificationEvent.objects.get().dismissed


def test_every_page_hints_at_what_is_under_way(client: Client) -> None:
    pages = ("/admin/", "/admin/notifications_certificates/watch/", LIST)
    assert all("under way" not in text(client.get(page)) for page in pages)
    bulk.start(REQUEUE, filters="status=dead", requested=1, by="ada", via="admin")
    for page in pages:
        assert "1 under way" in text(client.get(page))
        assert OPERATIONS in links(client.get(page))


def test_the_number_that_can_be_undone_is_live(visit: Open) -> None:
    done = requeued(3)
    page = visit(page_of(done))
    expect(page.get_by_role("button", name="Undo for the 3")).to_be_visible()
    first = NotificationEvent.objects.pending().first()
    assert first
    first.mark_as_dead("again")
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(6_000)
    expect(page.get_by_role("button", name="Undo for the 2")).to_be_visible()
