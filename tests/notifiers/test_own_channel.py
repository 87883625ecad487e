"""A site's own channel is one class and one settings entry, as docs/channels.md shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications.notifiers.base import Delivered, JsonNotifier, Message, Notifier, load
from notifications.notifiers.http.client import HttpClient
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
    assert ntfy.faults({}) == ["TOKEN is missing", "URL is missing"]


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
