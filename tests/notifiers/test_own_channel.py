"""A site's own channel is one class and one settings entry, as docs/channels.md shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured

from notifications.checks import check_channels
from notifications.notifiers.base import Delivered, JsonNotifier, Message, Notifier
from notifications.notifiers.http.client import HttpClient
from notifications.notifiers.loading import load, preview_of, secrets_of
from notifications.notifiers.options import TEXT, URL, Option, choice
from notifications.text import redact
from tests.notifiers.support import TOKEN, a_message, attempt
from tests.notifiers.table import CONFIG, RATE_LIMITED, SENT, Verdict
from tests.receiver import Answer, HttpReceiver

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "channels.md"


def documented() -> dict[str, Any]:
    """The classes in the document's Python examples."""
    space: dict[str, Any] = {}
    text = DOCUMENT.read_text()
    for block in text.split("```python\n")[1:]:
        code = block.split("```")[0]
        if "class " in code:
            exec(code, space)
    return space


@pytest.fixture
def ntfy(monkeypatch: pytest.MonkeyPatch) -> type[JsonNotifier]:
    found: type[JsonNotifier] = documented()["NtfyNotifier"]
    monkeypatch.setattr(f"{__name__}.Ntfy", found, raising=False)
    return found


def test_the_documented_channel(ntfy: type[JsonNotifier], receiver: HttpReceiver) -> None:
    options = {"NOTIFIER": f"{__name__}.Ntfy", "URL": receiver.url("/"), "TOKEN": TOKEN}
    made = load("Ntfy", options, 5)
    assert made.endpoint(a_message()).key == "ntfy"
    assert Verdict.of(attempt(made)) == SENT
    [request] = receiver.requests
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.json["topic"] == a_message().recipient
    assert a_message().message in request.json["message"]
    assert request.json["click"] == a_message().url


def test_it_has_all_that_the_others_have(ntfy: type[JsonNotifier], receiver: HttpReceiver) -> None:
    options = {"NOTIFIER": f"{__name__}.Ntfy", "URL": receiver.url("/"), "TOKEN": TOKEN}
    receiver.script(Answer(429, body=f"slow down, {TOKEN}", headers={"Retry-After": "9"}))
    error = attempt(load("Ntfy", options, 5))
    assert Verdict.of(error) == RATE_LIMITED
    assert TOKEN not in str(error)
    assert Verdict.of(attempt(load("Ntfy", {**options, "TOKEN": ""}, 5))) == CONFIG
    assert ntfy.faults({}) == ["URL is missing", "TOKEN is missing"]


class Pager(JsonNotifier):
    """A subclass of a site's, in a few lines; all that the shipped ones have comes with it."""

    declared_options = (
        Option("URL", "of the gateway", URL, required=True),
        Option("PIN", "of the account", TEXT, required=True, secret=True),
        Option("TONE", "that it makes", choice("low", "high"), default="low"),
    )

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        return [Warning("the gateway closes in June", hint="Move.", id="site.W001")]

    def url(self, message: Message) -> str:
        return self.option("URL")

    def payload(self, message: Message) -> bytes:
        content = {"pin": self.option("PIN"), "tone": self.option("TONE"), "text": self.body(message)}
        return json.dumps(content).encode()


PAGER = {"NOTIFIER": f"{__name__}.Pager", "URL": "https://pager.example/", "PIN": 'fo"ur-digits'}


def checked(settings: Any, **options: Any) -> list[str]:
    settings.NOTIFICATIONS = {"CHANNELS": {"Pager": {**PAGER, **options}}}
    return [f"{message.id}: {message.msg.partition(': ')[2]}" for message in check_channels()]


