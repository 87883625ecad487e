"""What `manage.py check` says of the channels."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection

from notifications.checks import check_channels, check_queue
from notifications.models import NotificationEvent
from notifications.notifiers.base import Notifier
from tests import factories
from tests.notifiers.support import LOOPBACK, ROUTING_KEY, SECRET, N, mail_settings, said

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr'", "ignore:'cgi'")

SLACK = {"NOTIFIER": f"{N}.slack.SlackNotifier", "URL": "https://hooks.slack.com/services/T/B/x"}
TEAMS = {
    "NOTIFIER": f"{N}.teams.TeamsNotifier",
    "URL": "https://prod-1.westeurope.logic.azure.com/workflows/x",
}
PAGERDUTY = {"NOTIFIER": f"{N}.pagerduty.PagerDutyNotifier", "ROUTING_KEY": ROUTING_KEY}
SUCCESSOR = "https://api.atlassian.com/jsm/ops/integration"
OPSGENIE = {"NOTIFIER": f"{N}.opsgenie.OpsGenieNotifier", "API_KEY": "key", "BASE_URL": SUCCESSOR}
WEBHOOK = {"NOTIFIER": f"{N}.webhook.WebhookNotifier", "SECRETS": [SECRET], "ALLOWED_NETWORKS": LOOPBACK}
EMAIL = {"NOTIFIER": f"{N}.email.EmailNotifier", "FROM_ADDRESS": "Certificates <pki@example.com>"}
APPRISE = {"NOTIFIER": f"{N}.apprise.AppriseNotifier", "URL": "json://localhost/"}
ALL = {
    "Slack": SLACK,
    "Teams": TEAMS,
    "PagerDuty": PAGERDUTY,
    "OpsGenie": OPSGENIE,
    "Webhook": WEBHOOK,
    "Email": EMAIL,
    "Apprise": APPRISE,
}


@pytest.fixture(autouse=True)
def json_is_known() -> None:
    """Django 6.1's own check asks SQLite once whether it knows JSON: where that comes before any test with a
    database, it would be ours that asked."""
    vars(connection.features).setdefault("supports_json_field", True)


def test_nothing_to_say_of_what_is_right(settings: Any) -> None:
    assert said(settings, **ALL) == []
    assert said(settings) == []


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({**SLACK, "URL": ""}, "E002: …: URL is missing"),
        ({**SLACK, "URL": "hooks.slack.com/x"}, "E002: …: URL must be an http or https URL"),
        ({**SLACK, "URL": "https://h.example/?a&amp;b"}, "E002: …: URL has &amp; in it"),
        (
            {**SLACK, "CHANEL": "#pki"},
            "E002: …: there is no option 'CHANEL'; the options are CHANNEL,",
        ),
        ({**SLACK, "MAX_PER_SECOND": 0}, "E002: …: MAX_PER_SECOND must be"),
        ({**SLACK, "MAX_PER_SECOND": "1"}, "E002: …: MAX_PER_SECOND must be"),
        ({**SLACK, "ENDPOINT_CONCURRENCY": True}, "E002: …: ENDPOINT_CONCURRENCY must be"),
        ({**SLACK, "ENDPOINT_CONCURRENCY": 1.5}, "E002: …: ENDPOINT_CONCURRENCY must be"),
        ({"NOTIFIER": TEAMS["NOTIFIER"]}, "E002: …: URL is missing"),
        (
            {**TEAMS, "URL": "https://acme.webhook.office.com/webhookb2/x"},
            "W001: …: URL is an Office",
        ),
        (
            {**TEAMS, "URL": "https://outlook.office.com/webhook/x"},
            "W001: …: URL is an Office 365",
        ),
        ({**PAGERDUTY, "ROUTING_KEY": ""}, "E002: …: ROUTING_KEY is missing"),
        (
            {**PAGERDUTY, "SEVERITY": "urgent"},
            "E002: …: SEVERITY must be one of critical, error,",
        ),
        ({**PAGERDUTY, "BASE_URL": "events"}, "E002: …: BASE_URL must be an http or https URL"),
        ({**OPSGENIE, "API_KEY": ""}, "E002: …: API_KEY is missing"),
        ({**OPSGENIE, "PRIORITY": "P9"}, "E002: …: PRIORITY must be one of P1, P2, P3, P4, P5"),
        ({**OPSGENIE, "BASE_URL": ""}, "W002: …: OpsGenie's API ends on 2027-04-05"),
        (
            {**OPSGENIE, "BASE_URL": "https://api.eu.opsgenie.com"},
            "W002: …: OpsGenie's API ends on",
        ),
        (
            {**WEBHOOK, "SECRETS": ["whsec_hunter2"]},
            "E002: …: SECRETS has one that begins with whsec_, and goes on with no base64",
        ),
        ({**WEBHOOK, "SECRETS": [SECRET, " "]}, "E002: …: SECRETS has one that is empty, or no text"),
        ({**WEBHOOK, "SECRETS": SECRET}, "E002: …: SECRETS must be a list, each of it a text, or whsec_"),
        ({**WEBHOOK, "FORMAT": "cloudevents"}, "E002: …: FORMAT must be one of standard, certctl, not"),
        (
            {**WEBHOOK, "ALLOWED_NETWORKS": ["10.0.0.1/8"]},
            "E002: …: ALLOWED_NETWORKS must be a list, each of it a network such as 10.0.0.0/8",
        ),
        (
            {**WEBHOOK, "ALLOWED_NETWORKS": ["intranet"]},
            "E002: …: ALLOWED_NETWORKS must be a list, each of it a network",
        ),
        ({**WEBHOOK, "URL": "ops"}, "E002: …: URL must be an http or https URL"),
        ({**WEBHOOK, "URL": "https://h.example/", "SECRETS": []}, "W004: …: no SECRETS"),
        ({**EMAIL, "FROM_ADDRESS": ""}, "E002: …: FROM_ADDRESS is missing"),
        (
            {**EMAIL, "FROM_ADDRESS": "pki"},
            "E002: …: FROM_ADDRESS must be an e-mail address, not 'pki'",
        ),
        ({**APPRISE, "URL": "nobody://knows"}, "E002: …: URL cannot be used: Apprise does not understand"),
        ({"NOTIFIER": "no.such.module.Notifier"}, "E003: …: No module named 'no'"),
        ({"NOTIFIER": f"{N}.slack.NoSuchNotifier"}, "E003: …: Module"),
        ({"NOTIFIER": "slack"}, "E003: …: slack doesn't look like a module path"),
        ({"NOTIFIER": "datetime.datetime"}, "E003: …: datetime.datetime is not a subclass of"),
    ],
)
def test_what_is_found(options: dict[str, Any], found: str, settings: Any) -> None:
    [message] = said(settings, Mine=options)
    where, _, text = found.partition("…")
    assert message.startswith(f"{where}NOTIFICATIONS['CHANNELS']['Mine']{text}")


def test_no_secret_is_shown(settings: Any) -> None:
    options = {**WEBHOOK, "SECRETS": ["whsec_hunter2-hunter2"], "URL": "tok3n-tok3n", "ALLOWED_NETWORKS": []}
    assert "hunter2" not in str(said(settings, Mine=options))
    assert "tok3n" not in str(said(settings, Mine=options))


def test_every_finding_says_how_to_put_it_right(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"A": {"NOTIFIER": "x"}, "B": {**OPSGENIE, "BASE_URL": ""}}}
    found = check_channels()
    assert len(found) == 2
    assert all(message.hint for message in found)
    assert SUCCESSOR in str(found[1].hint)


class Anything(Notifier):
    """A site's own notifier that does not list its options."""


