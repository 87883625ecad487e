"""PagerDuty Events API v2.

From developer.pagerduty.com, "Send an Alert Event" and "Events API v2 Overview": 202 is success; 400 is a
faulty event or routing key; 429 and 5xx may be repeated. summary holds 1,024 characters, dedup_key 255,
an event 512 KB. A repeated dedup_key only adds to the log of an open alert; `resolve` for one that is not
open is accepted and does nothing.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import Reason
from ..text import cut, fitted, to_json
from .base import Delivered, Message, ResolvingNotifier, key_of
from .http.answers import KnownRefusal, raise_for, raise_for_body
from .http.client import Answer
from .options import TEXT, URL, Option, http_options, words_options
from .wording import Words

PATH = "/v2/enqueue"
EVENT_LIMIT, SUMMARY_LIMIT, DEDUP_KEY_LIMIT = 512_000, 1_024, 255
REFUSALS = (
    KnownRefusal(
        r"routing.?key",
        Reason.AUTH,
        "set the Integration Key (32 characters) of an Events API v2 integration, then requeue",
    ),
)


class PagerDutyNotifier(ResolvingNotifier):
    declared_options = (
        Option(
            "ROUTING_KEY",
            "the Integration Key of an Events API v2 integration",
            TEXT,
            required=True,
            secret=True,
            env="CERTCTL_PAGERDUTY_ROUTING_KEY",
        ),
        Option(
            "BASE_URL",
            "in the EU `https://events.eu.pagerduty.com`",
            URL,
            default="https://events.pagerduty.com",
            env="CERTCTL_PAGERDUTY_BASE_URL",
        ),
        *words_options("CERTCTL_PAGERDUTY"),
        *http_options("CERTCTL_PAGERDUTY"),
    )
    folds_repeats = True
    templates = "pagerduty"
    looks = "incident"

    def url(self, message: Message) -> str:
        return self.base_url(PATH)

    def payload(self, message: Message) -> bytes:
        key, words = self.option("ROUTING_KEY"), self.words(message)
        return fitted(
            lambda text: {"routing_key": key, **event(message, words, text)}, words.text, EVENT_LIMIT
        )

    def resolution(self, opened: str) -> tuple[str, bytes]:
        event = {
            "routing_key": self.option("ROUTING_KEY"),
            "event_action": "resolve",
            "dedup_key": key_of(opened, DEDUP_KEY_LIMIT),
        }
        return self.base_url(PATH), to_json(event)

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, known=REFUSALS)
        raise_for_body(answer, REFUSALS)
        return Delivered(answer.status, answer.quoted())


def event(message: Message, words: Words, text: str) -> dict[str, Any]:
    certificate = (message.certificate_id or "").strip()  # PagerDuty takes no blank source
    content: dict[str, Any] = {
        "event_action": "trigger",
        "dedup_key": message.key(DEDUP_KEY_LIMIT),
        "payload": {
            "summary": cut(words.headline, SUMMARY_LIMIT),
            "source": certificate or "certctl",
            "severity": words.severity,
            "timestamp": message.created_at.isoformat(),
            "component": certificate or "certctl",
            "group": certificate or "certificates",
            "class": message.type,
            "custom_details": {
                "alert": words.label,
                **words.details,
                "message": text,
                "type": message.type,
                "certificate_id": certificate,
                "recipient": message.recipient,
                "notification_id": message.key(DEDUP_KEY_LIMIT),
            },
        },
        "client": "certctl",
    }
    if words.link:
        content["client_url"] = words.link
        content["links"] = [{"href": words.link, "text": "Open the notification"}]
    return content
