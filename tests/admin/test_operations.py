"""One decision about many notifications: counted to the last, carried out in batches, on record."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from notifications.admin import confirm
from notifications.models import BulkOperation, NotificationEvent, Reading, Requeue, Status
from notifications.operations import bulk, walk
from notifications.reporting import words
from tests.admin.support import LIST, As, act
from tests.factories import ago, attempt, dead, failed, leased, pending, sent, stranded
from tests.fixtures import Configure

pytestmark = pytest.mark.django_db
REQUEUE, DISMISS = "requeue_selected", "dismiss_selected"


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "STEP", 3)
    monkeypatch.setattr(walk, "LOOKED_AT", 5)
    monkeypatch.setattr(confirm, "DETAILED", 4)


def begin(client: Client, action: str = REQUEUE, query: str = "?status=dead", **data: Any) -> Any:
    """Confirm an action on all that match."""
    return act(client, action, query=query, confirm="1", select_across="1", _selected_action="-", **data)


def begun(client: Client) -> str:
    """The address of the operation that a confirmation began."""
    address: str = begin(client).headers["Location"]
    return address.removesuffix("?begun=1")


def drive(client: Client, address: str) -> dict[str, Any]:
    """Step until it has ended, as the progress page's script does."""
    for _ in range(200):
        state: dict[str, Any] = client.post(address, headers={"Accept": "application/json"}).json()
        if state["ended"]:
            return state
    raise AssertionError("it does not end")


def count_all(client: Client, query: str, action: str = REQUEUE) -> list[dict[str, Any]]:
    """The answers that the page that asks adds up."""
    answers: list[dict[str, Any]] = []
    place: str | None = ""
    while place is not None:
        response = act(client, action, query=query, count=place, select_across="1", _selected_action="-")
        answers.append(response.json())
        place = answers[-1]["after"]
    return answers


def test_every_match_is_requeued_once_in_batches(client: Client) -> None:
    at = ago(hours=1)
    rows = [dead(created_at=at) for _ in range(11)]  # raised at one moment: only the id tells them apart
    rows += [dead(created_at=ago(hours=2, minutes=n)) for n in range(12)]
    others = [sent(), dead(channel="Slack"), pending()]
    response = begin(client, query="?status=dead&channel=webhook", reason="the hook is back")
    state = drive(client, response.headers["Location"])
    assert state["report"] == "Requeued: 23 notifications."
    requeues = Counter(Requeue.objects.values_list("notification_id", flat=True))
    assert requeues == dict.fromkeys([row.pk for row in rows], 1)
    assert [NotificationEvent.objects.get(pk=row.pk).status for row in others] == ["sent", "dead", "pending"]
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.via, operation.reason) == ("superuser", "admin", "the hook is back")
    assert (operation.filters, operation.changed) == ("status=dead&channel=webhook", 23)
    assert set(Requeue.objects.values_list("operation_id", flat=True)) == {operation.pk}


def test_all_kinds_that_the_verb_takes_are_walked(client: Client) -> None:
    for make in (dead, failed, stranded) * 4:
        make()
    drive(client, begin(client, query="").headers["Location"])
    assert NotificationEvent.objects.pending().count() == 12


def test_dismissing_works_the_same_way(client: Client) -> None:
    for _ in range(8):
        dead()
    untouched = sent()
    state = drive(client, begin(client, DISMISS, reason="known").headers["Location"])
    assert state["report"] == "Dismissed: 8 notifications."
    assert Reading.objects.filter(status="dead", reason="known").count() == 8
    untouched.refresh_from_db()
    assert untouched.status == "sent"
    assert "reason: known" in client.get(LIST + "operations/").content.decode()


def test_what_was_raised_after_the_decision_is_left_alone(client: Client) -> None:
    for _ in range(7):
        dead(created_at=ago(hours=1))
    address = begin(client).headers["Location"]
    late = dead()
    drive(client, address)
    late.refresh_from_db()
    assert late.status == "dead"


def test_what_changed_meanwhile_is_told(client: Client) -> None:
    for n in range(9):
        dead(created_at=ago(hours=1, minutes=n))
    address = begin(client).headers["Location"]
    NotificationEvent.objects.dead().order_by("created_at").first().mark_read(by="somebody else")  # type: ignore[union-attr]
    state = drive(client, address)
    assert state["report"] == "Requeued: 8 notifications.", "what no longer matches is no longer asked for"


