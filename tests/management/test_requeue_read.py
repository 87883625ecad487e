"""requeue and read: what is chosen, who is asked, what is refused and why."""

from __future__ import annotations

import getpass
from collections.abc import Iterable

import pytest

from notifications.models import NotificationEvent, Reading, Requeue
from tests import factories
from tests.factories import ago
from tests.management.support import Run

pytestmark = pytest.mark.django_db


def status(event: NotificationEvent) -> str:
    return str(NotificationEvent.objects.get(pk=event.pk).status)


def statuses(events: Iterable[NotificationEvent]) -> list[str]:
    return [status(event) for event in events]


@pytest.mark.parametrize("event", [factories.dead, factories.failed, factories.stranded])
def test_requeue_by_id_needs_no_answer_and_is_on_record(run: Run, event: type) -> None:
    made = event(last_error="HTTP 503")
    ran = run("requeue", made.pk, "--reason", "new webhook")
    assert (ran.code, ran.out, ran.err) == (0, "1 requeued\n", "")
    assert status(made) == "pending"
    record = Requeue.objects.get()
    assert (record.by, record.via, record.reason) == (getpass.getuser(), "cli", "new webhook")
    assert record.last_error == "HTTP 503"


def test_what_is_refused_says_why_and_stops_no_other(run: Run) -> None:
    sent, busy, dead = factories.sent(), factories.leased(), factories.dead()
    ran = run("requeue", sent.pk, "nope", dead.pk, busy.pk, dead.pk)
    assert (ran.code, ran.out) == (1, "1 requeued, 3 skipped\n")
    assert len(ran.err.splitlines()) == 1
    for why in ("it was delivered", "there is no notification nope", "an attempt is running"):
        assert why in ran.err
    assert statuses([sent, busy, dead]) == ["sent", "failed", "pending"]


def test_what_was_not_delivered_is_chosen_by_its_status(run: Run) -> None:
    lost, other, dead = factories.not_delivered(), factories.not_delivered(channel="Fax"), factories.dead()
    ran = run("requeue", "--status", "not_delivered", "--channel", "pager", "--yes")
    assert (ran.code, ran.out) == (0, "1 requeued\n")
    assert statuses([lost, other, dead]) == ["pending", "sent", "dead"]
    assert run("requeue", other.pk).out == "1 requeued\n"
    assert run("requeue", dead.pk, "--status", "dead").code == 2


def test_all_means_the_dead_unless_another_status_is_named(run: Run) -> None:
    lost, dead, sent = factories.not_delivered(), factories.dead(), factories.sent(error="certctl's")
    assert run("requeue", "--all", "--dry-run").out.endswith("1 would be requeued; nothing was changed\n")
    assert run("requeue", "--all", "--status", "not_delivered", "--yes").out == "1 requeued\n"
    assert statuses([lost, dead, sent]) == ["pending", "dead", "sent"]


def test_refusals_for_programs(run: Run) -> None:
    sent = factories.sent()
    ran = run("requeue", sent.pk, factories.dead().pk, "--json")
    assert ran.code == 1
    assert ran.json == {
        "requeued": 1,
        "skipped": 1,
        "refused": {sent.pk: f"cannot requeue notification {sent.pk}: it is sent: it was delivered"},
    }


@pytest.mark.parametrize(
    "filters",
    [
        ("--channel", "slack"),
        ("--type", "Revocation"),
        ("--error", "no_team"),
        ("--dead-since", "2h"),
        ("--channel", "Slack", "--error", "NO_TEAM", "--dead-since", "2h", "--all"),
    ],
)
def test_filters_choose_among_the_dead(run: Run, filters: tuple[str, ...]) -> None:
    wanted = factories.dead(
        channel="Slack", type="Revocation", last_error="HTTP 404: no_team", created_at=ago(days=2)
    )
    factories.attempt(wanted, started_at=ago(hours=1))
    other = factories.dead(created_at=ago(days=2))
    factories.attempt(other, started_at=ago(days=1))
    failed = factories.failed(channel="Slack", type="Revocation", last_error="no_team")
    ran = run("requeue", *filters, "--yes")
    assert (ran.code, ran.out) == (0, "1 requeued\n")
    assert statuses([wanted, other, failed]) == ["pending", "dead", "failed"]


def test_a_dead_letter_without_attempts_died_when_it_was_young_enough(run: Run) -> None:
    factories.dead(created_at=ago(days=2))
    young = factories.dead(created_at=ago(hours=1))
    run("requeue", "--dead-since", "2h", "--yes")
    assert [event.pk for event in NotificationEvent.objects.pending()] == [young.pk]


