"""Webhook: a POST signed as Standard Webhooks 1.0 describes, or as certctl's own receivers know it.

From github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md: webhook-id is the same
on every attempt, so that a receiver can fold repeats; every attempt is signed afresh, as receivers
refuse a timestamp older than five minutes; one signature per active secret; payloads under 20 kB.

From github.com/certctl-io/certctl, internal/connector/notifier/webhook: keys in alphabetical order, as Go
writes a map, without a certificate; X-Signature over the body alone, with the secret's own bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Warning
from standardwebhooks.webhooks import Webhook

from ..exceptions import PermanentError, Reason
from ..text import cut, fitted, fold
from .base import NAME_LIMIT, Delivered, Endpoint, JsonNotifier, Message
from .endpoint import is_address
from .http.answers import raise_for
from .http.client import Answer, HttpClient, blocked
from .http.network import Guard
from .options import NETWORKS, URL, URL_START, Kind, Option, choice, http_options, list_of
from .wording import kind_of

PAYLOAD_LIMIT = 20_000
SPELLED = "whsec_"
PORTS = {"http": 80, "https": 443}
FIT_FOR_HTML = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
ADVICE = {
    Reason.AUTH: "the receiver refused the request; check the URL and the secret, then requeue",
    Reason.GONE: "the receiver wants no more; raise its alerts for another URL",
}


def signer(secret: str) -> Webhook:
    """With the key that `whsec_` and base64 spell, or with the bytes of a secret that is written freely.

    Raises ValueError, without the secret in it, for what is neither.
    """
    if not isinstance(secret, str) or not secret.strip():
        raise ValueError("has one that is empty, or no text")
    if not secret.startswith(SPELLED):
        return Webhook(secret.encode("utf-8", "replace"))
    try:
        text = secret.removeprefix(SPELLED).rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("has one that begins with whsec_, and goes on with no base64 of 24 to 64 bytes")
    return Webhook(secret)


def secrets_of(text: str) -> list[str]:
    """Several with commas between them where one is spelled; else it is one, which may have commas in it."""
    parts = [part.strip() for part in text.split(",")]
    return [part for part in parts if part] if any(p.startswith(SPELLED) for p in parts) else [text]


SECRETS = replace(
    list_of(Kind("a text, or whsec_ and the base64 of 24 to 64 bytes", signer)), read=secrets_of
)


class WebhookNotifier(JsonNotifier):
    declared_options = (
        Option(
            "URL", "for recipients that are none", URL, default="", secret=True, env="CERTCTL_WEBHOOK_URL"
        ),
        Option(
            "SECRETS",
            "each signs every request; `whsec_…`, several with commas, or any one text",
            SECRETS,
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
        Option(
            "FORMAT",
            "what receivers expect",
            choice("standard", "certctl"),
            default="standard",
            env="CERTCTL_WEBHOOK_FORMAT",
        ),
        *http_options("CERTCTL_WEBHOOK"),
    )
    folds_repeats = True
    guarded = True
    looks = ""
    message_limit = PAYLOAD_LIMIT

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self.default_url: str = self.options["URL"]
        self.signers = [signer(secret) for secret in self.options["SECRETS"]]
        self.as_certctl: bool = self.options["FORMAT"] == "certctl"

    @classmethod
    def warnings(cls, options: Mapping[str, Any]) -> list[CheckMessage]:
        if not options.get("URL") or options.get("SECRETS"):
            return []
        text = "no SECRETS, so receivers cannot tell that a request is yours"
        hint = "Set one (CERTCTL_WEBHOOK_SECRET), such as whsec_ and the base64 of 24 to 64 random bytes."
        return [Warning(text, hint=hint, id="notifications.W004")]

    @classmethod
    def recipient_fault(cls, recipient: str, options: Mapping[str, Any]) -> str:
        try:
            host = urlsplit(target(recipient, options.get("URL") or "")).hostname or ""
            literal = ip_address(host) if ":" in host or host.replace(".", "").isdigit() else None
        except PermanentError as error:
            return error.text
        except ValueError:
            return "its URL cannot be read"
        allowed = options.get("ALLOWED_NETWORKS") or ()
        return (
            ""
            if literal is None or not is_address(recipient) or Guard(allowed).permits(literal)
            else blocked(host).text
        )

    def url(self, message: Message) -> str:
        """The recipient where it is a URL, else URL. Raises PermanentError when neither can be posted to."""
        return target(message.recipient, self.default_url)

    def endpoint(self, message: Message) -> Endpoint:
        """The origin that the row's request goes to; see `Endpoint` for what the prefix means."""
        return endpoint(self.name, message.recipient, self.default_url)

    def guards(self, message: Message) -> bool:
        """URL is the site's own word; what a recipient names may be anybody's."""
        return is_address(message.recipient)

    def payload(self, message: Message) -> bytes:
        if self.as_certctl:
            return as_go(certctl_payload(message, datetime.now(UTC)))
        return fitted(lambda text: payload(message, text), message.message, PAYLOAD_LIMIT)

    def headers(self, message: Message) -> dict[str, str]:
        if self.as_certctl:
            return {"Content-Type": "application/json", "User-Agent": "certctl-notifier/1.0"}
        key = message.key()
        return {"Content-Type": "application/json", "Idempotency-Key": key, "webhook-id": key}

    def signature(self, message: Message, body: bytes) -> dict[str, str]:
        if self.as_certctl:
            return certctl_signature(self.options["SECRETS"], body)
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
        key = f"{fold(channel)} {origin(target(recipient, default))}"
    except PermanentError:
        key = f"{fold(channel)} nowhere"
    if not is_address(recipient):
        return Endpoint(key, channel, exact=True)
    if written := re.match(r"https?://[^/?#]+[/?#]", recipient, re.IGNORECASE):
        return Endpoint(key, channel, written[0])
    return Endpoint(key, channel, recipient, exact=True)


def payload(message: Message, text: str) -> dict[str, Any]:
    return {
        "type": f"certificate.{kind_of(message.type) or 'notification'}",
        "timestamp": message.created_at,
        "data": {
            "id": cut(message.id, NAME_LIMIT),
            "type": message.type,
            "certificate_id": message.certificate_id,
            "message": text,
            "recipient": message.recipient,
            "url": message.url,
        },
    }


def certctl_payload(message: Message, now: datetime) -> dict[str, str]:
    """certctl makes up an event_id; here it is the same on every attempt: a receiver can fold repeats."""
    return {
        "body": message.message,
        "created_at": rfc3339(now),
        "event_id": hashlib.sha256(message.id.encode("utf-8", "replace")).hexdigest()[:32],
        "event_type": "notification",
        "recipient": message.recipient,
        "subject": message.type,
        "type": "event",
    }


def certctl_signature(secrets: Sequence[str], body: bytes) -> dict[str, str]:
    """There is room for one: the first."""
    if not secrets:
        return {}
    key = secrets[0].encode("utf-8", "replace")
    signed = hmac.new(key, body, hashlib.sha256).hexdigest()
    return {"X-Signature": f"sha256={signed}", "X-Signature-Algorithm": "sha256"}


def as_go(content: Mapping[str, str]) -> bytes:
    """The JSON as Go writes a map: in order of the keys, fit for HTML."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.translate(FIT_FOR_HTML).encode("utf-8", "replace")


def rfc3339(at: datetime) -> str:
    """2026-11-26T09:05:00.25Z: without the zeros at the end, as Go writes a time."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


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
