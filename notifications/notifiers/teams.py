"""Microsoft Teams, through a Workflows webhook that posts an Adaptive Card.

From learn.microsoft.com, "Create incoming webhooks with Workflows for Microsoft Teams" and the Adaptive
Card schema 1.4. Success is any 2xx, usually 202 without a body, unless the body speaks of an HTTP error.
A message holds about 28 KB, which Teams counts in UTF-16: 14,000 ASCII characters are the most that
users have seen pass, and the block that each line becomes takes 130 bytes. The text is in TextRuns,
which have no Markdown: `*.example.com` keeps its star. A FactSet reads Markdown, and its escapes differ
from one Teams to the next (MicrosoftDocs/msteams-docs, issue 5793): a fact with such a character is a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.core.checks import CheckMessage, Warning

from ..exceptions import CUT_MARK, Reason
from ..text import cut, largest, to_json, utf16
from .base import Delivered, JsonNotifier, Message
from .http.answers import PERMANENT, KnownRefusal, raise_for, raise_for_body, refusal, unexpected
from .http.client import Answer
from .options import URL, Option, http_options, is_within, words_options
from .wording import ICONS, Severity, Words

CARD_LIMIT, SUBJECT_LIMIT, LINES_LIMIT = 28_000, 500, 210
RETIRED = ("webhook.office.com", "outlook.office.com", "outlook.office365.com")
INNER_ERROR = re.compile(r"HTTP error(?:\D{1,10}(\d{3}))?", re.IGNORECASE)
OWNER = "a flow stops when its owner leaves: check in Power Automate that it exists, is on and has an owner"
MARKDOWN = re.compile(r"[\\*_`~#<>\[\]|&]|://|^\s*(?:[-+]|\d+[.)])\s")
STYLES = {
    Severity.CRITICAL: "attention",
    Severity.ERROR: "attention",
    Severity.WARNING: "warning",
    Severity.INFO: "good",
}
REFUSALS = (
    KnownRefusal(
        r"WorkflowNotFound|WorkflowTriggerNotFound|WorkflowTriggerIsNotEnabled|WorkflowDisabled",
        Reason.GONE,
        f"{OWNER}, or set a new URL; then requeue",
    ),
)
ADVICE = {
    Reason.AUTH: f"the URL is its own key, so copy it again, whole; {OWNER}; then requeue",
    Reason.GONE: f"{OWNER}, or set a new URL; then requeue",
    Reason.OTHER: OWNER,
}


class TeamsNotifier(JsonNotifier):
    declared_options = (
        Option(
            "URL",
            'of a workflow "When a Teams webhook request is received"',
            URL,
            required=True,
            secret=True,
            env="CERTCTL_TEAMS_WEBHOOK_URL",
        ),
        *words_options("CERTCTL_TEAMS"),
        *http_options("CERTCTL_TEAMS"),
    )
    templates = "teams"
    looks = "card"
    message_limit = CARD_LIMIT // 2

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        if not is_within(options.get("URL"), *RETIRED):
            return []
        hint = "In Teams add the workflow 'When a Teams webhook request is received' and set its URL."
        text = "URL is an Office 365 connector, which Microsoft retired"
        return [Warning(text, hint=hint, id="notifications.W001")]

    def bounded(self, message: Message) -> Message:
        """No more lines than a card could hold."""
        message = super().bounded(message)
        lines = [line for line in message.message.splitlines() if line.strip()]
        if len(lines) <= LINES_LIMIT:
            return message
        return message._replace(message="\n".join(lines[:LINES_LIMIT]) + CUT_MARK)

    def url(self, message: Message) -> str:
        return self.option("URL")

    def payload(self, message: Message) -> bytes:
        words = self.words(message)

        def build(text: str) -> dict[str, Any]:
            return card(words, text)

        def size(text: str) -> int:
            return utf16(to_json(build(text)).decode())

        text = self.below(words, SUBJECT_LIMIT - 2, message, CARD_LIMIT)
        if size(text) > CARD_LIMIT:
            most = largest(len(text), lambda count: size(text[:count] + CUT_MARK) <= CARD_LIMIT)
            text = text[:most] + CUT_MARK
        return to_json(build(text))

    def judge(self, answer: Answer) -> Delivered:
        inner = INNER_ERROR.search(answer.text) if 200 <= answer.status < 300 else None
        if inner and inner[1]:
            raise refusal(replace(answer, status=int(inner[1])), PERMANENT, REFUSALS, ADVICE)
        if inner:
            raise unexpected(answer, "no error in the body")
        raise_for(answer, known=REFUSALS, advice=ADVICE)
        raise_for_body(answer)
        return Delivered(answer.status, answer.quoted())


def card(words: Words, text: str) -> dict[str, Any]:
    headline = cut(f"{ICONS[words.severity]} {words.headline}", SUBJECT_LIMIT)
    title = [line(headline, weight="Bolder", size="Medium"), line(words.label, isSubtle=True)]
    content: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": headline,
        "body": [
            {"type": "Container", "style": STYLES[words.severity], "bleed": True, "items": title},
            *(line(part) for part in text.splitlines() if part.strip()),
            *facts(words),
        ],
        "msteams": {"width": "full"},
    }
    if words.link:
        content["actions"] = [{"type": "Action.OpenUrl", "title": "Open the notification", "url": words.link}]
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": content,
    }
    return {"type": "message", "attachments": [attachment]}


def facts(words: Words) -> list[dict[str, Any]]:
    plain = [fact for fact in words.facts if not MARKDOWN.search(fact.value)]
    lines = [line(f"{label}: {value}") for label, value in words.facts if MARKDOWN.search(value)]
    table = {"type": "FactSet", "facts": [{"title": label, "value": value} for label, value in plain]}
    return [*lines, *([table] if plain else [])]


def line(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}
