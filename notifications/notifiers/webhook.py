"""Webhook: a POST signed as Standard Webhooks 1.0 describes.

From github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md: webhook-id is the same
on every attempt, so that a receiver can fold repeats; every attempt is signed afresh, as receivers
refuse a timestamp older than five minutes; one signature per active secret; payloads under 20 kB.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks.webhooks import Webhook

from ..exceptions import PermanentError, Reason
from ..text import cut, fitted
from .base import HTTP_URL, Delivered, Endpoint, Message, Notifier, url_faults
from .endpoint import is_address
from .http.answers import raise_for
from .http.client import Answer, HttpClient
from .http.network import Guard

PAYLOAD_LIMIT = 20_000
PORTS = {"http": 80, "https": 443}
ADVICE = {
    Reason.AUTH: "the receiver refused the request; check the URL and the secret, then requeue",
    Reason.GONE: "the receiver wants no more; raise its alerts for another URL",
}


class WebhookNotifier(Notifier):
    """Options: URL, for recipients that are none; SECRETS, all of them sign; ALLOWED_NETWORKS."""

    folds_repeats = True
    known = frozenset({"URL", "SECRETS", "ALLOWED_NETWORKS"})

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self.url: str = options.get("URL") or ""
        self.signers = [signer(secret) for secret in options.get("SECRETS") or ()]

    @staticmethod
    def option_faults(options: Mapping[str, Any]) -> list[str]:
        found = url_faults(options)
        for name, make in (("SECRETS", signer), ("ALLOWED_NETWORKS", network)):
            found += [f"{name}: {fault}" for fault in _value_faults(options.get(name) or (), make)]
        return found

    def target(self, message: Message) -> str:
        """The recipient where it is a URL, else URL. Raises PermanentError when neither can be posted to."""
        return target(message.recipient, self.url)

    def endpoint(self, message: Message) -> Endpoint:
        """The origin that the row's request goes to; see `Endpoint` for what the prefix means."""
        return endpoint(self.name, message.recipient, self.url)

    async def send(self, message: Message) -> Delivered:
        body = fitted(lambda text: payload(message, text), message.message, PAYLOAD_LIMIT)
        answer = await self.http.post(
            self.target(message), body, self.headers(message, body.decode()), guarded=True
        )
        return self.judge(answer)

    def judge(self, answer: Answer) -> Delivered:
        raise_for(answer, advice=ADVICE)
        return Delivered(answer.status, answer.quoted())

    def headers(self, message: Message, body: str) -> dict[str, str]:
        now, key = datetime.now(UTC), message.key()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self.signers:
            headers["webhook-signature"] = " ".join(s.sign(key, now, body) for s in self.signers)
        return headers


@lru_cache(maxsize=1024)
def target(recipient: str, default: str) -> str:
    written = recipient.strip()
    chosen = written if is_address(recipient) else default
    if HTTP_URL.match(chosen):
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
    certificate = message.certificate_id
    return {
        "type": f"certificate.{snake(message.type) or 'notification'}",
        "timestamp": message.created_at.isoformat(),
        "data": {
            "id": message.id,
            "type": message.type,
            "certificate_id": certificate and cut(certificate, 1_000),
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


@lru_cache(maxsize=256)
def snake(name: str) -> str:
    """ExpirationWarning and expiration_warning are both expiration_warning."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def signer(secret: str) -> Webhook:
    """Raises ValueError, without the secret in it, for what is not `whsec_` + base64 of 24 to 64 bytes."""
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, AttributeError):
        key = b""
    if not str(secret).startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("a secret is not whsec_ followed by the base64 of 24 to 64 bytes")
    return Webhook(secret)


def network(text: str) -> Guard:
    return Guard([text])


def _value_faults(values: Any, make: Callable[[str], object]) -> Iterator[str]:
    if isinstance(values, str):
        yield "this must be a list"
        return
    for value in values:
        try:
            make(value)
        except (AttributeError, ValueError) as error:
            yield str(error)
