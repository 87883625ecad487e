"""create, list and show."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from notifications.models import Escalation, NotificationEvent
from tests import factories
from tests.factories import ago, ahead
from tests.management.support import Run
from tests.scripted import Script

pytestmark = pytest.mark.django_db

ALERT = ("--type", "ExpirationWarning", "--channel", "Webhook", "--recipient", "ops", "--message", "7 days")
EVENT = [
    "id",
    "type",
    "certificate_id",
    "channel",
    "recipient",
    "message",
    "sent_at",
    "status",
    "error",
    "retry_count",
    "next_retry_at",
    "last_error",
    "created_at",
    "not_after",
    "dismissed",
    "withdrawn",
]
ESCAPES = "\x1b[2J\x07\u202eevil\r\x9b31m"


def only_event() -> NotificationEvent:
    event: NotificationEvent = NotificationEvent.objects.get()
    return event


# create


def test_create_raises_an_alert(run: Run, script: Script) -> None:
    ran = run("create", *ALERT, "--certificate", "mc-api", "--dedup-key", "k")
    event = only_event()
    assert (ran.code, ran.out, ran.err) == (0, f"{event.pk} raised\n", "")
    assert (event.type, event.channel, event.recipient) == ("ExpirationWarning", "Webhook", "ops")
    assert (event.message, event.certificate_id, event.dedup_key) == ("7 days", "mc-api", "k")
    assert event.status == "pending"


@pytest.mark.parametrize("written", ["notAfter=Dec 24 10:00:00 2026 GMT", "2026-12-24T10:00Z"])
def test_create_knows_when_the_certificate_ends_and_the_list_says_it(
    run: Run, written: str, tmp_path: Path
) -> None:
    alert = {"type": "ExpirationWarning", "channel": "Webhook", "recipient": "ops", "message": "7 days"}
    run("create", *ALERT)
    assert run("create", *ALERT, "--not-after", written).code == 0
    many = tmp_path / "alerts"
    many.write_text(json.dumps(alert | {"not_after": ahead(hours=3, minutes=5).isoformat()}))
    assert run("create", "--from", str(many)).code == 0
    found = run("list", "--order", "ends", "--json").json
    assert [event["not_after"] is None for event in found] == [False, False, True]
    assert found[1]["not_after"] == "2026-12-24T10:00:00Z"  # the one that ends later
    table = run("list", "--order", "ends").out.splitlines()
    assert "ENDS" in table[0]
    assert "expires in 3 h" in table[1]
    ran = run("create", *ALERT, "--not-after", "soon")
    assert (ran.code, "is no time, such as" in ran.err) == (2, True)


def test_the_same_key_raises_nothing_and_is_no_failure(run: Run) -> None:
    first = run("create", *ALERT, "--dedup-key", "k", "--json").json
    again = run("create", *ALERT, "--dedup-key", "k", "--json")
    assert (first["created"], again.json["created"], again.code) == (True, False, 0)
    assert again.json["id"] == first["id"] == only_event().pk
    assert run("create", *ALERT, "--dedup-key", "k").out == f"{first['id']} had been raised before\n"


def test_create_reads_the_message_from_a_pipe(run: Run) -> None:
    run("create", *ALERT[:-1], "-", given="two\nlines\n")
    assert only_event().message == "two\nlines"


def test_create_warns_of_a_channel_that_nobody_serves(run: Run) -> None:
    ran = run("create", *ALERT, "--channel", "Pager")
    assert ran.code == 0
    assert ran.err == "warning: the channel Pager has no notifier\n"
    assert only_event().channel == "Pager"


def test_a_strict_create_refuses_a_channel_that_nobody_serves(run: Run) -> None:
    ran = run("create", *ALERT, "--channel", "Pager", "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert "the channel Pager has no notifier; nothing was raised" in ran.err
    assert not NotificationEvent.objects.exists()


@pytest.mark.parametrize(
    ("recipient", "said"), [("ops", "not an http or https URL"), ("http://127.0.0.1/", "not a public")]
)
def test_create_warns_of_a_recipient_that_nothing_can_be_sent_to(run: Run, recipient: str, said: str) -> None:
    alert = ("create", *ALERT, "--recipient", recipient)
    ran = run(*alert, "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert not NotificationEvent.objects.exists()
    ran = run(*alert)
    assert ran.code == 0
    assert ran.err.startswith("warning: the channel Webhook cannot deliver to this recipient: ")
    assert only_event().recipient == recipient


def test_what_was_not_delivered_is_called_so(run: Run) -> None:
    event = factories.not_delivered()
    for ran in (run("list"), run("list", "--status", "not_delivered"), run("show", event.pk)):
        assert "not delivered" in ran.out
    factories.sent(error="certctl's")
    assert [e["id"] for e in run("list", "--status", "not_delivered", "--json").json] == [event.pk]
    assert "1 not delivered: sent, but their channel had no notifier." in run("stats").out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--recipient", "x" * 300), "--recipient: "),
        (("--recipient", ""), "--recipient: "),
        (("--message", ""), "--message: "),
        (("--certificate", "a\x00b"), "--certificate"),
        (("--message", "\udcff"), "not valid Unicode"),
    ],
)
def test_create_names_the_argument_that_the_table_cannot_hold(
    run: Run, change: tuple[str, str], said: str
) -> None:
    ran = run("create", *ALERT, *change)
    assert ran.code == 2
    assert said in ran.err
    assert not NotificationEvent.objects.exists()


def test_create_without_a_recipient_is_wrong(run: Run) -> None:
    assert run("create", "--type", "T", "--channel", "C", "--message", "m").code == 2


# list


def listed(run: Run, *arguments: str) -> list[str]:
    ran = run("list", "--json", *arguments)
    assert ran.code == 0
    return [event["id"] for event in ran.json]


def test_list_is_newest_first_and_limited(run: Run) -> None:
    events = [factories.pending(created_at=ago(minutes=n)).pk for n in range(5)]
    assert listed(run) == events
    assert listed(run, "--limit", "2") == events[:2]
    assert "The newest 2; there are more" in run("list", "--limit", "2").out
    assert "there are more" not in run("list", "--limit", "5").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--status", "dead"),
        ("--channel", "SLACK"),
        ("--type", "Revocation"),
        ("--certificate", "mc-wanted"),
        ("--since", "2h"),
        ("--since", "2026-11-01"),
        ("--status", "dead", "--channel", "slack", "--since", "1d"),
    ],
)
def test_list_filters(run: Run, arguments: tuple[str, ...]) -> None:
    factories.sent(created_at=datetime.fromisoformat("2025-01-01T00:00Z"))
    wanted = factories.dead(
        channel="Slack", type="Revocation", certificate_id="mc-wanted", created_at=ago(hours=1)
    )
    assert listed(run, *arguments) == [wanted.pk]


def test_a_listed_event_has_the_fields_that_programs_know(run: Run) -> None:
    factories.failed(due_at=ahead(minutes=2))
    (event,) = run("list", "--json").json
    assert list(event) == EVENT
    for name in ("next_retry_at", "created_at"):
        assert event[name].endswith("Z")
        assert datetime.fromisoformat(event[name]).tzinfo is not None


def test_json_is_plain_ascii_on_one_line(run: Run) -> None:
    factories.pending(message="ünïcode\nlines")
    out = run("list", "--json").out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out)[0]["message"] == "ünïcode\nlines"


def test_a_table_for_people_has_what_they_ask_for(run: Run) -> None:
    dead = factories.dead(recipient="#pki", last_error="HTTP 404: no_team")
    head, row = run("list").out.splitlines()
    assert head.split()[:2] == ["ID", "STATUS"]
    for part in (dead.pk, "dead", "#pki", "mc-api-prod", "5/5", "HTTP 404: no_team"):
        assert part in row


def test_a_long_error_stays_on_its_row_for_grep(run: Run) -> None:
    factories.dead(last_error="word " * 300 + "\nend")
    assert [line.rstrip().endswith("end") for line in run("list").out.splitlines()] == [False, True]


def test_an_empty_list_says_so(run: Run) -> None:
    assert run("list").out == "nothing matches\n"
    assert run("list", "--json").json == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--status", "lost"),
        ("--since", "yesterday"),
        ("--since", "0s"),
        ("--since", "99999999999d"),
        ("--since", "0001-01-01T00:00+14:00"),
        ("--limit", "0"),
        ("--channel", "\udc80"),
        ("--what",),
    ],
)
def test_list_refuses_what_it_does_not_understand(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run("list", *arguments)
    assert ran.code == 2
    assert "error: " in ran.err.splitlines()[-1]


@pytest.mark.parametrize("verb", ["list", "show"])
def test_a_terminal_is_never_told_what_to_do_by_an_outsider(run: Run, verb: str) -> None:
    event = factories.dead(last_error=ESCAPES, message=ESCAPES, recipient=f"[red]{ESCAPES}", channel="[b]x")
    factories.attempt(event, error=ESCAPES)
    out = run(verb, *([event.pk] if verb == "show" else [])).out
    assert "[red]" in out
    assert "[b]x" in out
    assert [c for c in out if not c.isprintable() and c != "\n"] == []


def test_colors_only_where_they_are_asked_for_or_seen(run: Run) -> None:
    factories.dead()
    assert "\x1b" not in run("list").out
    assert "\x1b" in run("list", "--force-color").out


# show


@pytest.fixture
def storied() -> NotificationEvent:
    """Died, was requeued, and then arrived."""
    event = factories.sent(created_at=ago(hours=3), sent_at=ago(minutes=1))
    factories.attempt(event, started_at=ago(hours=2), outcome="permanent", reason="auth", status_code=401)
    event.requeues.create(
        by="alice", via="admin", at=ago(hours=1), status="dead", retry_count=0, last_error="wiped"
    )
    factories.attempt(event, started_at=ago(minutes=1), outcome="sent", status_code=200)
    return event


def test_show_tells_the_story_in_its_order(run: Run, storied: NotificationEvent) -> None:
    out = run("show", storied.pk).out
    told = [
        "Raised\n",
        "Attempt 1: failed, and would fail again"
        " (duration: 12 ms, provider status: 401, reason: auth, worker: worker-1:1)",
        factories.REFUSED,
        "Requeued by alice via admin (status before: dead, retry count before: 0)",
        "Error before: wiped",
        "Attempt 1: sent (duration: 12 ms, provider status: 200",
    ]
    places = [out.index(part) for part in told]
    assert places == sorted(places)


def test_show_for_programs(run: Run, storied: NotificationEvent) -> None:
    shown = run("show", storied.pk, "--json").json
    assert list(shown)[: len(EVENT)] == EVENT
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["permanent", "sent"]
    assert [requeue["by"] for requeue in shown["requeues"]] == ["alice"]
    assert shown["readings"] == []


def test_show_tells_of_escalations(run: Run) -> None:
    died, raised = factories.dead(channel="Slack"), factories.pending(channel="Email")
    Escalation.objects.create(notification=died, raised=raised, at=ago(seconds=1))
    assert f"Escalated (as: {raised.pk})" in run("show", died.pk).out
    assert f"dead letter (in place of: {died.pk}, died on: Slack)" in run("show", raised.pk).out
    shown = [run("show", event.pk, "--json").json for event in (died, raised)]
    assert [event["escalated_to"] for event in shown] == [raised.pk, None]
    assert [event["escalation_of"] for event in shown] == [None, died.pk]


@pytest.mark.parametrize(
    ("event", "last"),
    [
        (lambda: factories.failed(due_at=ahead(minutes=5, seconds=30)), "Next attempt (when: next in 5 min)"),
        (lambda: factories.leased(), "Next attempt (when: attempt running)"),
        (lambda: factories.sent(created_at=ago(hours=1)), "Sent"),
        (lambda: factories.dead(), "Dead letter: retrying is over, and a person decides"),
        (lambda: factories.pending(), "Next attempt (when: with the next delivery)"),
    ],
)
def test_show_ends_with_what_comes_next(run: Run, event: Any, last: str) -> None:
    assert run("show", event().pk).out.splitlines()[-1].endswith(last)


def test_show_of_an_unknown_id(run: Run) -> None:
    ran = run("show", "nope")
    assert (ran.code, ran.out, ran.err) == (1, "", "there is no notification nope\n")
