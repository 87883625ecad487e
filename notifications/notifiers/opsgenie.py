"""OpsGenie's Alert API, and its successor in Jira Service Management Operations.

From docs.opsgenie.com, "Alert API": 202 means accepted for processing; message holds 130 characters, alias
512 (one open alert per alias), description 15,000, entity 512, a tag 50, all details 8,000. OpsGenie ends on
2027-04-05; developer.atlassian.com, "Jira Service Management ops, Integration events", takes the same
header and body at https://api.atlassian.com/jsm/ops/integration/v2/alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exceptions import Reason
from ..text import cut, dump
from .base import Delivered, JsonNotifier, Message, url_faults
from .http.answers import PERMANENT, raise_for
from .http.client import Answer

BASE_URL = "https://api.opsgenie.com"  # EU: https://api.eu.opsgenie.com
SUCCESSOR = "https://api.atlassian.com/jsm/ops/integration"
PATH = "/v2/alerts"
PRIORITIES = ("P1", "P2", "P3", "P4", "P5")
MESSAGE_LIMIT, ALIAS_LIMIT, DESCRIPTION_LIMIT, TAG_LIMIT, ENTITY_LIMIT = 130, 512, 15_000, 50, 512
LINK_LIMIT = 2_000
REFUSED = {**PERMANENT, 402: Reason.AUTH}
ADVICE = {Reason.AUTH: "check the API key, its integration and the account's plan, then requeue"}


class OpsGenieNotifier(JsonNotifier):
    """Options: API_KEY; PRIORITY (P1 to P5); BASE_URL."""

    folds_repeats = True
    known = frozenset({"API_KEY", "PRIORITY", "BASE_URL"})
    required = frozenset({"API_KEY"})
    templates = "opsgenie"

    @staticmethod
    def option_faults(options: Mapping[str, Any]) -> list[str]:
        found = url_faults(options, "BASE_URL")
        if (priority := options.get("PRIORITY") or "P3") not in PRIORITIES:
            found.append(f"PRIORITY must be one of {', '.join(PRIORITIES)}, not {priority!r}")
        return found

    def url(self, message: Message) -> str:
        return self.base_url(BASE_URL, PATH)

    def headers(self, message: Message) -> dict[str, str]:
        return {**super().headers(message), "Authorization": f"GenieKey {self.option('API_KEY')}"}

    def payload(self, message: Message) -> bytes:
        certificate = cut(message.certificate_id or "", ENTITY_LIMIT)
        details = {
            "type": message.type,
            "certificate_id": certificate,
            "recipient": message.recipient,
            "notification_id": message.key(ALIAS_LIMIT),
            "url": cut(message.url, LINK_LIMIT),
        }
        alert = {
            "message": cut(self.subject(message), MESSAGE_LIMIT),
            "alias": message.key(ALIAS_LIMIT),
            "description": self.shortened(self.body(message), message, DESCRIPTION_LIMIT),
            "tags": [tag for tag in ("certctl", cut(message.type, TAG_LIMIT)) if tag],
            "details": {name: value for name, value in details.items() if value},
            "entity": certificate,
            "source": "certctl",
            "priority": self.options.get("PRIORITY") or "P3",
        }
        return dump({name: value for name, value in alert.items() if value})

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, success=(202,), permanent=REFUSED, advice=ADVICE)
        return Delivered(answer.status, answer.quoted())