def test_all_means_every_dead_letter(run: Run) -> None:
    dead = [factories.dead() for _ in range(3)]
    others = [factories.sent(), factories.stranded(), factories.read()]
    assert run("requeue", "--all", "--yes").out == "3 requeued\n"
    assert statuses(dead) == ["pending"] * 3
    assert statuses(others) == ["sent", "failed", "read"]


def test_more_than_a_batch_is_requeued_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.operations.bulk.STEP", 2)
    for _ in range(5):
        factories.dead()
    assert run("requeue", "--all", "--yes", "--json").json == {"requeued": 5, "skipped": 0, "refused": {}}


# Asking


def test_a_person_is_asked_with_counts_by_channel_and_error(run: Run) -> None:
    for channel in ("Slack", "Slack", "Email"):
        factories.dead(channel=channel, last_error=f"{channel} is down")
    ran = run("requeue", "--all", given="y\n", terminal=True)
    assert [line.split() for line in ran.out.splitlines()[1:3]] == [
        ["Slack", "2", "Slack", "is", "down"],
        ["Email", "1", "Email", "is", "down"],
    ]
    assert "Requeue 3 notifications? [y/N] 3 requeued" in ran.out


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n"])
def test_anything_but_yes_changes_nothing(run: Run, answer: str) -> None:
    event = factories.dead()
    ran = run("requeue", "--all", given=answer, terminal=True)
    assert (ran.code, ran.err) == (1, "nothing was changed\n")
    assert status(event) == "dead"


def test_nobody_is_asked_about_nothing(run: Run) -> None:
    ran = run("requeue", "--all", terminal=True)
    assert (ran.code, ran.out) == (0, "0 requeued\n")


def test_without_a_person_and_without_yes_it_refuses(run: Run) -> None:
    event = factories.dead()
    ran = run("requeue", "--all", given="y\n")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert status(event) == "dead"


@pytest.mark.parametrize("verb", ["requeue", "read"])
@pytest.mark.parametrize("arguments", [(), ("--yes",), ("--dry-run",), ("some-id", "--all")])
def test_a_choice_that_is_none_is_wrong(run: Run, verb: str, arguments: tuple[str, ...]) -> None:
    event = factories.dead()
    assert run(verb, *arguments).code == 2
    assert status(event) == "dead"


# Dry runs


def test_a_dry_run_counts_and_changes_nothing(run: Run) -> None:
    event = factories.dead(last_error="HTTP 401")
    ran = run("requeue", "--all", "--dry-run")
    assert ran.code == 0
    assert "HTTP 401" in ran.out
    assert ran.out.endswith("1 would be requeued; nothing was changed\n")
    assert status(event) == "dead"
    assert not Requeue.objects.exists()


def test_a_dry_run_by_id_counts_what_would_be_skipped(run: Run) -> None:
    ran = run("requeue", factories.dead().pk, factories.sent().pk, "nope", "--dry-run", "--json")
    assert ran.json == {"dry_run": True, "requeued": 1, "skipped": 2}


# read


def test_read_marks_the_sent_as_seen_and_dismisses_the_dead(run: Run) -> None:
    sent, dead = factories.sent(), factories.dead()
    assert run("read", sent.pk, dead.pk, "--reason", "known").out == "2 read\n"
    assert statuses([sent, dead]) == ["read", "read"]
    records = Reading.objects.order_by("status").values_list("status", "by", "via", "reason")
    assert list(records) == [(was, getpass.getuser(), "cli", "known") for was in ("dead", "sent")]
    assert "Dismissed by" in run("show", dead.pk).out


@pytest.mark.parametrize("event", [factories.pending, factories.failed, factories.read])
def test_read_refuses_what_is_not_delivered(run: Run, event: type) -> None:
    made = event()
    before = status(made)
    ran = run("read", made.pk)
    assert (ran.code, ran.out) == (1, "0 read, 1 skipped\n")
    assert "cannot mark read" in ran.err
    assert status(made) == before


def test_read_by_filter_dismisses_dead_letters_only(run: Run) -> None:
    dead, sent = factories.dead(channel="Slack"), factories.sent(channel="Slack")
    assert run("read", "--channel", "slack", "--yes").out == "1 read\n"
    assert statuses([dead, sent]) == ["read", "sent"]


def test_the_operator_is_named_also_where_the_system_has_no_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    run("requeue", factories.dead().pk)
    assert Requeue.objects.get().by.startswith("uid ")
