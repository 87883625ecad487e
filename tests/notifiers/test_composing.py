"""However long and odd a row is, composing reads no more of it than its provider could take.

Counted is work, not time: the characters that the wording and the JSON writer hand out for one message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications import text
from notifications.exceptions import CUT_MARK
from notifications.notifiers import wording
from notifications.notifiers.base import JsonNotifier, Message, Notifier
from notifications.notifiers.email import EmailNotifier
from notifications.notifiers.loading import load
from notifications.text import MESSAGE_LIMIT, cut, fitted, json_size, largest, utf8, utf16
from tests.notifiers.support import HTTP_CHANNELS, a_message, email_notifier, notifier

LONG = 4 * 1024 * 1024
SHAPES = [
    "x",
    "\n",
    "a\n",
    "\r\n",
    " ",
    "\x00",
    "\x1b",
    "<",
    "&",
    '"',
    "\\",
    "ä",
    "\N{GRINNING FACE}",
    "\ud83d",
]
# Of the most that a provider takes: for the last cut of a field the whole is written some fifteen times.
MOST_WORK = 40
LIMITS = {
    "Slack": 40_000,
    "Teams": 28_000,
    "PagerDuty": 512_000,
    "OpsGenie": 15_000,
    "Webhook": 20_000,
    "Email": 1_000_000,
}


class Work:
    """Counts what is composed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        written = SimpleNamespace(dumps=self.counted(orjson.dumps))
        monkeypatch.setattr(text, "orjson", written)
        monkeypatch.setattr(text, "json", SimpleNamespace(dumps=self.counted(json.dumps)))
        monkeypatch.setattr(wording, "clean", self.counted(wording.clean))

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            found = function(*args, **kwargs)
            self.done += len(found)
            return found

        return counting


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def compose(made: Notifier, message: Message) -> int:
    """The size of what would be sent."""
    if isinstance(made, EmailNotifier):
        return len(made.compose(message).body)
    assert isinstance(made, JsonNotifier)
    return len(made.payload(made.bounded(message)))


def every_notifier() -> list[Notifier]:
    return [*(notifier(channel, "https://host.example") for channel in HTTP_CHANNELS), email_notifier()]


@pytest.mark.parametrize("made", every_notifier(), ids=lambda made: made.name)
@pytest.mark.parametrize("shape", SHAPES, ids=ascii)
def test_four_megabytes_cost_no_more_than_the_provider_takes(made: Notifier, shape: str, work: Work) -> None:
    message = a_message(message=shape * (LONG // len(shape)), recipient="pki@example.com")
    with time_machine.travel(message.created_at + timedelta(days=2), tick=False):  # its age is a text, too
        compose(made, a_message(recipient="pki@example.com"))  # what is kept for all messages is written once
        work.done = 0
        compose(made, message)
        assert work.done < MOST_WORK * LIMITS[made.name]
        often, work.done = work.done, 0
        compose(made, message._replace(message=shape * (2 * LONG // len(shape))))
    assert work.done == often  # twice as long a message is no more work


@pytest.mark.parametrize("made", every_notifier(), ids=lambda made: made.name)
@pytest.mark.parametrize("shape", SHAPES, ids=ascii)
@pytest.mark.parametrize("field", ["id", "type", "certificate_id", "url"])
def test_nor_does_any_other_column(made: Notifier, shape: str, field: str, work: Work) -> None:
    message = a_message(recipient="pki@example.com", message="m" * LONG)
    assert compose(made, message._replace(**{field: shape * LONG})) < LIMITS[made.name] * 2
    assert work.done < MOST_WORK * LIMITS[made.name]


def test_what_is_longer_than_any_message_is_cut_for_a_notifier_that_sets_no_limit() -> None:
    made = load("Plain", {"NOTIFIER": "notifications.notifiers.base.Notifier"}, 5)
    body = made.body(a_message(message="x" * LONG))
    assert MESSAGE_LIMIT - 1_000 < len(body) < MESSAGE_LIMIT + 1_000
    assert CUT_MARK in body


TEXTS = st.text(st.characters(), max_size=300) | st.text('"\\\n\x00ä\N{GRINNING FACE}', max_size=300)


@settings(deadline=None)
@given(TEXTS, st.integers(10, 200), st.sampled_from([len, utf8, utf16, json_size]))
def test_what_is_cut_is_as_long_as_can_be(whole: str, limit: int, size: Callable[[str], int]) -> None:
    limit = max(limit, size(CUT_MARK))
    shown = cut(whole, limit, size)
    assert size(shown) <= limit
    if shown != whole:
        kept = shown.removesuffix(CUT_MARK)
        assert whole.startswith(kept)
        assert size(whole[: len(kept) + 1] + CUT_MARK) > limit


@settings(deadline=None)
@given(TEXTS, st.integers(60, 400))
def test_json_is_fitted_to_the_byte(whole: str, limit: int) -> None:
    body = fitted(lambda shown: {"name": "ä", "text": shown}, whole, limit)
    assert len(body) <= limit
    shown = json.loads(body)["text"]
    if CUT_MARK in shown and CUT_MARK not in whole:
        longer = whole[: len(shown.removesuffix(CUT_MARK)) + 1] + CUT_MARK
        assert len(text.to_json({"name": "ä", "text": longer})) > limit or len(longer) > limit


@given(st.integers(0, 1_000), st.integers(-1, 1_100))
def test_the_most_that_fits(limit: int, last: int) -> None:
    assert largest(limit, lambda number: number <= last) == max(0, min(limit, last))
