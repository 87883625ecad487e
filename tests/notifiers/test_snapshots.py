"""Every channel's payload for every type and severity, as it is kept in snapshots/, and valid.

UPDATE_SNAPSHOTS=1 writes them anew; what changed is then for a person to read.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import time_machine

from notifications.notifiers.base import JsonNotifier, Message
from notifications.notifiers.email import EmailNotifier
from notifications.notifiers.wording import Severity
from tests.notifiers.schemas import SCHEMAS
from tests.notifiers.support import HTTP_CHANNELS, Channel, a_message, email_notifier, notifier

FOLDER = Path(__file__).parent / "snapshots"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
# As certctl writes them.
MESSAGES = {
    "ExpirationWarning": "The certificate for api.example.com will expire in 7 days (2026-12-02).\n\n"
    "Please schedule renewal.\n\n[threshold:7]",
    "ExpirationWarning, expired": "[EXPIRED] The certificate for api.example.com has expired (2026-11-20)."
    "\n\nImmediate action required.\n\n[threshold:0]",
    "RenewalSuccess": "The certificate for api.example.com has been successfully renewed.\n\n"
    "New expiry: 2027-02-23",
    "RenewalFailure": "The certificate for api.example.com failed to renew.\n\nError: CAA forbids it\n\n"
    "Please investigate.",
    "DeploymentSuccess": "The certificate for api.example.com has been successfully deployed to lb-1.",
    "DeploymentFailure": "The certificate for api.example.com failed to deploy to lb-1.\n\nError: no answer",
    "PolicyViolation": "the key has 1024 bits",
    "Revocation": "[REVOKED] The certificate for api.example.com has been revoked.\n\nReason: keyCompromise",
}


def messages() -> dict[str, Message]:
    return {name: a_message(type=name.partition(",")[0], message=text) for name, text in MESSAGES.items()}


def kept(name: str, found: Any) -> Any:
    path = FOLDER / f"{name}.json"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return json.loads(path.read_text())


def payload(channel: Channel, message: Message, **options: Any) -> Any:
    made = notifier(channel, "https://host.example", **options)
    assert isinstance(made, JsonNotifier)
    content = json.loads(made.payload(made.bounded(message)))
    jsonschema.validate(content, SCHEMAS[channel.name])
    return content


@pytest.mark.parametrize("channel", HTTP_CHANNELS, ids=lambda channel: channel.name)
def test_a_payload_is_what_it_was(channel: Channel) -> None:
    with time_machine.travel(NOW, tick=False):
        found = {name: payload(channel, message) for name, message in messages().items()}
        for severity in Severity:
            found[f"as {severity}"] = payload(channel, messages()["PolicyViolation"], SEVERITY=str(severity))
    assert found == kept(channel.name.lower(), found)


def test_a_mail_is_what_it_was() -> None:
    made = email_notifier()
    assert isinstance(made, EmailNotifier)
    with time_machine.travel(NOW, tick=False):
        mails = {
            name: made.compose(message._replace(recipient="pki@example.com"))
            for name, message in messages().items()
        }
    heads = ("Importance", "X-Priority")
    found = {
        name: {
            "subject": mail.subject,
            "body": mail.body.splitlines(),
            **{head: mail.extra_headers[head] for head in heads if head in mail.extra_headers},
        }
        for name, mail in mails.items()
    }
    assert found == kept("email", found)
