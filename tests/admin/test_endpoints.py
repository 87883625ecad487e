"""The page of endpoints: what is held and by whom, pausing, lifting, and requeueing whom an outage killed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from notifications.models import BulkOperation, DeliveryAttempt, Hold, NotificationEvent, Requeue
from tests.admin.outages import hold, outage
from tests.admin.support import LIST, As, said, text
from tests.factories import ago, attempt, dead, failed, pending
from tests.scripted import Script

pytestmark = pytest.mark.django_db

PAGE = LIST + "endpoints/"
PAUSE = {
    "pause": "1",
    "channel": "Webhook",
    "length": "30m",
    "why": "they move",
    "recipient": "",
    "match": "exact",
}


def test_who_may_look_and_who_may_decide(signed_in: As, script: Script) -> None:
    held, over = hold(), outage()
    for who, seen, decided in (
        ("anonymous", 302, 302),
        ("nobody", 403, 403),
        ("viewer", 200, 403),
        ("reader", 200, 403),
        ("requeuer", 200, 302),
        ("superuser", 200, 302),
    ):
        client = signed_in(who)
        looked = client.get(PAGE)
        assert looked.status_code == seen, who
        for data in (PAUSE, {"lift": held.pk}, {"redrive": over.pk}):
            assert client.post(PAGE, data).status_code == decided, who
        may = who in ("requeuer", "superuser")
        assert Hold.objects.filter(reason="paused").exists() == may, who
        assert NotificationEvent.objects.dead().exists() != may, who
        if seen == 200:
            assert ('name="ask"' in looked.content.decode()) == may, who
        Hold.objects.filter(reason="paused").delete()
        NotificationEvent.objects.filter(status="pending").update(status="dead")
        Requeue.objects.all().delete()
        User.objects.all().delete()


def test_a_decision_needs_its_csrf_token(signed_in: As, script: Script) -> None:
    client = signed_in("superuser")
    client.handler.enforce_csrf_checks = True
    assert client.post(PAGE, PAUSE).status_code == 403
    assert not Hold.objects.exists()


def test_a_hold_shows_why_since_when_until_when_and_how_many_wait(signed_in: As, script: Script) -> None:
    held = hold()
    pending(recipient="https://hooks.example.com/1")
    failed(recipient="https://hooks.example.com/2")
    pending(recipient="https://elsewhere.example.com/")
    response = signed_in("viewer").get(PAGE)
    [row] = response.context["rows"]
    assert (row.words.state, row.waiting, row.words.scope) == (
        "held",
        2,
        "Webhook to https://hooks.example.com/…",
    )
    markup = response.content.decode()
    assert "HTTP 503 &lt;b&gt;down&lt;/b&gt;" in markup
    assert f"tried again at {held.until:%Y-%m-%d %H:%M:%S} UTC" in markup


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"until": ago(seconds=1)}, "held"),
        ({"since": ago(hours=5)}, "held past the limit"),
        ({"reason": "paused", "by": "ada"}, "paused"),
        ({"reopened_at": ago(minutes=1)}, "recovering"),
    ],
)
def test_the_states_of_an_endpoint(
    signed_in: As, script: Script, fields: dict[str, object], state: str
) -> None:
    hold(**fields)
    [row] = signed_in("viewer").get(PAGE).context["rows"]
    assert row.words.state == state


def test_no_word_on_the_page_needs_a_manual(signed_in: As, script: Script) -> None:
    for n, fields in enumerate(({"until": ago(seconds=1)}, {"since": ago(hours=5)}, {"by": "ada"})):
        held = hold(f"e{n}", **fields)
    outage()
    client = signed_in("requeuer")
    told = text(client.get(PAGE)) + " ".join(said(client.post(PAGE, {"lift": held.pk}, follow=True)))
    assert "the next delivery tries it" in told
    for riddle in ("probe", "sweep", "spent", "in flight", "claim", "redrive", "rows"):
        assert riddle not in told.lower(), riddle


def test_pausing_and_lifting_are_on_record(signed_in: As, script: Script) -> None:
    client = signed_in("requeuer")
    client.post(PAGE, PAUSE)
    paused = Hold.objects.get()
    assert (paused.reason, paused.by, paused.error, paused.channel) == (
        "paused",
        "requeuer",
        "they move",
        "Webhook",
    )
    assert timedelta(minutes=29) < paused.until - paused.since <= timedelta(minutes=30)
    assert "by requeuer" in client.get(PAGE).content.decode()
    assert said(client.post(PAGE, {"lift": paused.pk}, follow=True)) == [
        "Lifted: Webhook is not paused any more."
    ]
    assert said(client.post(PAGE, {"lift": paused.pk}, follow=True)) == ["It had ended already."]
    first, second = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert first.startswith("Webhook paused until ")
    assert first.endswith(" Reason: they move")
    assert second == "Lifted: Webhook is not paused any more."


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channel": "Slak"}, "Not paused: choose a channel."),
        ({"length": "soon"}, "Not paused: Not a duration: write 90s, 2m or 1h."),
        ({"length": "5h"}, "Not paused: a pause is at most 4 h long (HOLD_LIMIT)"),
        ({"recipient": "nosuch host", "match": "prefix"}, "Not paused: a host has no blank in it"),
        ({"recipient": "x" * 256}, "Not paused: a recipient is at most 255 characters long"),
    ],
)
def test_what_cannot_be_paused_says_why(
    signed_in: As, script: Script, wrong: dict[str, str], message: str
) -> None:
    response = signed_in("requeuer").post(PAGE, {**PAUSE, **wrong}, follow=True)
    assert said(response) == [message]
    assert not Hold.objects.exists()


@pytest.mark.parametrize("value", ["", "x", "-1", "99999999999999999999", "٣"])
def test_nonsense_is_answered(signed_in: As, script: Script, value: str) -> None:
    client = signed_in("requeuer")
    assert said(client.post(PAGE, {"lift": value}, follow=True)) == ["It had ended already."]
    answer = said(client.post(PAGE, {"redrive": value}, follow=True))
    assert answer == ["That outage is not on record any more."]
    assert said(client.post(PAGE, {}, follow=True)) == ["Nothing was chosen."]


def test_exactly_what_an_outage_killed_is_requeued_as_one_operation(signed_in: As, script: Script) -> None:
    over = outage()
    victims = set(NotificationEvent.objects.values_list("pk", flat=True))
    attempt(dead(), reason="client", started_at=ago(hours=1))  # its own fault
    attempt(dead(), started_at=ago(hours=4))  # before
    attempt(dead(channel="Email"), started_at=ago(hours=1))  # elsewhere
    client = signed_in("requeuer")
    [offer] = client.get(PAGE).context["offers"]
    assert offer.count == "3"
    assert client.get(f"{LIST}?{offer.query}").context["cl"].result_count == 3
    client.post(PAGE, {"redrive": over.pk})
    assert set(NotificationEvent.objects.pending().values_list("pk", flat=True)) == victims
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.via, operation.changed) == ("requeuer", "admin", 3)
    assert operation.filters == f"status=dead&outage={over.pk}"
    over.refresh_from_db()
    assert (over.redriven_by, over.operation_id) == ("requeuer", operation.pk)
    assert LogEntry.objects.get().change_message.startswith("Requeued: 3 notifications.")
    response = client.get(PAGE)
    assert response.context["offers"][0].count == ""
    assert "Requeue these" not in response.content.decode()


def test_what_is_counted_does_not_shrink_with_the_outages_on_the_page(
    signed_in: As, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the bound for itself, which is the list's: the number is what its link shows."""
    monkeypatch.setattr("notifications.operations.redrive.LOOKED_THROUGH", 20)
    outage(12)
    for n in range(9):
        outage(0, endpoint=f"e{n}", died=1, channel="Email", since=ago(hours=9), ended_at=ago(hours=8))
    client = signed_in("requeuer")
    offer = client.get(PAGE).context["offers"][0]
    assert offer.count == "12"
    assert client.get(f"{LIST}?{offer.query}").context["cl"].result_count == 12


