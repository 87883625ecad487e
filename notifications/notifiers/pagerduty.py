"""PagerDuty Events API v2.

From developer.pagerduty.com, "Send an Alert Event" and "Events API v2 Overview": 202 is success; 400 is a
faulty event or routing key; 429 and 5xx may be repeated. summary holds 1,024 characters, dedup_key 255,
an event 512 KB. A repeated dedup_key only adds to the log of an open alert.
"""

from __future__ import annotations

from typing import Any

from ..exceptions import Reason
from ..text import cut, fitted
from .base import Delivered, JsonNotifier, Message
from .http.answers import KnownRefusal, raise_for, raise_for_body
from .http.client import Answer
from .options import TEXT, URL, Option, choice

PATH = "/v2/enqueue"
EVENT_LIMIT, SUMMARY_LIMIT, DEDUP_KEY_LIMIT = 512_000, 1_024, 255
REFUSALS = (
    KnownRefusal(
        r"routing.?key",
        Reason.AUTH,
        "set the Integration Key (32 characters) of an Events API v2 integration, then requeue",
    ),
)


class PagerDutyNotifier(JsonNotifier):
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
            "SEVERITY",
            "of the alerts",
            choice("critical", "error", "warning", "info"),
            default="warning",
            env="CERTCTL_PAGERDUTY_SEVERITY",
        ),
        Option(
            "BASE_URL",
            "in the EU `https://events.eu.pagerduty.com`",
            URL,
            default="https://events.pagerduty.com",
            env="CERTCTL_PAGERDUTY_BASE_URL",
        ),
    )
    folds_repeats = True
    templates = "pagerduty"

    def url(self, message: Message) -> str:
        return self.base_url(PATH)

    def payload(self, message: Message) -> bytes:
        key, summary = self.option("ROUTING_KEY"), cut(self.subject(message), SUMMARY_LIMIT)
        severity = self.option("SEVERITY")
        return fitted(
            lambda text: {"routing_key": key, **event(message, summary, text, severity)},
            self.body(message),
            EVENT_LIMIT,
        )

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, known=REFUSALS)
        raise_for_body(answer, REFUSALS)
        return Delivered(answer.status, answer.quoted())


def event(message: Message, summary: str, text: str, severity: str) -> dict[str, Any]:
    certificate = (message.certificate_id or "").strip()  # PagerDuty takes no blank source
    content: dict[str, Any] = {
        "event_action": "trigger",
        "dedup_key": message.key(DEDUP_KEY_LIMIT),
        "payload": {
            "summary": summary,
            "source": certificate or "certctl",
            "severity": severity,
            "timestamp": message.created_at.isoformat(),
            "component": certificate or "certctl",
            "group": "certificates",
            "class": message.type,
            "custom_details": {
                "type": message.type,
                "certificate_id": certificate,
                "message": text,
                "recipient": message.recipient,
                "notification_id": message.key(DEDUP_KEY_LIMIT),
                "url": message.url,
            },
        },
        "client": "certctl",
    }
    if message.url:
        content["client_url"] = message.url
        content["links"] = [{"href": message.url, "text": "Open the notification"}]
    return content
