"""Webhook: a POST signed as Standard Webhooks 1.0 (https://www.standardwebhooks.com) describes.

webhook-id is the notification's id, the same on every attempt, so a receiver can fold repeats.
Every attempt is signed afresh, because receivers refuse a timestamp older than five minutes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks.webhooks import Webhook

from ..exceptions import PermanentError, Reason
from .base import Delivered, Endpoint, Message, Notifier
from .http import HttpClient, raise_for


class WebhookNotifier(Notifier):
    """Options: URL, for recipients that are none; SECRETS, all of them sign; ALLOWED_NETWORKS."""

    folds_repeats = True

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self.url = options.get("URL", "")
        self.signers = [signer(secret) for secret in options.get("SECRETS", ())]

    def target(self, message: Message) -> str:
        """The URL to post to. Raises PermanentError when neither the recipient nor URL is one."""
        for candidate in (message.recipient, self.url):
            if re.match(r"https?://", candidate, re.IGNORECASE):
                return candidate
        raise PermanentError(
            f"the recipient {message.recipient!r} is not an http or https URL",
            reason=Reason.CONFIG,
            advice="set CERTCTL_WEBHOOK_URL for such recipients, then requeue",
        )

    def endpoint(self, message: Message) -> Endpoint:
        """The origin that the row's request goes to; see `Endpoint` for what the prefix means."""
        try:
            target = self.target(message)
        except PermanentError:
            return Endpoint(f"{self.name.casefold()} nowhere", self.name, message.recipient, exact=True)
        key = f"{self.name.casefold()} {origin(target)}"
        written = re.match(r"https?://[^/?#\\]*[/?#\\]", message.recipient, re.IGNORECASE)
        if written:
            return Endpoint(key, self.name, written[0])
        return Endpoint(key, self.name, message.recipient, exact=True)

    async def send(self, message: Message) -> Delivered:
        body = json.dumps(payload(message), ensure_ascii=False)
        answer = await self.http.post(
            self.target(message), body.encode(), self.headers(message, body), guarded=True
        )
        raise_for(answer)
        return Delivered(answer.status, answer.quoted())

    def headers(self, message: Message, body: str) -> dict[str, str]:
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.id,
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self.signers:
            headers["webhook-signature"] = " ".join(s.sign(message.id, now, body) for s in self.signers)
        return headers


def payload(message: Message) -> dict[str, Any]:
    return {
        "type": f"certificate.{snake(message.type)}",
        "timestamp": message.created_at.isoformat(),
        "data": {
            "id": message.id,
            "type": message.type,
            "certificate_id": message.certificate_id,
            "message": message.message,
            "recipient": message.recipient,
            "url": message.url,
        },
    }


def origin(url: str) -> str:
    """scheme://host:port in one spelling, without a user's name or password."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        port = parts.port or {"http": 80, "https": 443}[scheme]
    except ValueError:
        return "invalid"
    host = (parts.hostname or "").rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == {"http": 80, "https": 443}[scheme] else f":{port}")


def snake(name: str) -> str:
    """ExpirationWarning and expiration_warning are both expiration_warning."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def signer(secret: str) -> Webhook:
    """Signs with `whsec_` + base64. Raises ValueError, without the secret in it, for anything else."""
    try:
        return Webhook(secret)
    except Exception:
        raise ValueError("a webhook secret is not whsec_ followed by base64") from None