def test_running_attempts_are_skipped_and_told(client: Client) -> None:
    for make in (*[failed] * 8, leased):
        make()
    state = drive(client, begin(client, query="?status=failed").headers["Location"])
    assert state["report"].startswith("Requeued: 8 notifications. Skipped 1 (1 attempt running): ")


def test_looking_carries_nothing_out(client: Client, signed_in: As) -> None:
    """Neither a colleague's look, nor one's own: a tab that is restored, a login after the session ended."""
    for _ in range(10):
        dead()
    address = begin(client).headers["Location"]
    for browser in (client, signed_in("requeuer"), signed_in("viewer")):
        for page in (address, LIST + "operations/", address.removesuffix("?begun=1")):
            assert "data-drive" not in browser.get(page).content.decode()
        browser.head(address)
    assert NotificationEvent.objects.dead().count() == 7
    assert (BulkOperation.objects.get().driven_by, LogEntry.objects.count()) == ("superuser", 0)


def test_the_answer_to_the_confirmation_drives(client: Client) -> None:
    for _ in range(10):
        dead()
    response = begin(client)
    assert response.status_code == 307, "the browser posts its confirmation there too"
    address = response.headers["Location"]
    driving = client.post(address, {"confirm": "1"}).content.decode()
    assert f'data-drive="{address.removesuffix("?begun=1")}"' in driving
    assert NotificationEvent.objects.dead().count() == 7, "it is the script that goes on"
    assert BulkOperation.objects.get().taken_over is None


def test_whoever_presses_continue_carries_it_out_from_then_on(client: Client, signed_in: As) -> None:
    for _ in range(13):
        dead()
    address = begun(client)
    page = client.get(address).content.decode()
    assert "superuser is carrying it out" in page
    other = signed_in("requeuer")
    script = {"headers": {"Accept": "application/json"}}
    assert other.post(address, **script).status_code == 409, "nobody drives without having said so"
    answer = other.post(address, {"continue": "1"})
    assert f'data-drive="{address}"' in answer.content.decode()
    refused = client.post(address, **script)
    assert (refused.status_code, refused.json()) == (409, {"error": "requeuer goes on with it."})
    drive(other, address)
    assert NotificationEvent.objects.pending().count() == 13
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.driven_by) == ("superuser", "requeuer"), (
        "whoever confirmed it is on record"
    )
    assert [taken["by"] for taken in operation.taken_over or ()] == ["requeuer"]
    texts = list(LogEntry.objects.order_by("pk").values_list("user__username", "change_message"))
    assert [who for who, _ in texts] == ["requeuer", "requeuer"]
    assert texts[0][1] == "Continued: Requeued: 3 notifications. Begun by superuser."
    assert "Confirmed by superuser." in texts[1][1]
    assert "Continued by" in client.get(address).content.decode()


def test_an_operation_that_nobody_carries_out_says_so(client: Client) -> None:
    for _ in range(10):
        dead()
    address = begun(client)
    BulkOperation.objects.update(stepped_at=ago(minutes=5))
    for page in (address, LIST + "operations/"):
        assert "Nobody is carrying it out: superuser left it 5 min ago." in client.get(page).content.decode()


def test_who_may_only_look_does_not_drive(client: Client, signed_in: As) -> None:
    for _ in range(10):
        dead()
    address = begun(client)
    for who in ("viewer", "reader"):
        other = signed_in(who)
        assert other.post(address).status_code == 403
        assert "data-drive" not in other.get(address).content.decode()
    assert NotificationEvent.objects.dead().count() == 7


def test_stopping_leaves_the_rest_and_says_so(client: Client) -> None:
    for _ in range(10):
        dead()
    address = begun(client)
    client.post(address, {"stop": "1"})
    assert "Requeued: 3 notifications. Stopped by superuser." in client.get(address).content.decode()
    client.post(address, {"continue": "1"})
    assert NotificationEvent.objects.dead().count() == 7, "an ended operation does nothing more"
    assert LogEntry.objects.count() == 1


def test_one_operation_is_one_entry_in_the_log(client: Client) -> None:
    for _ in range(10):
        dead()
    drive(client, begin(client, reason="the hook is back").headers["Location"])
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_repr) == ("superuser", "Requeued: 10 notifications.")
    assert "Scope: all dead letters." in entry.change_message
    assert "Reason: the hook is back" in entry.change_message


