"""A notification's own page, and the verbs on one notification."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications.admin.page import clamped
from notifications.deaths.fingerprints import fingerprint
from notifications.models import Escalation, NotificationEvent, Requeue
from notifications.reporting import words
from tests.admin.support import LIST, As, said, text, url
from tests.factories import ago, ahead, attempt, dead, failed, leased, notification, pending, read, sent

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def story(client: Client, event: NotificationEvent) -> list[Any]:
    return list(client.get(url("change", event)).context["timeline"])


def test_the_timeline_tells_attempts_and_requeues_in_order(client: Client) -> None:
    event = dead(created_at=ago(hours=1), message="api.example.com expires")
    attempt(event, number=1, started_at=ago(minutes=50), duration_ms=312, status_code=503, worker="w:1")
    attempt(
        event,
        "permanent",
        number=2,
        started_at=ago(minutes=40),
        duration_ms=1200,
        error="gone: " + "x" * 1900,
    )
    event.requeue(by="bob", via="cli")
    Requeue.objects.update(at=ago(minutes=30))
    attempt(event, "sent", number=1, started_at=ago(minutes=20), channel="Slack")
    NotificationEvent.objects.filter(pk=event.pk).update(status="sent", sent_at=ago(minutes=20))
    raised, first, second, requeue, third = story(client, event)
    assert (raised.entry.what, raised.entry.detail) == ("Raised", "api.example.com expires")
    assert first.entry.what == "Attempt 1: failed, and may succeed later"
    assert first.facts == [
        ("Duration", "312 ms"),
        ("Provider status", 503),
        ("Reason", "server"),
        ("Worker", "w:1"),
    ]
    assert ("Duration", "1.2 s") in second.facts
    assert second.entry.detail == "gone: " + "x" * 1900
    assert requeue.entry.sentence == "Requeued by bob via cli"
    assert requeue.facts == [("Status before", "dead"), ("Retry count before", 4)]
    assert requeue.entry.detail == "Error before: HTTP 503: upstream is down"
    assert (third.entry.what, third.tone) == ("Attempt 1: sent", "sent")
    assert ("Channel", "Slack") in third.facts, "another channel than the notification's is worth telling"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: failed(due_at=ahead(minutes=4, seconds=30)), "next in 4 min"),
        (lambda: pending(), "with the next delivery"),
        (lambda: leased(), "attempt running"),
    ],
)
def test_the_timeline_ends_with_what_comes_next(client: Client, make: Any, words: str) -> None:
    event = make()
    assert story(client, event)[-1].entry.what == "Next attempt"
    assert words in client.get(url("change", event)).content.decode()


def test_a_dead_notification_waits_for_a_person(client: Client) -> None:
    assert "a person decides" in story(client, dead())[-1].entry.what


def test_a_long_history_is_cut_to_the_newest(client: Client) -> None:
    event = dead(created_at=ago(days=9))
    for n in range(105):
        attempt(event, number=n + 1, started_at=event.created_at + timedelta(minutes=n))
    _, earlier, oldest, *_ = story(client, event)
    assert "Earlier entries are not shown" in earlier.entry.what
    assert oldest.entry.what == "Attempt 6: failed, and may succeed later"


def test_a_long_error_stands_there_once_and_is_clamped(client: Client) -> None:
    error = "HTTP 502: bad gateway\n" + "\n".join(f"<!-- padding {n} -->" for n in range(37))
    event = dead(last_error=error, message="api.example.com: renewal failed.\nCAA forbids it.")
    for number in (1, 2, 3):
        attempt(event, number=number, error=error)
    event.requeue(by="bob", via="cli")
    NotificationEvent.objects.filter(pk=event.pk).update(status="dead", last_error=error)
    markup = client.get(url("change", event)).content.decode()
    shown = markup.split('class="nf-halves"')[1]
    assert shown.count("padding 36") == 1
    assert "<span>33 more lines</span>" in shown
    assert shown.count('class="nf-again"') == 4
    assert re.search(r"<h1>.*api.example.com: renewal failed</bdi></h1>", markup), "the message is the title"
    assert shown.index("nf-grave") < shown.index("nf-end") < shown.rindex("nf-grave"), "deleting is far away"


TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "step_{n}.py", line {n}, in handle\n    step_{n}()\n' for n in range(30)
)


def test_a_traceback_says_what_it_ended_with(client: Client) -> None:
    event = dead(last_error=f"{TRACEBACK}shop.GatewayError: no route")
    page = client.get(url("change", event)).content.decode()
    assert '<pre class="nf-tail">shop.GatewayError: no route</pre>' in page
    listed = text(client.get(LIST + "?status=dead"))
    assert listed.count("shop.GatewayError: no route") == 2, "the row, and its group"
    for told, error in ((event.last_error, "GatewayError: no route"), (TRACEBACK, "a Python traceback")):
        query = f"status=dead&alike={quote(fingerprint(told))}"
        assert f"with the error “{error}”" in words.matching(query, timezone.now())


def test_a_long_text_is_cut_between_two_words() -> None:
    text = "so and on " * 100
    shown = clamped(text)
    assert shown.text + shown.rest == text
    assert 500 < len(shown.text) <= 600
    assert shown.text.endswith(" ")
    assert len(clamped("x" * 2_000).text) == 600


def test_deleting_says_what_goes_with_it(client: Client) -> None:
    event = dead()
    for number in (1, 2):
        attempt(event, number=number)
    event.requeue(by="bob", via="cli")
    page = text(client.get(url("delete", event)))
    assert "Delete this notification?" in page
    assert "With it go 2 delivery attempts and 1 requeue." in page
    assert "Dashboard Endpoints Operations" in page
    assert "Dashboard Endpoints Operations" in text(client.get(url("history", event)))


def test_everything_from_outside_is_text(client: Client) -> None:
    evil = "<script>alert(1)</script>"
    event = dead(type=evil, channel=evil, recipient=evil, certificate_id=evil, message=evil, last_error=evil)
    attempt(event, error=evil, reason=evil[:20], worker=evil)
    Requeue.objects.create(
        notification=event, by=evil, via=evil, at=ago(), status=evil, retry_count=4, last_error=evil
    )
    markup = client.get(url("change", event)).content.decode()
    assert "<script>alert" not in markup
    assert markup.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10


def test_the_certificate_leads_to_all_that_was_said_about_it(client: Client) -> None:
    event = dead(certificate_id="mc/ä&b")
    dead()
    markup = client.get(url("change", event)).content.decode()
    assert f"{LIST}?certificate_id=mc%2F%C3%A4%26b" in markup
    rows = client.get(LIST, {"certificate_id": "mc/ä&b"}).context["cl"].result_list
    assert list(rows) == [event]


def test_the_page_costs_the_same_for_a_short_and_a_long_history(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    event = dead()
    for _ in range(2):
        # session, user, notification, attempts, requeues, readings, escalations, the same certificate,
        # newer, older
        with django_assert_max_num_queries(14):
            client.get(url("change", event))
        for n in range(30):
            attempt(event, number=n + 1)


@pytest.mark.parametrize("pk", ["a/b", "_5F", "ünï cödé", "x?y#z", "a/requeue"])
def test_any_id_has_a_page_and_can_be_requeued(client: Client, pk: str) -> None:
    event = dead(id=pk)
    row = client.get(LIST).content.decode()
    address = row.split('formaction="')[1].split('"')[0]
    assert client.post(address).status_code == 302
    event.refresh_from_db()
    assert event.status == "pending"
    changed = client.get(address.removesuffix("requeue/") + "change/")
    assert changed.context["original"] == event


def test_an_escalation_leads_both_ways(client: Client) -> None:
    died = dead(id="a/b", channel="Slack", recipient="<b>#pki")
    raised = pending(channel="Email")
    Escalation.objects.create(notification=died, raised=raised, at=ago(seconds=1))
    for event, other, title in (
        (died, raised, "Escalated"),
        (raised, died, "Escalation of a dead letter"),
    ):
        address = url("change", other).replace("a/b", "a_2Fb")
        markup = client.get(url("change", event)).content.decode()
        assert f"<h3>{title}</h3>" in markup
        assert f'<a href="{address}">' in markup
        assert "<b>#pki" not in markup
        assert client.get(address).context["original"] == other


def test_an_escalation_that_was_pruned_is_said_to_be(client: Client) -> None:
    died, raised = dead(), pending()
    Escalation.objects.create(notification=died, raised=raised, at=ago(seconds=1))
    pk = raised.pk
    raised.delete()
    assert f"{pk}, deleted since" in client.get(url("change", died)).content.decode()


def test_requeue_from_the_list_returns_to_the_same_list(client: Client) -> None:
    event = dead()
    response = client.post(url("requeue", event), {"filters": "status=dead&q=a b\r\nX: y"})
    assert response.headers["Location"] == LIST + "?status=dead&q=a+b%0D%0AX%3A+y"
    requeue = Requeue.objects.get()
    assert (requeue.notification_id, requeue.by, requeue.via) == (event.pk, "superuser", "admin")


def test_requeue_from_the_page_returns_to_the_page(client: Client) -> None:
    event = dead()
    response = client.post(url("requeue", event), {"page": "1"}, follow=True)
    assert response.redirect_chain[-1][0] == url("change", event)
    assert said(response) == ["Requeued: ExpirationWarning to ops@example.com on Webhook."]


def test_dismissing_from_the_page_asks_first(client: Client) -> None:
    event = dead()
    asked = client.post(LIST, {"action": "dismiss_selected", "_selected_action": event.pk, "page": "1"})
    assert "Dismiss: 1 notification?" in asked.content.decode()
    markup = client.get(url("change", event)).content.decode()
    assert f'<form method="post" action="{LIST}">' in markup
    assert f'name="_selected_action" value="{event.pk}"' in markup


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (sent, "it is sent: it was delivered"),
        (read, "it is read: a person has seen or dismissed it"),
        (pending, "it is pending: the next sweep sends it"),
        (leased, "an attempt is running; try again when it has ended"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(client: Client, make: Any, why: str) -> None:
    event = make()
    response = client.post(url("requeue", event), follow=True)
    assert said(response) == [f"Requeue refused: {why}."]
    assert NotificationEvent.objects.get(pk=event.pk).status == event.status
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("pk", ["nobody", "nul\x00"])
def test_a_notification_that_is_gone(client: Client, pk: str) -> None:
    event = NotificationEvent(pk=pk)
    assert "is gone" in said(client.post(url("requeue", event), follow=True))[0]
    assert client.get(url("change", event)).status_code == 302


def test_a_notification_that_goes_at_this_moment(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    event = dead()
    requeue = NotificationEvent.requeue

    def late(event: NotificationEvent, **how: Any) -> None:
        NotificationEvent.objects.filter(pk=event.pk).delete()
        requeue(event, **how)

    monkeypatch.setattr(NotificationEvent, "requeue", late)
    response = client.post(url("requeue", event), {"page": "1"}, follow=True)
    assert "is gone" in said(response)[0]


def test_one_notification_is_logged_as_such(client: Client) -> None:
    event = dead()
    client.post(url("requeue", event))
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message, entry.user.username) == (
        event.pk,
        "Requeued.",
        "superuser",
    )
    assert "Requeued." in client.get(url("history", event)).content.decode()


def test_the_buttons_are_those_the_state_allows(client: Client) -> None:
    offered = {
        make: [verb.name for verb, *_ in client.get(url("change", make())).context["verbs"]]
        for make in (dead, failed, sent, pending, read)
    }
    assert offered == {
        dead: ["requeue", "dismiss"],
        failed: ["requeue"],
        sent: ["mark_seen"],
        pending: [],
        read: [],
    }


def test_old_and_odd_rows_have_a_page(client: Client) -> None:
    event = notification(
        "bounced", certificate_id=None, type="expiration_warning", error="old", retry_count=9
    )
    markup = client.get(url("change", event)).content.decode()
    assert "</span> bounced</span>" in markup
    assert "old" in markup
