"""Slack incoming webhooks.

From docs.slack.dev, "Sending messages using incoming webhooks", "Rate limits" and the Block Kit
reference: success is 200 with the body `ok` (servers that take the
same post answer other 2xx: `{"success":true}`); the words of the errors below; one message a second per
webhook; a header holds 150 characters, a section 3,000, one of its ten fields 2,000, the text 40,000; `&`,
`<` and `>` are escaped in mrkdwn and nowhere else, so that what others wrote mentions nobody. Only an
attachment has a colour ("secondary content": the facts). A button would ask the app's own server, which a
webhook has none of, so there is a link.

The webhook decides where a message goes. CHANNEL and USERNAME override it only for legacy webhooks.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import Reason
from ..text import cut, to_json
from .base import Delivered, JsonNotifier, Message
from .http.answers import KnownRefusal, raise_for, raise_for_body, unexpected
from .http.client import Answer
from .options import TEXT, URL, Option, combine_after, http_options, words_options
from .wording import COLORS, ICONS, Words

HEADER_LIMIT, SECTION_LIMIT, FIELD_LIMIT, TEXT_LIMIT = 150, 3_000, 2_000, 40_000
REFUSALS = (
    KnownRefusal(
        r"^(no_service|no_service_id|no_active_hooks|no_team|team_disabled)$",
        Reason.GONE,
        "this Slack webhook was revoked; set a new URL, then requeue",
    ),
    KnownRefusal(
        r"^(channel_is_archived|channel_not_found)$",
        Reason.GONE,
        "the Slack channel is gone; choose another one for the webhook, then requeue",
    ),
    KnownRefusal(
        r"^(action_prohibited|invalid_token|posting_to_general_channel_denied)$",
        Reason.AUTH,
        "Slack does not let this webhook post there; ask a workspace administrator, then requeue",
    ),
)


class SlackNotifier(JsonNotifier):
    declared_options = (
        Option(
            "URL", "of the incoming webhook", URL, required=True, secret=True, env="CERTCTL_SLACK_WEBHOOK_URL"
        ),
        Option("CHANNEL", "for a legacy webhook only", TEXT, env="CERTCTL_SLACK_CHANNEL"),
        Option("USERNAME", "for a legacy webhook only", TEXT, env="CERTCTL_SLACK_USERNAME"),
        combine_after("CERTCTL_SLACK_COMBINE_AFTER"),
        *words_options("CERTCTL_SLACK"),
        *http_options("CERTCTL_SLACK"),
    )
    templates = "slack"
    looks = "chat"
    message_limit = TEXT_LIMIT
    default_max_per_second = 1.0
    combines = True

    def url(self, message: Message) -> str:
        return self.option("URL")

    def payload(self, message: Message) -> bytes:
        words = self.words(message)
        headline = f"{ICONS[words.severity]} {words.headline}"
        blocks: list[dict[str, Any]] = [{"type": "header", "text": plain(cut(headline, HEADER_LIMIT))}]
        if section := self.below(words, HEADER_LIMIT - 2, message, SECTION_LIMIT).strip():
            blocks.append({"type": "section", "text": plain(section)})
        overrides = {name.lower(): self.options.get(name) for name in ("CHANNEL", "USERNAME")}
        content = {
            "text": self._alone(headline, words, message),
            "blocks": blocks,
            "attachments": [{"color": COLORS[words.severity], "blocks": details(words)}],
            **{k: v for k, v in overrides.items() if v},
        }
        return to_json(content)

    def _alone(self, headline: str, words: Words, message: Message) -> str:
        """What phones, readers of the screen and other servers than Slack's show: the first line first."""
        room = TEXT_LIMIT - len(escape(headline)) - 1
        body = words.body()
        if words.detail != words.text:
            body = body[len(words.text) - len(words.detail) :].lstrip()
        if len(escape(body)) > room:
            body = self.shortened(words.body(), message, room, lambda text: len(escape(text)))
        return escape(headline) + "\n" + escape(body)

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, known=REFUSALS)
        if not answer.complete:
            raise unexpected(answer, "ok")
        raise_for_body(answer, REFUSALS)
        return Delivered(answer.status, answer.quoted())


def details(words: Words) -> list[dict[str, Any]]:
    """The facts in two columns, what kind of alert it is, and the link."""
    fields = [
        cell
        for label, value in words.facts
        for cell in ({"type": "mrkdwn", "text": f"*{label}*"}, plain(cut(value, FIELD_LIMIT)))
    ]
    context: list[dict[str, Any]] = [plain(words.label)]
    if words.link:
        context.append({"type": "mrkdwn", "text": f"<{escape(words.link)}|Open the notification>"})
    facts = [{"type": "section", "fields": fields}] if fields else []
    return [*facts, {"type": "context", "elements": context}]


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