def test_its_findings_come_from_its_declarations(settings: Any) -> None:
    warned = "site.W001: the gateway closes in June"
    assert checked(settings) == [warned]
    assert checked(settings, URL="pager", PIN="", TONE="shrill", VOLUME=11) == [
        "notifications.E002: there is no option 'VOLUME'; the options are ENDPOINT_CONCURRENCY, HEADERS, "
        "MAX_PER_SECOND, NOTIFIER, PIN, PREFIX, PROXY, SEVERITY, TEMPLATES, TLS_CA, TLS_CERT, TLS_KEY, TONE, "
        "URL",
        "notifications.E002: URL must be an http or https URL",
        "notifications.E002: PIN is missing",
        "notifications.E002: TONE must be one of low, high, not 'shrill'",
        warned,
    ]


def test_its_preview_is_what_it_would_send_without_its_secret() -> None:
    shown = preview_of(load("Pager", PAGER, 5), a_message())
    assert json.loads(shown)["tone"] == "low"
    assert a_message().message in json.loads(shown)["text"]
    assert json.loads(shown)["pin"] == "[redacted]"


def test_what_it_declares_secret_is_in_no_error_either(receiver: HttpReceiver) -> None:
    receiver.script(Answer(500, body='the PIN fo"ur-digits is wrong'))
    error = attempt(load("Pager", {**PAGER, "URL": receiver.url("/")}, 5))
    assert "the PIN [redacted] is wrong" in str(error)
    assert redact('said fo"ur-digits', secrets_of(PAGER)) == "said [redacted]"


def test_a_long_message_is_cut_before_it_comes_to_its_payload() -> None:
    class Short(Pager):
        message_limit = 100

        def payload(self, message: Message) -> bytes:
            assert len(message.message) == 100
            return super().payload(message)

    preview_of(Short(PAGER, HttpClient(timeout=5)), a_message(message="x" * 5_000_000))


class Plain(Notifier):
    """Declares nothing, and speaks no JSON."""


def test_a_notifier_of_any_kind_has_a_preview() -> None:
    made = load("Plain", {"NOTIFIER": f"{__name__}.Plain", "API_TOKEN": TOKEN}, 5)
    shown = preview_of(made, a_message(message=f"it expires; {TOKEN}"))
    assert "mc-api-prod: it expires; [redacted]" in shown


class Old(Plain):
    """As notifiers were written before options were declared."""

    known = required = frozenset({"FOLDER"})


def test_the_old_way_goes_on_delivering_and_check_names_the_new_one(settings: Any) -> None:
    settings.NOTIFICATIONS = {"CHANNELS": {"Old": {"NOTIFIER": f"{__name__}.Old", "FOLDER": "/spool"}}}
    [found] = check_channels()
    assert found.id == "notifications.W006"
    assert "declared_options" in str(found.hint)
    assert load("Old", {"NOTIFIER": f"{__name__}.Old", "FOLDER": "/spool"}, 5).option("FOLDER") == "/spool"


def test_the_documented_blocking_channel(tmp_path: Path) -> None:
    kind = documented()["SpoolNotifier"]
    made = kind({"FOLDER": str(tmp_path)}, HttpClient(timeout=5))
    assert Verdict.of(attempt(made)) == SENT
    assert a_message().message in (tmp_path / "n-1").read_text()


class Silent(Notifier):
    async def send(self, message: Message) -> Delivered:
        return Delivered()


@pytest.mark.parametrize(
    "options",
    [
        {"NOTIFIER": "no.such.Notifier"},
        {"NOTIFIER": f"{__name__}.Missing"},
        {"NOTIFIER": f"{__name__}.Silent", "MAX_PER_SECOND": -1},
        {"NOTIFIER": f"{__name__}.Silent", "ENDPOINT_CONCURRENCY": 0},
        {"NOTIFIER": f"{__name__}.Silent", "ALLOWED_NETWORKS": ["x"]},
    ],
)
def test_what_cannot_be_loaded_names_its_channel(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^channel Mine: "):
        load("Mine", options, 5)


def test_the_defaults() -> None:
    made = load("Mine", {"NOTIFIER": f"{__name__}.Silent"}, 30)
    assert (made.name, made.max_per_second, made.endpoint_concurrency) == ("Mine", None, None)
    assert made.endpoint(a_message()).channel == "Mine"
    assert made.http.timeout < 30
    assert Verdict.of(attempt(made)) == SENT
