"""PagerDuty Events API v2.

From developer.pagerduty.com, "Send an Alert Event" and "Events API v2 Overview": 202 is success; 400 is a
faulty event or routing key; 429 and 5xx may be repeated. summary holds 1,024 characters, dedup_key 255,
an event 512 KB. A repeated dedup_key only adds to the log of an open alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exceptions import Reason
from ..text import cut, fitted
from .base import Delivered, JsonNotifier, Message, url_faults
from .http.answers import Says, raise_for
from .http.client import Answer

BASE_URL = "https://events.pagerduty.com"  # EU: https://events.eu.pagerduty.com
PATH = "/v2/enqueue"
SEVERITIES = ("critical", "error", "warning", "info")
EVENT_LIMIT, SUMMARY_LIMIT, DEDUP_KEY_LIMIT, FIELD_LIMIT = 512_000, 1_024, 255, 1_024
SAYS = (
    Says(
        r"routing.?key",
        Reason.AUTH,
        "set the Integration Key (32 characters) of an Events API v2 integration, then requeue",
    ),
)


class PagerDutyNotifier(JsonNotifier):
    """Options: ROUTING_KEY; SEVERITY (critical, error, warning, info); BASE_URL."""

    folds_repeats = True
    known = frozenset({"ROUTING_KEY", "SEVERITY", "BASE_URL"})
    required = frozenset({"ROUTING_KEY"})
    templates = "pagerduty"

    @staticmethod
    def option_faults(options: Mapping[str, Any]) -> list[str]:
        found = url_faults(options, "BASE_URL")
        if (severity := options.get("SEVERITY") or "warning") not in SEVERITIES:
            found.append(f"SEVERITY must be one of {', '.join(SEVERITIES)}, not {severity!r}")
        return found

    def url(self, message: Message) -> str:
        return self.base_url(BASE_URL, PATH)

    def payload(self, message: Message) -> bytes:
        key, summary = self.option("ROUTING_KEY"), cut(self.subject(message), SUMMARY_LIMIT)
        severity = self.options.get("SEVERITY") or "warning"
        return fitted(
            lambda text: {"routing_key": key, **event(message, summary, text, severity)},
            self.body(message),
            EVENT_LIMIT,
        )

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, success=(202,), says=SAYS)
        return Delivered(answer.status, answer.quoted())


def event(message: Message, summary: str, text: str, severity: str) -> dict[str, Any]:
    certificate = cut(message.certificate_id or "", FIELD_LIMIT)
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
