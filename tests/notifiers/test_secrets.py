"""No error shows a secret, whatever the provider says back, and none is longer than 2,000 characters."""

from __future__ import annotations

import json
import logging

import pytest

from notifications.exceptions import DeliveryError, PermanentError, Reason, TransientError
from notifications.notifiers.http.client import Answer
from notifications.notifiers.loading import secrets_of
from notifications.text import redact, secrets_of_url
from tests.notifiers import wire
from tests.notifiers.support import (
    HTTP_CHANNELS,
    OPSGENIE,
    PAGERDUTY,
    SLACK,
    TEAMS,
    TOKEN,
    WEBHOOK,
    Channel,
    Names,
    a_message,
    attempt,
    notifier,
)
from tests.notifiers.wire import Wire, echo, response

every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)


@every_channel
@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_an_echo(channel: Channel, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Wire(echo(status)) as server:
        url = server.url(channel.path)
        error = attempt(notifier(channel, url))
    assert isinstance(error, DeliveryError)
    for shown in (str(error), repr(error), caplog.text):
        assert channel.secret.lower() not in shown.lower()
        assert not channel.path or channel.path not in shown
    assert "HTTP" in str(error)


@pytest.mark.parametrize(
    ("channel", "option"), [(SLACK, "URL"), (TEAMS, "URL"), (PAGERDUTY, "ROUTING_KEY"), (OPSGENIE, "API_KEY")]
)
def test_a_secret_from_a_file_works_with_its_line_s_end_and_stays_hidden(
    channel: Channel, option: str
) -> None:
    for script in (wire.answering(response(channel.status, channel.body)), echo(500)):
        with Wire(script) as server:
            url = server.url(channel.path)
            result = attempt(notifier(channel, url, **{option: f"{channel.options(url)[option]}\n"}))
        assert result.status == (500 if isinstance(result, DeliveryError) else channel.status)
        assert channel.secret.lower() not in str(result).lower()
    assert isinstance(result, DeliveryError)


@every_channel
def test_a_failure_without_an_answer(channel: Channel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cases = [
        notifier(channel, f"https://nowhere.example{channel.path}", resolver=Names()),
        notifier(channel, f"http://127.0.0.1:1{channel.path}"),
        notifier(channel, f"https://host:99999{channel.path}"),
    ]
    with Wire(wire.garbage) as server:
        errors = [attempt(made) for made in [*cases, notifier(channel, server.url(channel.path))]]
    for error in errors:
        assert isinstance(error, DeliveryError)
        assert channel.secret.lower() not in (str(error) + repr(error) + caplog.text).lower()


def test_a_recipient_is_quoted_without_its_token() -> None:
    with Wire(echo(500)) as server:
        url = server.url(f"/x/{TOKEN}?key=q1w2e3r4").replace("//", "//user:pa55word@")
        error = attempt(notifier(WEBHOOK, ""), a_message(recipient=url))
    assert "HTTP 500" in str(error)
    for secret in (TOKEN, "q1w2e3r4", "pa55word"):
        assert secret not in str(error)


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("https://h.example/hooks/services", "the hook has no services", "the hook has no [redacted]"),
        ("https://h.example/hooks/T01/x9y8z7w6", "no hooks for x9y8z7w6!", "no hooks for [redacted]!"),
        ("https://h.example/", "/ is not here", "/ is not here"),
        ("https://h.example/a?sig=Ab%2Bc4d", "sig Ab+c4d", "sig [redacted]"),
        ("https://h.example:99999/tok3ntok3n", "https://h.example:99999/tok3ntok3n", "[redacted]"),
    ],
)
def test_what_of_a_url_is_hidden(url: str, said: str, shown: str) -> None:
    assert redact(said, secrets_of_url(url)) == shown


def test_what_of_the_options_is_hidden() -> None:
    options = {
        "API_KEY": "abc-key",
        "PASSWORD": "p4ss",
        "SECRETS": ["whsec_c2VjcmV0"],
        "CHANNEL": "#pki",
        "N": 1,
    }
    said = "abc-key P4SS whsec_c2VjcmV0 c2VjcmV0 #pki 1"
    hidden = redact(said, secrets_of(options))
    assert hidden == "[redacted] [redacted] [redacted] [redacted] #pki 1"


def test_long_answers_are_cut_where_it_shows() -> None:
    answer = Answer(500, {}, b"word " * 20_000)
    assert len(answer.quoted()) < 700
    assert answer.quoted().endswith("…[cut]")


def test_an_error_is_at_most_2000_characters() -> None:
    error = PermanentError("t" * 9_000, advice="a" * 9_000)
    assert len(str(error)) <= 2_000
    assert str(error).count("…[cut]") == 2


def test_control_characters_do_not_reach_a_terminal() -> None:
    with Wire(wire.answering(response(400, b"a\x1b[31mred\x00\x07\xff\n\nb"))) as server:
        error = attempt(notifier(WEBHOOK, server.url()))
    assert str(error).isprintable()
    assert "a\N{REPLACEMENT CHARACTER}[31mred" in str(error)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_permanent_error_tells_what_to_do(reason: Reason) -> None:
    assert PermanentError("x", reason=reason).advice
    assert TransientError("x", reason=reason).endpoint_effect


def test_the_body_of_a_request_stays_out_of_errors() -> None:
    body = json.dumps({"routing": "x"})
    assert body not in str(attempt(notifier(WEBHOOK, "https://nowhere.example", resolver=Names())))
