"""stats and test."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError

from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import Hold, NotificationEvent
from notifications.notifiers.base import Delivered
from notifications.reporting import snapshot as stats
from notifications.reporting.figures import Snapshot
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.management.support import Run
from tests.notifiers.support import mail_settings
from tests.receiver import Answer, HttpReceiver, MailReceiver
from tests.reporting.rows import held, swept, tally, this_hour
from tests.scripted import Script

pytestmark = pytest.mark.django_db

# stats


def test_stats_for_people(run: Run) -> None:
    factories.one_of_each()
    factories.stranded()
    factories.pending(created_at=ago(minutes=17))
    swept("retry", ago(minutes=2))
    held("slack", error="HTTP 401: invalid_auth")
    tally("Webhook", "sent", hour=this_hour(), attempts=12, age_0=12)
    tally("Webhook", "transient", hour=this_hour(), attempts=3)
    ran = run("stats")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    for row in (["pending", "2"], ["failed", "2"], ["dead", "1"], ["Webhook", "12", "3", "12", "3"]):
        assert row in rows
    for part in (
        "1 stranded",
        "waiting for 17 min",
        "Last pending sweep: never.",
        "Last retry sweep: 2 min ago",
        "HTTP 401: invalid_auth",
        "half within 500 ms",
    ):
        assert part in ran.out


def test_stats_for_programs_is_the_same_snapshot(run: Run) -> None:
    factories.one_of_each()
    shown = run("stats", "--json").json
    assert shown["notifications_dead"] == 1
    datetime.fromisoformat(shown.pop("at"))
    expected = stats.summary()
    expected.pop("at")
    waiting = "oldest_due_seconds"
    assert shown.pop(waiting) == pytest.approx(expected.pop(waiting), abs=10)
    assert shown == expected


def test_an_estimate_is_marked_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"pending": 0, "failed": 0, "sent": 1_676_165, "dead": 0, "read": 0}
    shown = Snapshot(counts=counts, estimated=frozenset({"sent"}))
    monkeypatch.setattr(stats, "snapshot", lambda: shown)
    assert ["sent", "about", "1,676,165"] in [line.split() for line in run("stats").out.splitlines()]


def test_stats_that_cannot_count_is_a_failure_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(using: str) -> datetime:
        raise OperationalError("gone")

    monkeypatch.setattr(stats, "database_now", away)
    ran = run("stats", "--json")
    assert (ran.code, ran.json) == (1, {})
    assert len(ran.err.splitlines()) == 1


# test


def test_a_test_alert_leaves_no_row_and_says_what_came_back(run: Run, webhook: HttpReceiver) -> None:
    webhook.always(Answer(202, body="queued as 7"))
    ran = run("test", "webhook", webhook.url("/elsewhere"), "--message", "Hello")
    assert ran.code == 0
    assert ran.out.startswith("delivered on Webhook in ")
    assert "202" in ran.out
    assert ran.out.splitlines()[1:] == [f"  connected to 127.0.0.1:{webhook.port}"]
    (request,) = webhook.requests
    assert request.path == "/elsewhere"
    assert request.json["data"]["message"] == "Hello"
    assert not NotificationEvent.objects.exists()


def test_a_test_does_not_look_like_an_alarm(run: Run, webhook: HttpReceiver) -> None:
    assert run("test", "webhook", webhook.url()).code == 0
    data = webhook.requests[0].json["data"]
    assert data["type"] == "Test"
    assert "Nothing is wrong" in data["message"]


def test_a_test_mail_shows_the_stages_of_the_dialogue(
    run: Run, mail_receiver: MailReceiver, configure: Configure, settings: Any
) -> None:
    mail_settings(settings, mail_receiver.port)
    email = "notifications.notifiers.email.EmailNotifier"
    configure(CHANNELS={"Email": {"NOTIFIER": email, "FROM_ADDRESS": "pki@example.com"}})
    mail_receiver.data.append("250 2.0.0 Ok: queued as 4F1")
    ran = run("test", "email", "ops@example.com")
    first, *stages = ran.out.splitlines()
    assert re.fullmatch(r"delivered on Email in \d+\.\d\d s: 250 2\.0\.0 Ok: queued as 4F1", first)
    begins = ["connected to 127.0.0.1:", "the connection: 220", "EHLO: 250", "MAIL: 250", "RCPT: 250"]
    begins += ["DATA: 354", "the mail: 250 2.0.0 Ok: queued as 4F1"]
    assert [line.strip()[: len(begin)] for line, begin in zip(stages, begins, strict=True)] == begins
    assert mail_receiver.mails[0].parsed["Subject"].startswith("This is a test")
    mail_receiver.rcpt.append("550 5.1.1 No such user")
    ran = run("test", "email", "nobody@example.com")
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "  RCPT: 550 5.1.1 No such user"
    assert "raise the alert again with another address" in ran.err


def test_a_failed_test_gives_the_error_and_the_advice(run: Run, webhook: HttpReceiver) -> None:
    webhook.always(Answer(401, body="bad token"))
    ran = run("test", "Webhook", "ops")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("not delivered: ")
    assert "401" in line
    assert "check the URL and the secret" in line


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (TransientError("down", reason=Reason.SERVER, status=503), "down"),
        (PermanentError("no", advice="mend it"), "no: mend it"),
        (RuntimeError("a bug of the notifier's"), "the notifier failed: RuntimeError"),
        (TimeoutError(), "no answer within"),
        (PermanentError("\x1b[2J\nforged line"), "forged line"),
    ],
)
def test_whatever_a_notifier_raises_is_one_line(
    run: Run, script: Script, answer: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    script.otherwise = answer
    ran = run("test", "Webhook", "ops")
    assert ran.code == 1
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err


def test_a_test_for_programs(run: Run, script: Script) -> None:
    script.otherwise = Delivered(201, "taken")
    good = run("test", "Webhook", "ops", "--json").json
    script.otherwise = PermanentError("gone", reason=Reason.GONE, status=410, advice="a new one")
    ran = run("test", "Webhook", "ops", "--json")
    for answer in (good, ran.json):
        assert answer.pop("seconds") >= 0
    assert good == {
        "delivered": True,
        "channel": "Webhook",
        "status": 201,
        "detail": "taken",
        "reason": "",
        "advice": "",
        "dialogue": [],
    }
    assert (ran.code, ran.json | {"seconds": 0}) == (
        1,
        {
            "delivered": False,
            "channel": "Webhook",
            "seconds": 0,
            "status": 410,
            "detail": "gone",
            "reason": "gone",
            "advice": "a new one",
            "dialogue": [],
        },
    )


def test_an_unknown_channel_names_those_that_are_known(run: Run, script: Script) -> None:
    ran = run("test", "Slak", "#pki")
    assert ran.code == 1
    assert ran.err == "the channel Slak is not configured; configured: Webhook\n"


def test_a_channel_that_cannot_be_made_is_one_line(run: Run, configure: Configure) -> None:
    configure(CHANNELS={"Slack": {"NOTIFIER": "no.such.Notifier"}})
    ran = run("test", "Slack", "#pki")
    assert ran.code == 1
    assert ran.err.startswith("channel Slack: ")


def test_a_test_that_arrives_opens_the_endpoint_again(run: Run, webhook: HttpReceiver) -> None:
    recipient = webhook.url("/hook")
    origin = f"webhook http://127.0.0.1:{webhook.port}"
    held(origin, recipient_prefix=f"http://127.0.0.1:{webhook.port}/")
    held(f"{origin} 0123456789ab", recipient_prefix=recipient, exact=True)
    others = [
        held(f"{origin} ffffffffffff", recipient_prefix=webhook.url("/other"), exact=True).pk,
        held("webhook https://elsewhere.example.com", until=ahead(hours=1)).pk,
    ]
    ran = run("test", "Webhook", recipient)
    assert (ran.code, ran.err) == (0, "2 held endpoints opened again\n")
    still_held = Hold.objects.filter(reopened_at=None).order_by("pk")
    assert list(still_held.values_list("pk", flat=True)) == sorted(others)


def test_a_test_that_fails_leaves_the_hold(run: Run, webhook: HttpReceiver) -> None:
    held(f"webhook http://127.0.0.1:{webhook.port}")
    webhook.always(503)
    assert run("test", "Webhook", webhook.url()).code == 1
    assert Hold.objects.count() == 1


def test_a_slow_provider_is_not_waited_for_longer_than_a_sweep_would(
    run: Run, webhook: HttpReceiver, configure: Configure
) -> None:
    configure(SEND_TIMEOUT=0.3)
    webhook.answer = lambda request: Answer(held=True)
    ran: Any = run("test", "Webhook", webhook.url())
    assert ran.code == 1
    assert "it may have arrived" in ran.err
