"""`notifications preview`: what a channel would send of one notification, read by a person or a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from notifications.models import DeliveryAttempt, NotificationEvent, Status
from tests import factories
from tests.fixtures import Configure
from tests.management.support import Run
from tests.notifiers.support import PAGERDUTY, ROUTING_KEY, SLACK, WEBHOOK, N

pytestmark = pytest.mark.django_db

HOST = "https://host.example"
CERTCTLS = (
    "The certificate for api.example.com failed to renew.\n\nError: \x1b[2Jno answer\u202e\n\n[threshold:7]"
)


@pytest.fixture
def event(configure: Configure) -> NotificationEvent:
    email = {"NOTIFIER": f"{N}.email.EmailNotifier", "FROM_ADDRESS": "certctl@example.com"}
    made = {channel.name: channel.options(HOST) for channel in (SLACK, PAGERDUTY, WEBHOOK)}
    configure(CHANNELS={**made, "Email": email}, BASE_URL="https://certctl.example.com")
    return factories.dead(channel="slack", recipient="#pki", type="RenewalFailure", message=CERTCTLS)


def test_its_own_channel_for_a_person(run: Run, event: NotificationEvent) -> None:
    ran = run("preview", event.pk)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:2] == ["api.example.com failed to renew", "error: Renewal failed on Slack"]
    assert "Certificate: mc-api-prod" in lines
    assert lines[-1].startswith("https://certctl.example.com/admin/")
    assert "threshold" not in ran.out
    assert not set(ran.out) & {"\x1b", "\u202e"}


def test_another_channel_for_a_program(run: Run, event: NotificationEvent) -> None:
    shown = run("preview", event.pk, "--channel", "pagerduty", "--json").json
    assert shown["channel"] == "PagerDuty"
    assert shown["words"]["headline"] == "api.example.com failed to renew"
    assert (shown["words"]["label"], shown["words"]["severity"]) == ("Renewal failed", "error")
    assert shown["words"]["facts"]["Certificate"] == "mc-api-prod"
    assert json.loads(shown["sent"])["payload"]["severity"] == "error"
    assert ROUTING_KEY not in str(shown)
    assert shown["fault"] == ""


def test_what_programs_read_is_shown_as_it_is(run: Run, event: NotificationEvent) -> None:
    ran = run("preview", event.pk, "--channel", "Webhook")
    assert ran.code == 0
    assert json.loads(ran.out)["data"]["message"].startswith("The certificate for api.example.com")
    assert run("preview", event.pk, "--channel", "Webhook", "--json").json["words"] is None


def test_a_template_that_fails_is_shown(
    run: Run, event: NotificationEvent, tmp_path: Path, settings: Any
) -> None:
    folder = tmp_path / "notifications" / "slack"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("{% broken %}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path, *settings.TEMPLATES[0]["DIRS"]]}]
    first, second, *_ = run("preview", event.pk).out.splitlines()
    assert first.startswith("In plain words: the template notifications/slack/subject.txt fails")
    assert second == "api.example.com failed to renew"
    assert "subject.txt" in run("preview", event.pk, "--json").json["words"]["template_fault"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--channel", "Email"], "cannot be sent on Email: '#pki' is not an e-mail address"),
        (["--channel", "Fax"], "Fax"),
    ],
)
def test_what_cannot_be_sent_says_why(
    run: Run, event: NotificationEvent, arguments: list[str], said: str
) -> None:
    ran = run("preview", event.pk, *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err


def test_an_unknown_id(run: Run) -> None:
    ran = run("preview", "nope")
    assert (ran.code, ran.out, ran.err) == (1, "", "there is no notification nope\n")


def test_nothing_that_only_looks_changes_anything(run: Run, event: NotificationEvent) -> None:
    before = NotificationEvent.objects.values().get()
    run("preview", event.pk)
    assert NotificationEvent.objects.values().get() == before
    assert before["status"] == Status.DEAD
    assert not DeliveryAttempt.objects.exists()
