"""Microsoft Teams, through a Workflows webhook that posts an Adaptive Card.

From learn.microsoft.com, "Create incoming webhooks with Workflows for Microsoft Teams" and the Adaptive
Card schema 1.4. Success is any 2xx, usually 202 without a body, unless the body speaks of an HTTP error.
A message holds about 28 KB, which Teams counts in UTF-16: 14,000 ASCII characters are the most that
users have seen pass. The text is in TextRuns, which have no Markdown: `*.example.com` keeps its star.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ..exceptions import Reason
from ..text import cut, dump, utf16
from .base import Delivered, JsonNotifier, Message, url_faults
from .http.answers import Says, raise_for, unexpected
from .http.client import Answer

MESSAGE_LIMIT = 28_000
SUBJECT_LIMIT = 500
INNER_ERROR = re.compile(r"HTTP error(?:\D{1,10}(\d{3}))?", re.IGNORECASE)
OWNER = "a flow stops when its owner leaves: check in Power Automate that it exists, is on and has an owner"
SAYS = (
    Says(
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
    """Options: URL, of a flow "When a Teams webhook request is received"."""

    known = frozenset({"URL"})
    required = frozenset({"URL"})
    templates = "teams"
    option_faults = staticmethod(url_faults)

    def url(self, message: Message) -> str:
        return self.option("URL")

    def payload(self, message: Message) -> bytes:
        subject = cut(self.subject(message), SUBJECT_LIMIT)

        def build(body: str) -> dict[str, Any]:
            return card(subject, body, message.url)

        def size(body: str) -> int:
            return utf16(dump(build(body)).decode())

        return dump(build(self.shortened(self.body(message), message, MESSAGE_LIMIT, size)))

    def judge(self, answer: Answer) -> Delivered:
        inner = INNER_ERROR.search(answer.text) if 200 <= answer.status < 300 else None
        if inner and inner[1]:
            raise_for(replace(answer, status=int(inner[1])), success=(), says=SAYS, advice=ADVICE)
        if inner:
            raise unexpected(answer, "no error in the body")
        raise_for(answer, says=SAYS, advice=ADVICE)
        return Delivered(answer.status, answer.quoted())


def card(subject: str, body: str, url: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": subject,
        "body": [
            line(subject, weight="Bolder", size="Medium"),
            *(line(text) for text in body.splitlines() if text.strip()),
        ],
        "msteams": {"width": "full"},
    }
    if url:
        content["actions"] = [{"type": "Action.OpenUrl", "title": "Open the notification", "url": url}]
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": content,
    }
    return {"type": "message", "attachments": [attachment]}


def line(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}
