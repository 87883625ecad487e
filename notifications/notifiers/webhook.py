"""Webhook: a POST signed as Standard Webhooks 1.0 describes.

From github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md: webhook-id is the same
on every attempt, so that a receiver can fold repeats; every attempt is signed afresh, as receivers
refuse a timestamp older than five minutes; one signature per active secret; payloads under 20 kB.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Warning
from standardwebhooks.webhooks import Webhook

from ..exceptions import PermanentError, Reason
from ..text import cut, fitted
from .base import NAME_LIMIT, Delivered, Endpoint, JsonNotifier, Message
from .endpoint import is_address
from .http.answers import raise_for
from .http.client import Answer, HttpClient
from .options import NETWORKS, URL, URL_START, Kind, Option, list_of
from .wording import kind_of

PAYLOAD_LIMIT = 20_000
PORTS = {"http": 80, "https": 443}
ADVICE = {
    Reason.AUTH: "the receiver refused the request; check the URL and the secret, then requeue",
    Reason.GONE: "the receiver wants no more; raise its alerts for another URL",
}


def signer(secret: str) -> Webhook:
    """Raises ValueError, without the secret in it, for what is not `whsec_` + base64 of 24 to 64 bytes."""
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, AttributeError):
        key = b""
    if not str(secret).startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("has one that is not whsec_ followed by the base64 of 24 to 64 bytes")
    return Webhook(secret)


class WebhookNotifier(JsonNotifier):
    declared_options = (
        Option(
            "URL", "for recipients that are none", URL, default="", secret=True, env="CERTCTL_WEBHOOK_URL"
        ),
        Option(
            "SECRETS",
            "each signs every request; several with commas",
            list_of(Kind("whsec_ and the base64 of 24 to 64 bytes", signer)),
            default=(),
            secret=True,
            env="CERTCTL_WEBHOOK_SECRET",
        ),
        Option(
            "ALLOWED_NETWORKS",
            "may be reached although they are not public; with commas",
            NETWORKS,
            default=(),
            env="CERTCTL_WEBHOOK_ALLOWED_NETWORKS",
        ),
    )
    folds_repeats = True
    guarded = True
    looks = ""
    message_limit = PAYLOAD_LIMIT

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self.default_url: str = self.options["URL"]
        self.signers = [signer(secret) for secret in self.options["SECRETS"]]

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        if not options.get("URL") or options.get("SECRETS"):
            return []
        text = "no SECRETS, so receivers cannot tell that a request is yours"
        hint = "Set one (CERTCTL_WEBHOOK_SECRET): whsec_ and the base64 of 24 to 64 random bytes."
        return [Warning(text, hint=hint, id="notifications.W004")]

    def url(self, message: Message) -> str:
        """The recipient where it is a URL, else URL. Raises PermanentError when neither can be posted to."""
        return target(message.recipient, self.default_url)

    def endpoint(self, message: Message) -> Endpoint:
        """The origin that the row's request goes to; see `Endpoint` for what the prefix means."""
        return endpoint(self.name, message.recipient, self.default_url)

    def payload(self, message: Message) -> bytes:
        return fitted(lambda text: payload(message, text), message.message, PAYLOAD_LIMIT)

    def headers(self, message: Message) -> dict[str, str]:
        key = message.key()
        return {"Content-Type": "application/json", "Idempotency-Key": key, "webhook-id": key}

    def signature(self, message: Message, body: bytes) -> dict[str, str]:
        now, key, text = datetime.now(UTC), message.key(), body.decode()
        headers = {"webhook-timestamp": str(int(now.timestamp()))}
        if self.signers:
            headers["webhook-signature"] = " ".join(s.sign(key, now, text) for s in self.signers)
        return headers

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, advice=ADVICE)
        return Delivered(answer.status, answer.quoted())


@lru_cache(maxsize=1024)
def target(recipient: str, default: str) -> str:
    written = recipient.strip()
    chosen = written if is_address(recipient) else default
    if URL_START.match(chosen):
        return chosen
    raise PermanentError(
        f"the recipient {recipient!r} is not an http or https URL",
        reason=Reason.CONFIG,
        advice="correct it, or set URL (CERTCTL_WEBHOOK_URL) for recipients that are none; then requeue",
    )


@lru_cache(maxsize=1024)
def endpoint(channel: str, recipient: str, default: str) -> Endpoint:
    try:
        key = f"{channel.casefold()} {origin(target(recipient, default))}"
    except PermanentError:
        key = f"{channel.casefold()} nowhere"
    if not is_address(recipient):
        return Endpoint(key, channel, exact=True)
    if written := re.match(r"https?://[^/?#]+[/?#]", recipient, re.IGNORECASE):
        return Endpoint(key, channel, written[0])
    return Endpoint(key, channel, recipient, exact=True)


def payload(message: Message, text: str) -> dict[str, Any]:
    return {
        "type": f"certificate.{kind_of(message.type) or 'notification'}",
        "timestamp": message.created_at.isoformat(),
        "data": {
            "id": cut(message.id, NAME_LIMIT),
            "type": message.type,
            "certificate_id": message.certificate_id,
            "message": text,
            "recipient": message.recipient,
            "url": message.url,
        },
    }


def origin(url: str) -> str:
    """scheme://host:port in one spelling, without a user's name or password."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "invalid"
    shown = f"[{host}]" if ":" in host else host
    default = port is None or port == PORTS[parts.scheme]
    return f"{parts.scheme}://{shown}" + ("" if default else f":{port}")
