"""One notification, now: what the operator is told, what is on record, and what is left untouched."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from notifications.models import Hold, NotificationEvent, Requeue
from tests.admin.support import LIST, As, act, said, url
from tests.factories import ago, ahead, dead, failed, leased, pending, sent
from tests.receiver import Answer, HttpReceiver
from tests.reporting.rows import held

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("requeuer")


def send(client: Client, event: NotificationEvent) -> str:
    (answer,) = said(client.post(url("send", event), follow=True))
    return answer


@pytest.mark.parametrize("make", [dead, failed, pending])
def test_it_is_sent_and_told(client: Client, webhook: HttpReceiver, make: type[NotificationEvent]) -> None:
    event = make()
    assert send(client, event).startswith("Sent in ")
    event.refresh_from_db()
    assert (event.status, len(webhook.requests)) == ("sent", 1)
    assert Requeue.objects.filter(by="requeuer", via="admin").count() == (0 if make is pending else 1)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username) == (event.pk, "requeuer")
    assert entry.change_message.startswith("Sent by hand: Sent in ")


def test_a_failure_is_told_with_the_providers_words(client: Client, webhook: HttpReceiver) -> None:
    webhook.script(Answer(503, "upstream is down"))
    event = dead()
    answer = send(client, event)
    assert answer.startswith("Not delivered in ")
    assert "provider status 503" in answer
    assert answer.endswith("it is retried later.")
    event.refresh_from_db()
    assert (event.status, event.retry_count) == ("failed", 1), "its budget is a fresh one"


def test_a_permanent_failure_is_dead_again(client: Client, webhook: HttpReceiver) -> None:
    webhook.script(410)
    assert send(client, dead()).endswith("it is dead again.")


def test_a_held_endpoint_is_tried_and_opened(client: Client, webhook: HttpReceiver) -> None:
    held("webhook x")
    assert send(client, dead()).startswith("Sent in ")
    assert not Hold.objects.filter(until__gt=ahead()).exists()


def test_what_is_in_a_workers_hands_is_left_there(client: Client, webhook: HttpReceiver) -> None:
    assert "an attempt is running" in send(client, leased())
    assert "a worker has it in hand" in send(client, leased(status="pending"))
    assert not webhook.requests


def test_what_was_delivered_is_not_sent_again(client: Client, webhook: HttpReceiver) -> None:
    assert send(client, sent()).startswith("Not sent from here")
    assert not webhook.requests


def test_what_is_gone(client: Client) -> None:
    event = dead()
    NotificationEvent.objects.all().delete()
    assert "is gone" in send(client, event)


def test_trying_one_first_sends_one_and_leaves_the_others(client: Client, webhook: HttpReceiver) -> None:
    newest, *others = (dead(created_at=ago(minutes=n)) for n in range(4))
    query = "?status=dead"
    answer = act(
        client, "requeue_selected", query=query, select_across="1", _selected_action="-", **{"try": "1"}
    )
    assert "Tried one first:" in answer.content.decode()
    assert "Requeue the other 3" in answer.content.decode()
    newest.refresh_from_db()
    assert (newest.status, len(webhook.requests)) == ("sent", 1)
    assert NotificationEvent.objects.dead().count() == len(others)
    assert Requeue.objects.get().reason == "tried first"
    assert LogEntry.objects.get().object_id == newest.pk


def test_a_first_one_that_fails_leaves_the_others_alone(client: Client, webhook: HttpReceiver) -> None:
    webhook.script(Answer(410, "no_service"))
    dead(created_at=ago(minutes=1))
    dead(created_at=ago(minutes=2))
    page = act(client, "requeue_selected", select_across="1", _selected_action="-", **{"try": "1"})
    assert "no_service" in page.content.decode()
    assert NotificationEvent.objects.dead().count() == 2
    assert client.get(LIST).status_code == 200
