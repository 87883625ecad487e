"""What each channel sends: valid by the provider's documentation, within its limits, nothing left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from notifications.exceptions import CUT_MARK
from notifications.notifiers.base import Delivered, Message
from notifications.text import MESSAGE_LIMIT
from tests.notifiers import wire
from tests.notifiers.schemas import SCHEMAS
from tests.notifiers.support import (
    API_KEY,
    HTTP_CHANNELS,
    OPSGENIE,
    PAGERDUTY,
    ROUTING_KEY,
    SLACK,
    TEAMS,
    WEBHOOK,
    Channel,
    a_message,
    attempt,
    notifier,
)
from tests.notifiers.wire import Wire, response

every_channel = pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)


def sent(channel: Channel, message: Message, **options: Any) -> tuple[str, bytes]:
    """The head and the body of the request that the message becomes; the body is valid."""
    got: list[tuple[str, bytes]] = []

    async def script(reader: Any, writer: Any) -> None:
        got.append(await wire.request(reader))
        writer.write(response(channel.status, channel.body))

    with Wire(script) as server:
        result = attempt(notifier(channel, server.url(channel.path), **options), message)
    assert isinstance(result, Delivered), result
    [(head, body)] = got
    jsonschema.validate(json.loads(body), SCHEMAS[channel.name])
    assert "content-type: application/json" in head.lower()
    return head, body


def words(body: bytes) -> str:
    """All the text in a payload, escapes undone."""

    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [s for item in value.values() for s in strings(item)]
        if isinstance(value, list):
            return [s for item in value for s in strings(item)]
        return [value] if isinstance(value, str) else []

    return "\n".join(strings(json.loads(body)))


@every_channel
def test_everything_is_said(channel: Channel) -> None:
    message = a_message(message="<b>*.example.com & co</b> \N{KEY} läuft ab")
    text = words(sent(channel, message)[1]).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    for part in (message.message, label(channel), message.certificate_id, message.url):
        assert part in text


def label(channel: Channel) -> str:
    """How the message's type is said."""
    return "ExpirationWarning" if channel is WEBHOOK else "Expiry warning"


@every_channel
@pytest.mark.parametrize("letter", ["x", "\N{GRINNING FACE}", "<", '"', "a\n"])
def test_of_a_message_that_is_too_long_everything_else_is_still_said(channel: Channel, letter: str) -> None:
    message = a_message(message="It begins" + letter * 600_000)
    text = words(sent(channel, message)[1])
    for part in ("It begins", CUT_MARK, label(channel), message.certificate_id, message.url):
        assert part in text


@pytest.mark.parametrize("length", [10, 600_000])
def test_slack_s_fallback_says_everything_by_itself(length: int) -> None:
    """It is what notifications on a phone and readers of the screen get, without the blocks."""
    message = a_message(message="It begins" + "&" * length)
    text = json.loads(sent(SLACK, message)[1])["text"]
    for part in ("It begins", "Expiry warning", message.certificate_id, message.url):
        assert part in text
    assert (CUT_MARK in text) == (length > 10)


