"""What people read of an alert: the first line, the facts, how grave it is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from notifications.database.values import NEVER
from notifications.notifiers.base import JsonNotifier, Message
from notifications.notifiers.email import EmailNotifier
from notifications.notifiers.wording import Severity, Words, label_of, words_of
from tests.notifiers.schemas import SCHEMAS
from tests.notifiers.support import HTTP_CHANNELS, Channel, a_message, email_notifier, notifier

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # two days after the message was raised
EXPIRY, FAILED = "ExpirationWarning", "RenewalFailure"


def said(type: str, message: str, **changes: Any) -> Words:
    return words_of(a_message(type=type, message=message, **changes), NOW)


@pytest.mark.parametrize(
    ("type", "message", "headline", "detail", "severity"),
    [
        (
            EXPIRY,
            "api.example.com expires in 7 days",
            "api.example.com expires in 7 days (30 Nov)",
            "",
            "warning",
        ),
        # What certctl writes, word for word.
        (
            EXPIRY,
            "The certificate for api.example.com will expire in 7 days (2026-12-02).\n\n"
            "Please schedule renewal.\n\n[threshold:7]",
            "api.example.com will expire in 7 days (2026-12-02)",
            "Please schedule renewal.",
            "warning",
        ),
        (
            EXPIRY,
            "[EXPIRED] The certificate for api.example.com has expired (2026-11-20).\n\n"
            "Immediate action required.\n\n[threshold:0]",
            "api.example.com has expired (2026-11-20)",
            "Immediate action required.",
            "critical",
        ),
        (
            "RenewalSuccess",
            "The certificate for *.example.com has been successfully renewed.\n\nNew expiry: 2027-02-02",
            "*.example.com has been successfully renewed",
            "New expiry: 2027-02-02",
            "info",
        ),
        (
            FAILED,
            "The certificate for My Service failed to renew.\n\nError: x",
            "mc-api-prod: The certificate for My Service failed to renew",
            "Error: x",
            "error",
        ),
        (
            "Revocation",
            "[REVOKED] The certificate for api.example.com has been revoked.\n\nReason: x",
            "api.example.com has been revoked",
            "Reason: x",
            "critical",
        ),
        # Other producers'
        (
            FAILED,
            "the CA answered 'rate limited'",
            "mc-api-prod: the CA answered 'rate limited'",
            "",
            "error",
        ),
        (FAILED, "MC-API-PROD: no answer", "MC-API-PROD: no answer", "", "error"),
        ("deployment_failure", "lb-3: refused!\nTwice.", "mc-api-prod: lb-3: refused!", "Twice.", "error"),
        (
            "PolicyViolation",
            "Example Inc. Root CA no. 5 is weak. See /var/log/x.log",
            "mc-api-prod: Example Inc. Root CA no. 5 is weak",
            "See /var/log/x.log",
            "warning",
        ),
        ("PolicyViolation", "[URGENT] a.example.com: bad", "[URGENT] a.example.com: bad", "", "warning"),
        ("Policy", "[fe80::1] and [b:443] fell", "mc-api-prod: [fe80::1] and [b:443] fell", "", "warning"),
        ("DeploymentSuccess", "on lb-1", "mc-api-prod: on lb-1", "", "info"),
        (EXPIRY, "", "Expiry warning: mc-api-prod", "", "warning"),
        ("CertificateExpired", "x", "mc-api-prod: x", "", "critical"),
        ("Something_else", "x", "mc-api-prod: x", "", "warning"),
        (
            EXPIRY,
            "a.example.com expires in 40 days",
            "a.example.com expires in 40 days (2 Jan 2027)",
            "",
            "warning",
        ),
        (
            EXPIRY,
            "a.example.com expires on 2026-11-25 11:00 UTC",
            "a.example.com expires on 2026-11-25 11:00 UTC",
            "",
            "critical",
        ),
        (
            FAILED,
            "a.example.com expires on 2026-11-25T13:00:00+01:00 and cannot be renewed",
            "a.example.com expires on 2026-11-25T13:00:00+01:00 and cannot be renewed",
            "",
            "critical",
        ),
        (EXPIRY, "a.example.com expires in 1 day", "a.example.com expires in 1 day (24 Nov)", "", "critical"),
        (EXPIRY, "a.example.com will in 2 days", "a.example.com will in 2 days (25 Nov)", "", "warning"),
        (
            EXPIRY,
            "Seen 2026-11-01: a.example.com expires 2026-12-02",
            "Seen 2026-11-01: a.example.com expires 2026-12-02",
            "",
            "warning",
        ),
        (FAILED, "the key expired 2026-11-01", "mc-api-prod: the key expired 2026-11-01", "", "error"),
        # An escalation's note comes before the alert, and is not what it is about.
        (
            EXPIRY,
            "Not delivered on Slack to #pki (notification n-0): gone\n\nNot delivered on Teams to x: late\n\n"
            "a.example.com expires in 7 days.",
            "a.example.com expires in 7 days (30 Nov)",
            "Not delivered on Slack to #pki (notification n-0): gone\n\nNot delivered on Teams to x: late\n\n"
            "a.example.com expires in 7 days.",
            "warning",
        ),
    ],
)  # fmt: skip
def test_the_first_line_says_it_all(
    type: str, message: str, headline: str, detail: str, severity: str
) -> None:
    words = said(type, message)
    assert (words.headline, words.detail, words.severity) == (headline, detail, severity)


def test_what_programs_wrote_is_kept_in_the_data_and_not_shown() -> None:
    message = "a.example.com expires\n\n[threshold:7]\n[policy:rp-1] [tier:2]\nSee the runbook [threshold:7]."
    words = said(EXPIRY, message)
    assert words.text == "a.example.com expires\n\nSee the runbook."
    assert "[" not in words.body()
    made = notifier(HTTP_CHANNELS[-1], "https://host.example")
    assert isinstance(made, JsonNotifier)
    assert json.loads(made.payload(a_message(message=message)))["data"]["message"] == message


def test_the_facts_have_their_zone_and_their_distance() -> None:
    words = said(EXPIRY, "a.example.com expires on 2026-12-02T10:00:00Z", url="", id="n-7")
    assert words.facts == (
        ("Certificate", "mc-api-prod"),
        ("Expires", "2026-12-02 10:00:00 UTC (in 6 days)"),
        ("Raised", "2026-11-23 12:00:00 UTC (2 days ago)"),
        ("Notification", "n-7"),
    )
    with timezone.override("Asia/Tokyo"):
        facts = dict(said(EXPIRY, "a.example.com expires on 2026-12-02T10:00:00Z").facts)
    assert facts["Expires"] == "2026-12-02 19:00:00 JST (in 6 days)"
    assert "Notification" not in facts  # there is the link


@pytest.mark.parametrize(
    ("date", "shown"),
    [
        ("2026-11-24", ("Expired", "2026-11-24 (yesterday)")),
        ("2026-11-25", ("Expires", "2026-11-25 (today)")),
        ("2026-11-26", ("Expires", "2026-11-26 (tomorrow)")),
        ("2026-11-30", ("Expires", "2026-11-30 (in 5 days)")),
        ("2026-10-31", ("Expired", "2026-10-31 (25 days ago)")),
    ],
)
def test_a_day_is_over_when_it_is_over(date: str, shown: tuple[str, str]) -> None:
    assert said(EXPIRY, f"It expires: {date}").facts[1] == shown


@pytest.mark.parametrize("date", ["2026-13-45", "0001-01-01", "9999-12-31 23:59 -12:00", "2026-01-01T99:99"])
def test_a_date_that_is_none_is_no_fact(date: str) -> None:
    assert {label for label, _ in said(EXPIRY, f"a.example.com expires {date}").facts} == {
        "Certificate",
        "Raised",
    }


def test_a_time_that_nobody_knows_is_said_so() -> None:
    words = said(EXPIRY, "a.example.com expires in 7 days", created_at=NEVER)
    assert words.headline == "a.example.com expires in 7 days"
    assert ("Raised", "unknown time") in words.facts


def test_a_site_without_time_zones_has_them_here() -> None:
    raised = datetime(2026, 11, 23, 12)  # noqa: DTZ001
    assert ("Raised", "2026-11-23 12:00:00 UTC (2 days ago)") in said(EXPIRY, "x", created_at=raised).facts


def test_plain_text_is_aligned_and_has_one_link() -> None:
    words = said(
        EXPIRY, "The certificate for a.example.com will expire in 7 days (2026-12-02).\n\n[threshold:7]"
    )
    link = a_message().url
    assert words.body() == (
        "The certificate for a.example.com will expire in 7 days (2026-12-02).\n\n"
        "Alert:       Expiry warning\n"
        "Certificate: mc-api-prod\n"
        "Expires:     2026-12-02 (in 7 days)\n"
        "Raised:      2026-11-23 12:00:00 UTC (2 days ago)\n\n" + link
    )


@pytest.mark.parametrize(
    ("option", "type", "severity"),
    [
        ("critical", "RenewalSuccess", "critical"),
        ({"RenewalFailure": "critical"}, "renewal_failure", "critical"),
        ({"renewal_failure": "critical"}, "RenewalFailure", "critical"),
        ({"RenewalFailure": "critical"}, "ExpirationWarning", "warning"),
        ({}, "Revocation", "critical"),
        (None, "RenewalSuccess", "info"),
    ],
)
def test_a_channel_can_have_severities_of_its_own(option: Any, type: str, severity: str) -> None:
    made = notifier(HTTP_CHANNELS[2], "https://host.example", SEVERITY=option)
    assert made.words(a_message(type=type)).severity == severity


def test_a_prefix_is_in_front_of_every_headline() -> None:
    for channel in HTTP_CHANNELS[:4]:
        made = notifier(channel, "https://host.example", PREFIX="[PKI]\n")
        assert made.subject(a_message()) == "[PKI] *.example.com expires in 7 days (30 Nov)"
        assert "[PKI] *.example.com" in made.preview(a_message())


@pytest.mark.parametrize(
    ("type", "label"),
    [
        ("ExpirationWarning", "Expiry warning"),
        ("renewal_failure", "Renewal failed"),
        ("DeadLetterDigest", "Dead letters"),
        ("OcspStapleMissing", "Ocsp staple missing"),
        ("", "Alert"),
    ],
)
def test_the_type_is_a_label(type: str, label: str) -> None:
    assert label_of(type) == label


# No text leaves its place

# fmt: off
PIECES = st.sampled_from([
    "<!channel>", "<@U1>", "<https://evil.example|bank>", "@here", "<at>All</at>", "**b**", "[x](https://evil)",
    "`", "_", "*", "~", "#", "&amp;", "x", "a.example.com", "2026-12-02", "{{message}}", "<b>",
    "[threshold:7]", "[EXPIRED]", "\u202e", "\u2066", "\u2069", "\u05d0\u05d1", "\u0627", "\x1b[2J", "\x00",
    "\ud83d", '"', "\\", "\U0001f600", "Bcc:a@b.example", "\r\n", "\n\n", "\u2028", " ", ". ", "* a", "1. a",
    "expires in 7 days",
])
# fmt: on
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(st.characters(), max_size=60)
MESSAGES = st.builds(
    a_message,
    message=TEXTS | TEXTS.map(lambda text: text * 800),
    type=TEXTS,
    certificate_id=st.none() | TEXTS,
    recipient=TEXTS,
    url=st.sampled_from(["", a_message().url]),
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066\u2067\ud800-\udfff]")
MADE = {channel.name: notifier(channel, "https://host.example") for channel in HTTP_CHANNELS}
people = pytest.mark.parametrize("channel", HTTP_CHANNELS[:4], ids=lambda channel: channel.name)


@people
@hypothesis_settings(deadline=None, max_examples=60)
@given(message=MESSAGES)
def test_no_text_leaves_its_place(channel: Channel, message: Message) -> None:
    """Mentions and markup: the schemas say which texts a provider reads as such, and what may stand there."""
    made = MADE[channel.name]
    assert isinstance(made, JsonNotifier)
    content = json.loads(made.payload(made.bounded(message)))
    jsonschema.validate(content, SCHEMAS[channel.name])
    words = made.words(message)
    assert len(words.headline.splitlines()) == 1
    for text in (words.headline, words.text, words.label, *(value for _, value in words.facts)):
        assert not CONTROLS.search(text)
        assert text.count("\u2068") == text.count("\u2069")  # what is isolated ends


@hypothesis_settings(deadline=None, max_examples=60)
@given(message=MESSAGES)
def test_nothing_in_a_mail_leaves_its_place(message: Message) -> None:
    made = email_notifier()
    assert isinstance(made, EmailNotifier)
    mail = made.compose(message._replace(recipient="pki@example.com")).message()
    assert mail["Bcc"] is None
    assert len(mail.get_all("Subject")) == 1
    assert not CONTROLS.search(made.compose(message._replace(recipient="pki@example.com")).body)


def test_what_runs_from_right_to_left_takes_nothing_with_it() -> None:
    words = said(EXPIRY, "\u05d0\u05d1\u05d2 expires in 7 days", certificate_id="\u0627\u0628")
    assert words.headline == (
        "\u2068\u0627\u0628\u2069: \u2068\u05d0\u05d1\u05d2 expires in 7 days\u2069 (30 Nov)"
    )


@given(st.integers(-(10**5), 10**5), st.sampled_from(list(Severity)))
def test_time_alone_makes_nothing_less_grave(hours: int, given_severity: Severity) -> None:
    message = a_message(message="a.example.com expires on 2026-12-02 10:00 UTC")
    words = words_of(message, NOW + timedelta(hours=hours), severity=lambda _, found: found)
    late = NOW + timedelta(hours=hours) >= datetime(2026, 12, 2, 10, tzinfo=UTC)
    assert words.severity == (Severity.CRITICAL if late else Severity.WARNING)
    assert words_of(message, NOW, severity=lambda *_: given_severity).severity == given_severity
