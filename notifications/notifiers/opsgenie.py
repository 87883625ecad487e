"""OpsGenie's Alert API, and its successor in Jira Service Management Operations.

From docs.opsgenie.com, "Alert API": 202 means accepted for processing; message holds 130 characters, alias
512 (one open alert per alias), description 15,000, entity 512, a tag 50, all details 8,000. OpsGenie ends on
2027-04-05; developer.atlassian.com, "Jira Service Management ops, Integration events", takes the same
header and body at https://api.atlassian.com/jsm/ops/integration/v2/alerts. "Close Alert", by its alias, is
accepted in the same way, and does nothing where no such alert is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.core.checks import CheckMessage, Warning

from ..exceptions import Reason
from ..text import cut, to_json
from .base import Delivered, Message, ResolvingNotifier, key_of
from .http.answers import PERMANENT, raise_for, raise_for_body
from .http.client import Answer
from .options import TEXT, URL, Option, choice, completed, http_options, is_within, words_options
from .wording import Severity

SUCCESSOR = "https://api.atlassian.com/jsm/ops/integration"
PATH = "/v2/alerts"
MESSAGE_LIMIT, ALIAS_LIMIT, DESCRIPTION_LIMIT, TAG_LIMIT, ENTITY_LIMIT = 130, 512, 15_000, 50, 512
REFUSED = {**PERMANENT, 402: Reason.AUTH}
PRIORITIES = {
    Severity.CRITICAL: "P1",
    Severity.ERROR: "P2",
    Severity.WARNING: "P3",
    Severity.INFO: "P5",
}
ADVICE = {Reason.AUTH: "check the API key, its integration and the account's plan, then requeue"}


class OpsGenieNotifier(ResolvingNotifier):
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
            "of all alerts, instead of what follows from their severity",
            choice("P1", "P2", "P3", "P4", "P5"),
            env="CERTCTL_OPSGENIE_PRIORITY",
        ),
        Option(
            "BASE_URL",
            f"in the EU `https://api.eu.opsgenie.com`; in Jira `{SUCCESSOR}`",
            URL,
            default="https://api.opsgenie.com",
            env="CERTCTL_OPSGENIE_BASE_URL",
        ),
        *words_options("CERTCTL_OPSGENIE"),
        *http_options("CERTCTL_OPSGENIE"),
    )
    folds_repeats = True
    templates = "opsgenie"
    looks = "incident"
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
        words, certificate = self.words(message), cut(message.certificate_id or "", ENTITY_LIMIT)
        details = {
            **words.details,
            "type": message.type,
            "certificate_id": certificate,
            "recipient": message.recipient,
            "notification_id": message.key(ALIAS_LIMIT),
            "url": words.link if words.own else "",  # else it ends the description
        }
        tags = ("certctl", cut(message.type, TAG_LIMIT), words.severity)
        alert = {
            "message": cut(words.headline, MESSAGE_LIMIT),
            "alias": message.key(ALIAS_LIMIT),
            "description": self.shortened(words.body(), message, DESCRIPTION_LIMIT),
            "tags": [tag for tag in tags if tag],
            "details": {name: value for name, value in details.items() if value},
            "entity": certificate.strip(),
            "source": "certctl",
            "priority": self.options.get("PRIORITY") or PRIORITIES[words.severity],
        }
        return to_json({name: value for name, value in alert.items() if value})

    def resolution(self, opened: str) -> tuple[str, bytes]:
        alias = quote(key_of(opened, ALIAS_LIMIT), safe="")
        note = {"source": "certctl", "note": "The certificate was renewed."}
        return f"{self.base_url(PATH)}/{alias}/close?identifierType=alias", to_json(note)

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, permanent=REFUSED, advice=ADVICE)
        raise_for_body(answer)
        return Delivered(answer.status, answer.quoted())