@every_channel
@pytest.mark.parametrize(
    "changes",
    [
        {"certificate_id": None, "url": ""},
        {"type": "", "message": "", "recipient": ""},
        {"type": "expiration_warning"},
        {"message": "line one\nline two\r\n\r\nline four\ttab\x07bell"},
        {"message": "\N{GRINNING FACE}" * 60_000},
        {"message": "<&>" * 60_000},
        {"message": '"\\' * 60_000},
        {"message": "x" * 600_000},
        {"message": "\n" * 60_000 + "end"},
        {"message": "a\n" * 60_000},
        {"type": "T" * 255, "recipient": "r" * 255, "certificate_id": "c" * 60_000},
        {"certificate_id": "\N{GRINNING FACE}" * 30_000},
        {"id": "i" * 3_000},
        {"id": "a.b c\r\nX-Injected: yes"},
        {"url": "https://host.example/" + "p" * 5_000},
        {"message": "half of a pair: \ud83d"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_valid_whatever_the_row_holds(channel: Channel, changes: dict[str, Any]) -> None:
    head, _ = sent(channel, a_message(**changes))
    assert "x-injected" not in head.lower()


@pytest.mark.parametrize(
    ("channel", "most", "size"),
    [
        (TEAMS, 28_000, lambda body: len(body.decode().encode("utf-16-le"))),
        (PAGERDUTY, 512_000, len),
        (WEBHOOK, 20_000, len),
    ],
    ids=["Teams", "PagerDuty", "Webhook"],
)
@pytest.mark.parametrize("letter", ["x", "ä", "\N{GRINNING FACE}", '"', "\x01", "\n"])
def test_the_whole_is_within_its_limit_and_not_far_below(
    channel: Channel, most: int, size: Callable[[bytes], int], letter: str
) -> None:
    body = sent(channel, a_message(message="start" + letter * 600_000 + "end"))[1]
    assert size(body) <= most
    assert letter == "\n" or size(body) > min(most, MESSAGE_LIMIT) * 0.95
    assert letter == "\n" or CUT_MARK in words(body)


@pytest.mark.parametrize(
    ("channel", "most", "field"),
    [
        (SLACK, 3_000, lambda data: data["blocks"][1]["text"]["text"]),
        (SLACK, 150, lambda data: data["blocks"][0]["text"]["text"]),
        (PAGERDUTY, 1_024, lambda data: data["payload"]["summary"]),
        (OPSGENIE, 130, lambda data: data["message"]),
        (OPSGENIE, 15_000, lambda data: data["description"]),
    ],
)
def test_a_field_that_is_cut_shows_it(
    channel: Channel, most: int, field: Callable[[Any], str], tmp_path: Path, settings: Any
) -> None:
    message = a_message(message="\N{GRINNING FACE}" * 50_000, certificate_id="c" * 50_000)
    shown = field(json.loads(sent(channel, message)[1]))
    assert len(shown) == most
    assert CUT_MARK in shown


def test_a_message_that_just_fits_is_not_cut() -> None:
    def body(length: int) -> bytes:
        return sent(WEBHOOK, a_message(message="x" * length))[1]

    room = 20_000 - len(body(0))
    assert len(body(room)) == 20_000
    assert CUT_MARK not in words(body(room))
    assert CUT_MARK in words(body(room + 1))


def test_slack_mentions_nobody_and_says_where() -> None:
    data = json.loads(
        sent(SLACK, a_message(message="<!channel> <@U1> & <https://evil.example|bank>"), CHANNEL="#pki")[1]
    )
    assert "<!" not in data["text"]
    assert "&lt;!channel&gt; &lt;@U1&gt; &amp;" in data["text"]
    assert {block["text"]["type"] for block in data["blocks"][:2]} == {"plain_text"}
    assert data["channel"] == "#pki"
    assert "username" not in data


def test_slack_takes_one_message_a_second() -> None:
    assert notifier(SLACK, "https://host.example").max_per_second == 1.0
    assert notifier(SLACK, "https://host.example", MAX_PER_SECOND=None).max_per_second is None
    assert notifier(TEAMS, "https://host.example", ENDPOINT_CONCURRENCY=3).endpoint_concurrency == 3


def test_pagerduty_names_the_alert() -> None:
    event = json.loads(sent(PAGERDUTY, a_message(), SEVERITY="critical")[1])
    assert event["routing_key"] == ROUTING_KEY
    assert event["dedup_key"] == "n-1"
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["summary"] == "*.example.com expires in 7 days (30 Nov)"
    assert {event["payload"][name] for name in ("group", "component", "source")} == {"mc-api-prod"}
    assert event["links"][0]["href"] == a_message().url


def test_opsgenie_names_the_alert() -> None:
    head, body = sent(OPSGENIE, a_message(), PRIORITY="P1")
    assert f"Authorization: GenieKey {API_KEY}" in head
    alert = json.loads(body)
    assert (alert["alias"], alert["priority"], alert["entity"]) == ("n-1", "P1", "mc-api-prod")


@pytest.mark.parametrize(
    ("channel", "path"), [(PAGERDUTY, "/v2/enqueue"), (OPSGENIE, "/v2/alerts")], ids=["PagerDuty", "OpsGenie"]
)
@pytest.mark.parametrize("suffix", ["", "/", "/jsm/ops/integration", "whole"])
def test_a_base_url_may_be_any_region_or_successor(channel: Channel, path: str, suffix: str) -> None:
    base = path if suffix == "whole" else suffix
    wanted = path if suffix == "whole" else suffix.rstrip("/") + path

    async def script(reader: Any, writer: Any) -> None:
        head, _ = await wire.request(reader)
        writer.write(
            response(channel.status if head.startswith(f"POST {wanted} HTTP") else 404, channel.body)
        )

    with Wire(script) as server:
        assert isinstance(attempt(notifier(channel, server.url(base))), Delivered)


def test_the_same_id_on_every_attempt() -> None:
    for channel in HTTP_CHANNELS:
        heads = [sent(channel, a_message(attempt=number))[0] for number in (1, 2)]
        keys = [line for head in heads for line in head.split("\r\n") if line.startswith("Idempotency-Key:")]
        assert keys == ["Idempotency-Key: n-1"] * 2


def test_a_site_writes_its_own_words(tmp_path: Path, settings: Any) -> None:
    for channel in ("slack", "teams", "pagerduty", "opsgenie"):
        folder = tmp_path / "notifications" / channel
        folder.mkdir(parents=True)
        (folder / "subject.txt").write_text("Achtung: {{ message.certificate_id }}")
        (folder / "body.txt").write_text("{% autoescape off %}{{ message.message|upper }}{% endautoescape %}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path, *settings.TEMPLATES[0]["DIRS"]]}]
    for channel in (SLACK, TEAMS, PAGERDUTY, OPSGENIE):
        text = words(sent(channel, a_message())[1])
        assert "Achtung: mc-api-prod" in text
        assert "*.EXAMPLE.COM EXPIRES IN 7 DAYS" in text


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\N{NO-BREAK SPACE}"])
def test_pagerduty_is_never_given_a_blank_source(blank: str) -> None:
    _, body = sent(PAGERDUTY, a_message(certificate_id=blank))
    assert json.loads(body)["payload"]["source"] == "certctl"
