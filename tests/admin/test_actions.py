"""Actions on many notifications: they ask first, count, and say what the rules refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from notifications.models import NotificationEvent, NotificationQuerySet, Requeue
from tests.admin.support import LIST, As, act, said
from tests.factories import dead, failed, leased, not_delivered, one_of_each, sent

pytestmark = pytest.mark.django_db
REQUEUE, DISMISS, SEE = "requeue_selected", "dismiss_selected", "mark_seen_selected"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def statuses() -> list[str]:
    return list(NotificationEvent.objects.order_by("created_at").values_list("status", flat=True))


def text(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_requeue_asks_first_with_counts_per_channel_and_error(client: Client) -> None:
    slack = [dead(channel="Slack", last_error="HTTP 503") for _ in range(3)]
    mail = [dead(channel="Email", last_error="SMTP 550"), dead(channel="email", last_error="SMTP 550")]
    others = [failed(channel="Slack", last_error=None, error="old"), sent(), leased()]
    response = act(client, REQUEUE, *slack, *mail, *others)
    survey = response.context["survey"]
    assert [(name.casefold(), count) for name, count in survey.channels] == [("slack", 4), ("email", 2)]
    groups = [(g.channel.casefold(), g.error, g.count) for g, _ in response.context["groups"]]
    assert groups == [("slack", "HTTP 503", 3), ("email", "SMTP 550", 2), ("slack", "old", 1)]
    assert "Requeue: 6 notifications?" in text(response)
    assert "Left as they are: 1 attempt running, 1 sent." in text(response)
    assert not Requeue.objects.exists(), "asking changes nothing"


@pytest.mark.parametrize("everything", [False, True])
def test_what_was_not_delivered_is_requeued_and_the_delivered_is_left(
    client: Client, everything: bool
) -> None:
    lost, delivered, foreign = not_delivered(), sent(), sent(error="certctl's")
    more = {"select_across": "1"} if everything else {}
    response = act(client, REQUEUE, lost, delivered, foreign, **more)
    assert "Requeue: 1 notification?" in text(response)
    assert "Left as they are: 2 sent." in text(response)
    act(client, REQUEUE, lost, delivered, foreign, confirm="1", **more)
    assert Requeue.objects.get().notification_id == lost.pk
    assert sorted(statuses()) == ["pending", "sent", "sent"]


def test_the_page_that_asks_shows_the_greatest_groups_and_sums_up_the_rest(client: Client) -> None:
    rows = [dead(last_error=f"error {chr(97 + n)}") for n in range(25)]
    response = act(client, REQUEUE, *rows)
    assert len(response.context["groups"]) == 20
    assert response.context["others"] == 5
    assert "5 with other errors" in text(response)


def test_requeue_says_how_many_and_how_many_not_and_why(client: Client) -> None:
    rows = one_of_each()
    busy = leased()
    response = act(client, REQUEUE, *rows.values(), busy, confirm="1", follow=True)
    assert said(response) == [
        "Requeued: 2 notifications. Skipped 4 (1 attempt running, 1 pending, 1 read, 1 sent):"
        " requeue takes dead, failed and not delivered notifications only."
    ]
    assert sorted(statuses()) == ["failed", "pending", "pending", "pending", "read", "sent"]
    assert {(r.by, r.via, r.status) for r in Requeue.objects.all()} == {
        ("superuser", "admin", "dead"),
        ("superuser", "admin", "failed"),
    }


def test_nothing_to_requeue_offers_no_button(client: Client) -> None:
    response = act(client, REQUEUE, sent())
    assert "Requeue: nothing to do" in text(response)
    assert 'name="confirm"' not in response.content.decode()


def test_what_changed_after_the_question_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = dead(), dead()
    requeue = NotificationQuerySet.requeue

    def late(rows: NotificationQuerySet, **how: Any) -> Any:
        NotificationEvent.objects.get(pk=first.pk).mark_read(by="somebody else")
        return requeue(rows, **how)

    monkeypatch.setattr(NotificationQuerySet, "requeue", late)
    response = act(client, REQUEUE, first, second, confirm="1", follow=True)
    assert "Requeued: 1 notification. Skipped 1 (1 changed in the meantime)" in said(response)[0]


def test_all_that_match_the_filter_means_all_pages(client: Client) -> None:
    slack = [dead(channel="Slack") for _ in range(60)]
    other = dead(channel="Email")
    query = "?channel=Slack&status=dead"
    asked = act(client, REQUEUE, *slack[:50], query=query, select_across="1", index="0")
    markup = asked.content.decode()
    assert "Requeue: 60 notifications?" in text(asked)
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', markup.split("<form")[-1])
    answer: dict[str, list[str]] = {"confirm": ["1"]}
    for name, value in fields:
        answer.setdefault(name, []).append(value)
    assert answer["select_across"] == ["1"]
    action = re.findall(r'<form id="nf-ask" method="post" action="([^"]+)"', markup)[-1].replace("&amp;", "&")
    assert action == LIST + query
    response = client.post(action, answer, follow=True)
    assert said(response) == ["Requeued: 60 notifications."]
    assert NotificationEvent.objects.pending().count() == 60
    other.refresh_from_db()
    assert other.status == "dead"


def test_without_select_across_only_the_selection_is_requeued(client: Client) -> None:
    chosen, other = dead(), dead()
    act(client, REQUEUE, chosen, confirm="1", select_across="0")
    assert list(NotificationEvent.objects.dead()) == [other]


def test_dismissing_says_first_that_it_is_for_good_and_needs_a_reason(client: Client) -> None:
    rows = one_of_each()
    asked = act(client, DISMISS, *rows.values())
    assert "Dismiss: 1 notification?" in text(asked)
    assert text(asked).index("For good: nobody is told") < text(asked).index("HTTP 503")
    assert 'class="button default nf-grave"' in asked.content.decode()
    again = act(client, DISMISS, *rows.values(), confirm="1", reason=" ")
    assert "Not done: say why you dismiss these." in text(again)
    assert NotificationEvent.objects.dead().count() == 1
    response = act(client, DISMISS, *rows.values(), confirm="1", reason="known", follow=True)
    assert said(response) == [
        "Dismissed: 1 notification. Skipped 4 (1 failed, 1 pending, 1 read, 1 sent):"
        " dismiss takes dead notifications only."
    ]
    assert sorted(statuses()) == ["failed", "pending", "read", "read", "sent"]


def test_a_delivery_is_marked_as_seen_and_a_dead_letter_is_not(client: Client) -> None:
    response = act(client, SEE, sent(), dead(), confirm="1", follow=True)
    assert said(response) == [
        "Marked as seen: 1 notification. Skipped 1 (1 dead): mark as seen takes sent notifications only."
    ]
    assert sorted(statuses()) == ["dead", "read"]


def test_the_verbs_are_called_with_who_and_through_what(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    for name in ("requeue", "dismiss"):
        verb = getattr(NotificationQuerySet, name)

        def spy(rows: Any, name: str = name, verb: Any = verb, **how: Any) -> Any:
            calls.append((name, how))
            return verb(rows, **how)

        monkeypatch.setattr(NotificationQuerySet, name, spy)
    act(client, REQUEUE, dead(), confirm="1")
    act(client, DISMISS, dead(), confirm="1", reason="known")
    assert [name for name, _ in calls] == ["requeue", "dismiss"]
    for _, how in calls:
        assert (how["by"], how["via"], how["operation"].by) == ("superuser", "admin", "superuser")


def test_who_did_what_is_logged(client: Client) -> None:
    act(client, REQUEUE, dead(), query="?status=dead", confirm="1", select_across="1")
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("superuser", None)
    assert entry.object_repr == "Requeued: 1 notification."
    assert entry.change_message == "Requeued: 1 notification. Scope: all dead letters."
    assert client.get("/admin/").status_code == 200, "the log's entry can be shown"


def test_an_error_is_text_on_the_page_that_asks(client: Client) -> None:
    response = act(client, REQUEUE, dead(last_error="<script>alert()<!--", channel="<b>Slack"))
    assert "<script>alert" not in response.content.decode()
    assert "&lt;script&gt;alert()&lt;!--" in response.content.decode()
    assert "<b>Slack" not in response.content.decode()


def test_asking_costs_the_same_for_few_and_for_many(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    rows = [dead() for _ in range(40)]
    # session, user, operations twice, the list twice, details, refusals twice, holds, sweeps twice, what
    # waits, the pace, workers, samples, what was renewed (4 with a savepoint), repeats; the clock, once
    for chosen in (rows[:1], rows):
        with django_assert_max_num_queries(21):
            act(client, REQUEUE, *chosen)


def test_an_id_that_no_row_can_have_is_no_error(client: Client) -> None:
    answer = client.post(LIST, {"action": REQUEUE, "_selected_action": ["nul\x00"]})
    assert (answer.status_code, answer.headers["Location"]) == (302, LIST)
