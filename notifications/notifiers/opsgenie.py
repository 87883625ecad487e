"""OpsGenie's Alert API, and its successor in Jira Service Management Operations.

From docs.opsgenie.com, "Alert API": 202 means accepted for processing; message holds 130 characters, alias
512 (one open alert per alias), description 15,000, entity 512, a tag 50, all details 8,000. OpsGenie ends on
2027-04-05; developer.atlassian.com, "Jira Service Management ops, Integration events", takes the same
header and body at https://api.atlassian.com/jsm/ops/integration/v2/alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.checks import CheckMessage, Warning

from ..exceptions import Reason
from ..text import cut, to_json
from .base import Delivered, JsonNotifier, Message
from .http.answers import PERMANENT, raise_for, raise_for_body
from .http.client import Answer
from .options import TEXT, URL, Option, choice, completed, is_within

SUCCESSOR = "https://api.atlassian.com/jsm/ops/integration"
PATH = "/v2/alerts"
MESSAGE_LIMIT, ALIAS_LIMIT, DESCRIPTION_LIMIT, TAG_LIMIT, ENTITY_LIMIT = 130, 512, 15_000, 50, 512
REFUSED = {**PERMANENT, 402: Reason.AUTH}
ADVICE = {Reason.AUTH: "check the API key, its integration and the account's plan, then requeue"}


class OpsGenieNotifier(JsonNotifier):
    declared_options = (
        Option(
            "API_KEY",
            "of an API integration",
            TEXT,
            required=True,
            secret=True,
            env="CERTCTL_OPSGENIE_API_KEY",
        ),
        Option(
            "PRIORITY",
            "of the alerts",
            choice("P1", "P2", "P3", "P4", "P5"),
            default="P3",
            env="CERTCTL_OPSGENIE_PRIORITY",
        ),
        Option(
            "BASE_URL",
            f"in the EU `https://api.eu.opsgenie.com`; in Jira `{SUCCESSOR}`",
            URL,
            default="https://api.opsgenie.com",
            env="CERTCTL_OPSGENIE_BASE_URL",
        ),
    )
    folds_repeats = True
    templates = "opsgenie"
    message_limit = DESCRIPTION_LIMIT

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        if not is_within(completed(cls.declared_options, options)["BASE_URL"], "opsgenie.com"):
            return []
        hint = (
            f"Move to Jira Service Management and set BASE_URL to {SUCCESSOR} (CERTCTL_OPSGENIE_BASE_URL) "
            "with an API key from there; nothing else changes."
        )
        return [Warning("OpsGenie's API ends on 2027-04-05", hint=hint, id="notifications.W002")]

    def url(self, message: Message) -> str:
        return self.base_url(PATH)

    def headers(self, message: Message) -> dict[str, str]:
        return {**super().headers(message), "Authorization": f"GenieKey {self.option('API_KEY')}"}

    def payload(self, message: Message) -> bytes:
        certificate = cut(message.certificate_id or "", ENTITY_LIMIT)
        details = {
            "type": message.type,
            "certificate_id": certificate,
            "recipient": message.recipient,
            "notification_id": message.key(ALIAS_LIMIT),
            "url": message.url,
        }
        alert = {
            "message": cut(self.subject(message), MESSAGE_LIMIT),
            "alias": message.key(ALIAS_LIMIT),
            "description": self.shortened(self.body(message), message, DESCRIPTION_LIMIT),
            "tags": [tag for tag in ("certctl", cut(message.type, TAG_LIMIT)) if tag],
            "details": {name: value for name, value in details.items() if value},
            "entity": certificate,
            "source": "certctl",
            "priority": self.option("PRIORITY"),
        }
        return to_json({name: value for name, value in alert.items() if value})

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, permanent=REFUSED, advice=ADVICE)
        raise_for_body(answer)
        return Delivered(answer.status, answer.quoted())
