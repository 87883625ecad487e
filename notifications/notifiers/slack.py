"""Slack incoming webhooks.

From docs.slack.dev, "Sending messages using incoming webhooks", "Rate limits" and the Block Kit
reference: success is 200 with the body `ok` (servers that take the same post answer other 2xx:
`{"success":true}`); the words of the errors below; one message a second per webhook; a header holds 150
characters, a section 3,000, the text 40,000; `&`, `<` and `>` are escaped in mrkdwn and nowhere else, so that
what others wrote mentions nobody.

The webhook decides where a message goes. CHANNEL and USERNAME override it only for legacy webhooks.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import Reason
from ..text import cut, to_json
from .base import Delivered, JsonNotifier, Message
from .http.answers import KnownRefusal, raise_for, raise_for_body, unexpected
from .http.client import Answer
from .options import TEXT, URL, Option, combine_after

HEADER_LIMIT, SECTION_LIMIT, TEXT_LIMIT = 150, 3_000, 40_000
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
    )
    templates = "slack"
    message_limit = TEXT_LIMIT
    default_max_per_second = 1.0
    combines = True

    def url(self, message: Message) -> str:
        return self.option("URL")

    def payload(self, message: Message) -> bytes:
        subject, body = self.subject(message), self.body(message)
        section = self.shortened(body, message, SECTION_LIMIT)
        body = self.shortened(body, message, TEXT_LIMIT, lambda body: len(escape(f"{subject}\n{body}")))
        fallback = cut(f"{subject}\n{body}", TEXT_LIMIT, lambda text: len(escape(text)))
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": plain(cut(subject, HEADER_LIMIT))},
            {"type": "section", "text": plain(section)},
        ]
        if message.url:
            link = {"type": "mrkdwn", "text": f"<{escape(message.url)}|Open the notification>"}
            blocks.append({"type": "context", "elements": [link]})
        overrides = {name.lower(): self.options.get(name) for name in ("CHANNEL", "USERNAME")}
        content = {"text": escape(fallback), "blocks": blocks, **{k: v for k, v in overrides.items() if v}}
        return to_json(content)

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, known=REFUSALS)
        if not answer.complete:
            raise unexpected(answer, "ok")
        raise_for_body(answer, REFUSALS)
        return Delivered(answer.status, answer.quoted())


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
