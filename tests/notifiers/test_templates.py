"""A site's own words: which template is taken, what it is given, and what becomes of one that fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from notifications.checks import check_channels
from notifications.models import NotificationEvent
from notifications.notifiers.base import Delivered, JsonNotifier, Message
from notifications.notifiers.templates import MOST_FOUND
from notifications.reporting.preview import previews
from tests.notifiers.support import PAGERDUTY, SLACK, TEAMS, Channel, a_message, attempt, notifier
from tests.receiver import Answer, HttpReceiver

Write = Callable[[str, str], None]
HOST = "https://host.example"


@pytest.fixture
def write(tmp_path: Path, settings: Any) -> Write:
    """A site's own template."""
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path, *settings.TEMPLATES[0]["DIRS"]]}]

    def written(name: str, text: str) -> None:
        path = tmp_path / "notifications" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return written


def text_of(channel: Channel, message: Message | None = None, **options: Any) -> str:
    made = notifier(channel, HOST, **options)
    assert isinstance(made, JsonNotifier)
    content = json.loads(made.payload(made.bounded(message or a_message())))
    return json.dumps(content, ensure_ascii=False)


@pytest.mark.parametrize(
    ("files", "type", "said"),
    [
        (["default"], "RenewalFailure", "default"),
        (["default", "default/renewal_failure"], "RenewalFailure", "default/renewal_failure"),
        (["default", "default/renewal_failure", "slack"], "RenewalFailure", "slack"),
        (["slack", "slack/renewal_failure"], "RenewalFailure", "slack/renewal_failure"),
        (["slack", "slack/renewal_failure"], "renewal_failure", "slack/renewal_failure"),
        (["slack", "slack/renewal_failure"], "ExpirationWarning", "slack"),
        (["default", "teams"], "ExpirationWarning", "default"),
        (["slack/renewal_failure", "ops"], "RenewalFailure", "ops"),
    ],
)
def test_the_type_s_comes_before_the_channel_s_and_this_before_all_others(
    files: list[str], type: str, said: str, write: Write
) -> None:
    for folder in files:
        write(f"{folder}/subject.txt", folder)
    made = notifier(SLACK, HOST, TEMPLATES="ops")
    assert made.subject(a_message(type=type)) == said


@pytest.mark.parametrize("type", ["../default", "a/b", "x" * 300, "", "ä", "\x00"])
def test_a_type_that_is_no_name_of_a_folder_is_looked_for_nowhere(type: str, write: Write) -> None:
    write("slack/subject.txt", "slack")
    assert notifier(SLACK, HOST).subject(a_message(type=type)) == "slack"


def test_whoever_makes_up_types_does_not_fill_the_memory(write: Write) -> None:
    write("slack/renewal_failure/subject.txt", "failed")
    made = notifier(SLACK, HOST)
    for n in range(2 * MOST_FOUND):
        made.subject(a_message(type=f"made_up_{n}"))
    assert len(made.own_words._found) <= MOST_FOUND + 4
    assert made.subject(a_message(type="RenewalFailure")) == "failed"


def test_what_a_template_is_given(write: Write) -> None:
    write(
        "slack/body.txt",
        "{{ channel }}|{{ headline }}|{{ label }}|{{ severity }}|{{ text }}|{{ message.certificate_id }}|"
        "{{ now.year }}|{% for label, value in facts %}{{ label }} {% endfor %}",
    )
    made = notifier(SLACK, HOST)
    said = made.body(a_message(message="a & <b> expire [threshold:7]")).split("|")
    assert said[:6] == [
        "Slack",
        "mc-api-prod: a & <b> expire",
        "Expiry warning",
        "warning",
        "a & <b> expire",
        "mc-api-prod",
    ]
    assert said[7].split() == ["Certificate", "Raised"]


def test_what_it_says_is_escaped_where_its_provider_reads_markup(write: Write) -> None:
    write("default/subject.txt", "<!channel> {{ message.message }}")
    write("default/body.txt", "<!here> *all* {{ message.message }}\u202e")
    slack = json.loads(text_of(SLACK, a_message(message="<@U1>")))
    assert "<" not in slack["text"]
    assert {block["text"]["type"] for block in slack["blocks"]} == {"plain_text"}
    assert "\u202e" not in text_of(TEAMS)


def test_of_a_message_that_is_too_long_what_stands_around_it_stays(write: Write) -> None:
    write("slack/body.txt", "before {{ message.message }} after")
    section = json.loads(text_of(SLACK, a_message(message="x" * 50_000)))["blocks"][1]["text"]["text"]
    assert len(section) == 3_000
    assert section.startswith("before xxx")
    assert section.endswith("…[cut] after")


FAULTS = {
    "{% broken %}": "TemplateSyntaxError",
    "{{ message.message|nothing }}": "TemplateSyntaxError",
    "{% include 'gone.txt' %}": "TemplateDoesNotExist",
}


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("name", ["body.txt", "expiration_warning/subject.txt"])
def test_one_that_fails_keeps_nothing_back(
    fault: str, name: str, write: Write, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    write(f"slack/{name}", fault)
    receiver.always(Answer(body="ok"))
    made = notifier(SLACK, receiver.url())
    with caplog.at_level(logging.WARNING):
        assert isinstance(attempt(made), Delivered)
        assert isinstance(attempt(made), Delivered)
    assert all(a_message().message in request.json["text"] for request in receiver.requests)
    [logged] = [record.getMessage() for record in caplog.records]  # once, not with every alert
    assert f"notifications/slack/{name}" in logged
    assert FAULTS[fault] in logged


def test_one_that_fails_is_shown_and_check_names_it(write: Write, settings: Any) -> None:
    write("slack/renewal_failure/body.txt", "{% broken %}")
    write("teams/subject.txt", "fine")
    settings.NOTIFICATIONS = {"CHANNELS": {"Slack": SLACK.options(HOST), "Teams": TEAMS.options(HOST)}}
    [slack, teams] = previews(NotificationEvent(type="RenewalFailure", channel="slack", message="m"))
    assert slack.words
    assert "notifications/slack/renewal_failure/body.txt fails: TemplateSyntaxError" in slack.words.fault
    assert not slack.fault
    assert teams.words
    assert (teams.words.headline, teams.words.fault) == ("fine", "")
    [found] = check_channels()
    assert found.id == "notifications.W012"
    assert "'Slack']: the template notifications/slack/renewal_failure/body.txt fails" in found.msg


def test_a_template_that_says_nothing_says_the_plain_words(write: Write) -> None:
    write("pagerduty/subject.txt", "{# nothing #}\n")
    write("pagerduty/body.txt", " \n")
    event = json.loads(text_of(PAGERDUTY))["payload"]
    assert event["summary"].startswith("*.example.com expires")
    assert event["custom_details"]["message"] == a_message().message