def test_a_notifier_without_a_list_of_options_takes_any(settings: Any) -> None:
    assert said(settings, Own={"NOTIFIER": f"{__name__}.Anything", "WHATEVER": 1}) == []


def test_bad_settings_are_said_once(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"Slack": {}}}
    assert check_channels() == []
    assert [message.id for message in run_checks()].count("notifications.E001") == 1


@pytest.mark.django_db
def test_rows_that_nobody_will_deliver(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"Slack": SLACK}}
    waiting = [("slack", "pending"), ("Pager", "pending"), ("Pager", "failed"), ("Fax", "failed")]
    for channel, status in [*waiting, ("Telex", "sent"), ("Telegraph", "dead")]:
        NotificationEvent.objects.create(type="T", channel=channel, recipient="r", message="m", status=status)
    found = check_queue(databases=["default"])
    assert [message.id for message in found] == ["notifications.W003"] * 2
    assert [message.msg.split("'")[1] for message in found] == ["Fax", "Pager"]
    assert "marked as sent although nothing is delivered" in found[0].msg
    settings.NOTIFICATIONS = {"CHANNELS": {"Slack": SLACK}, "MISSING_NOTIFIER": "dead"}
    assert "dead-lettered" in check_queue(databases=["default"])[0].msg


@pytest.mark.django_db
def test_rows_that_were_lately_not_delivered(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"Slack": SLACK}}
    for channel, days in (("Pager", 1), ("Pager", 6), ("Slack", 2), ("Fax", 8)):
        factories.not_delivered(channel=channel, sent_at=factories.ago(days=days))
    factories.sent(error="certctl's")
    found = check_queue(databases=["default"])
    assert [message.id for message in found] == ["notifications.W008"] * 2
    assert "2 notifications were not delivered in the last 7 days: the channel 'Pager'" in found[0].msg
    assert "requeue --status not_delivered --channel Slack" in str(found[1].hint)
    NotificationEvent.objects.all().requeue(by="ada")
    assert {message.id for message in check_queue(databases=["default"])} == {"notifications.W003"}


def test_without_being_asked_the_database_is_left_alone() -> None:
    """pytest-django would refuse the query."""
    assert check_queue() == []
    assert check_queue(databases=[]) == []
    call_command("check", stdout=StringIO())


@pytest.mark.django_db
def test_the_command(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {}}
    NotificationEvent.objects.create(type="T", channel="Fax", recipient="r", message="m")
    err = StringIO()
    call_command("check", databases=["default"], stdout=StringIO(), stderr=err)
    assert "notifications.W003" in err.getvalue()


@pytest.mark.parametrize(("channel", "warned"), [("slack", False), ("Slak", True)])
def test_an_escalation_from_an_unknown_channel_is_warned_of(
    channel: str, warned: bool, settings: Any
) -> None:
    settings.NOTIFICATIONS = {
        "CHANNELS": {"Slack": SLACK, "Email": EMAIL},
        "ESCALATION": {channel: "Email:oncall@example.com"},
    }
    found = [message for message in run_checks() if message.id == "notifications.W005"]
    assert bool(found) == warned
    assert all("'Slak'" in message.msg for message in found)


@pytest.mark.parametrize(
    ("server", "warned"),
    [
        ({"host": "mail.example.com", "username": "me"}, True),
        ({"host": "mail.example.com", "username": "me", "use_tls": True}, False),
        ({"host": "mail.example.com"}, False),
        ({"host": "127.0.0.1", "username": "me"}, False),
    ],
)
def test_a_password_that_goes_in_clear_is_warned_of(
    settings: Any, server: dict[str, Any], warned: bool
) -> None:
    mail_settings(settings, 25, **server)
    assert [found.partition(":")[0] for found in said(settings, Email=EMAIL)] == ["W013"] * warned