def test_a_step_costs_the_same_wherever_it_is(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(12):
        dead(created_at=ago(minutes=n))
    address = begin(client).headers["Location"]
    found = []
    for _ in range(3):
        with django_assert_max_num_queries(23) as queries:
            client.post(address, headers={"Accept": "application/json"})
        found.append(len(queries))
    assert len(set(found)) == 1


def test_all_that_match_are_counted_per_channel_and_error(client: Client, configure: Configure) -> None:
    slack = {"NOTIFIER": "notifications.notifiers.slack.SlackNotifier", "URL": "https://hooks.example.com/x"}
    webhook = {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}
    configure(CHANNELS={"Slack": slack, "Webhook": webhook})
    oldest = dead(created_at=ago(days=9), last_error="HTTP 503: request 1", channel="Slack")
    attempt(oldest, "unknown")
    for n in range(13):
        event = dead(channel=("Webhook", "webhook")[n % 2], last_error=f"no answer to {n}")
    attempt(event, "interrupted")
    dead(channel="Email", last_error="SMTP 550", created_at=ago(days=30))
    answers = count_all(client, "?status=dead&age=30d")
    assert len(answers) > 3
    assert sum(answer["count"] for answer in answers) == 14
    channels: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    for answer in answers:
        channels.update({name.casefold(): number for name, number in answer["channels"]})
        groups.update({error: number for _, error, number, _ in answer["groups"]})
    assert channels == {"webhook": 13, "slack": 1}
    assert groups == {"no answer to …": 13, "HTTP 503: request …": 1}
    assert min(answer["oldest"] for answer in answers if answer["oldest"]).startswith(
        f"{oldest.created_at:%Y-%m-%d %H:%M:%S}"
    )
    assert sum(answer["arrived"] for answer in answers) == 1, "receivers of a webhook fold repeats"
    assert not BulkOperation.objects.exists()
    assert NotificationEvent.objects.dead().count() == 15, "counting changes nothing"


def test_a_running_attempt_is_not_counted(client: Client) -> None:
    for make in (failed, leased, stranded, sent):
        make()
    assert sum(answer["count"] for answer in count_all(client, "")) == 2


def test_the_page_that_asks_counts_on_only_where_it_has_not_counted_all(client: Client) -> None:
    for _ in range(3):
        dead()
    ask = {"select_across": "1", "_selected_action": "-"}
    assert "data-count" not in act(client, REQUEUE, query="?status=dead", **ask).content.decode()
    for _ in range(3):
        dead()
    markup = act(client, REQUEUE, query="?status=dead", **ask).content.decode()
    assert "data-count" in markup
    assert "All of this of the newest 4." in markup


@pytest.mark.parametrize("place", ["nonsense", "WyJkZWFkIl0:1a:xyz"])
def test_a_place_that_is_none_of_ours_is_refused(client: Client, place: str) -> None:
    response = act(client, REQUEUE, count=place, select_across="1", _selected_action="-")
    assert response.status_code == 400


def test_counting_needs_the_permission_of_its_verb(signed_in: As) -> None:
    dead()
    data = {"count": "", "select_across": "1", "_selected_action": "-"}
    assert act(signed_in("viewer"), REQUEUE, **data).headers["Content-Type"] != "application/json"
    assert act(signed_in("requeuer"), REQUEUE, **data).headers["Content-Type"] == "application/json"


def test_nobody_is_offered_to_delete_what_is_selected(client: Client) -> None:
    dead()
    assert "delete_selected" not in client.get(LIST).content.decode()
    act(client, "delete_selected", *NotificationEvent.objects.all(), post="yes")
    assert NotificationEvent.objects.filter(status=Status.DEAD).count() == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "all notifications"),
        ("status=dead", "all dead letters"),
        ("status=dead&channel=Slack&groups=count&p=2", "all dead letters on Slack"),
        ("status=retrying&q=a+b", "all failed notifications that will be retried, found by “a b”"),
        ("alike=HTTP+503+%E2%80%A6&recipient=ops", "all notifications, to ops, with the error “HTTP 503 …”"),
        ("status=dead&age=24h", "all dead letters, raised since 2026-11-25 12:00:00 UTC"),
        ("status=undead", "all that match “status=undead”"),
        ("\u202eelse", "all that match “[U+202E]else”"),
    ],
)
def test_a_scope_is_said_in_words(query: str, said: str) -> None:
    assert words.matching(query, datetime(2026, 11, 26, 12, tzinfo=UTC)) == said