def test_many_are_requeued_with_progress(
    signed_in: As, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.operations.bulk.STEP", 2)
    over = outage(5)
    client = signed_in("requeuer")
    response = client.post(PAGE, {"redrive": over.pk})
    operation = BulkOperation.objects.get()
    assert response.headers["Location"] == f"{LIST}operations/{operation.pk}/?begun=1"
    NotificationEvent.objects.dead().first().mark_read(by="ada")  # dismissed meanwhile
    for _ in range(3):
        client.post(f"{LIST}operations/{operation.pk}/")
    operation.refresh_from_db()
    assert (operation.changed, operation.ended_at is not None) == (4, True)


def test_outages_come_newest_first_and_the_oldest_are_reached(signed_in: As, script: Script) -> None:
    """Those of which something can be requeued before the others of their page; each is on one page."""
    oldest = outage(endpoint="old", since=ago(hours=9), ended_at=ago(minutes=10))
    attempt(dead(channel="Email", created_at=ago(hours=2)), started_at=ago(hours=1))
    channels = ["Email" if n in (4, 8) else "Slack" for n in range(12)]
    others = [outage(0, endpoint=f"e{n}", channel=channel, died=1) for n, channel in enumerate(channels)]
    client = signed_in("requeuer")
    page = client.get(PAGE)
    shown = [offer.outage for offer in page.context["offers"]]
    assert shown == [others[n] for n in (8, 4, 11, 10, 9, 7, 6, 5, 3, 2)]
    older = client.get(PAGE + page.context["older"])
    assert [offer.outage for offer in older.context["offers"]] == [oldest, others[1], others[0]]
    assert older.context["older"] == ""
    markup = older.content.decode()
    assert f'name="redrive" value="{oldest.pk}"' in markup
    assert f'href="{page.context["older"]}"' in page.content.decode()
    client.post(PAGE, {"redrive": oldest.pk})
    assert NotificationEvent.objects.pending().count() == 3


def test_an_ongoing_outage_is_shown_and_not_offered(signed_in: As, script: Script) -> None:
    outage(ended_at=None)
    markup = signed_in("requeuer").get(PAGE).content.decode()
    assert "still failing" in markup
    assert "Requeue these" not in markup


def test_pages_link_to_it(signed_in: As, script: Script) -> None:
    client = signed_in("viewer")
    hold(endpoint="webhook", recipient_prefix="")
    assert f'href="{PAGE}"' in client.get(LIST).content.decode()
    assert f'href="{PAGE}"' in client.get(LIST + "dashboard/").content.decode()


def test_sending_by_hand_probes_a_held_endpoint_and_respects_a_pause(signed_in: As, script: Script) -> None:
    event = pending()
    paused = hold(endpoint="webhook paused", recipient_prefix="", reason="paused", by="ada")
    client = signed_in("requeuer")
    client.post(f"{LIST}{event.pk}/send/")
    assert (script.messages, Hold.objects.get().until) == ([], paused.until)
    Hold.objects.all().delete()
    hold(endpoint="webhook", recipient_prefix="")
    client.post(f"{LIST}{event.pk}/send/")
    assert script.ids == [event.pk]


def test_the_page_is_bounded(signed_in: As, script: Script, django_assert_max_num_queries: object) -> None:
    for n in range(60):
        hold(endpoint=f"e{n}", recipient_prefix=f"https://{n}/")
        outage(1, endpoint=f"e{n}")
    client = signed_in("viewer")
    # session, user, clock, operations, holds, outages; one for each of 50 holds, two for each of 10 outages
    with django_assert_max_num_queries(82):  # type: ignore[operator]
        response = client.get(PAGE)
    assert (len(response.context["rows"]), len(response.context["offers"])) == (50, 10)
    assert DeliveryAttempt.objects.count() == 60
