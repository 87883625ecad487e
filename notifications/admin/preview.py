"""What each channel would send for a notification, as far as that can be shown: no secrets in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..exceptions import DeliveryError
from ..models import NotificationEvent
from ..notifiers.base import JsonNotifier, Message, Notifier, load
from ..notifiers.email import EmailNotifier
from ..notifiers.webhook import PAYLOAD_LIMIT, WebhookNotifier
from ..notifiers.webhook import payload as webhook_payload
from ..queue.messages import linker, message_of
from ..text import REDACTED, fitted, redact

SECRET_NAME = re.compile(r"secret|token|password|_key$|apikey", re.IGNORECASE)
NO_SECRET = {"dedup_key"}


@dataclass(frozen=True, slots=True)
class Preview:
    """One channel's rendering; `own`: the notification's own channel. fault: why there is none."""

    channel: str
    own: bool
    text: str = ""
    fault: str = ""


def previews(event: NotificationEvent) -> list[Preview]:
    """Every configured channel's, the notification's own first."""
    settings = conf.current()
    own = settings.channel(event.channel)
    names = sorted(settings.channels, key=lambda name: name != own)
    message = message_of(event, linker(settings.base_url))
    found = [_preview(message, name, settings, name == own) for name in names]
    if own is None:
        found.insert(0, Preview(event.channel, True, fault="no notifier is configured for this channel"))
    return found


def _preview(message: Message, name: str, settings: conf.Conf, own: bool) -> Preview:
    try:
        notifier = load(name, settings.channels[name], settings.send_timeout.total_seconds())
        text = redact("\n".join(_rendered(notifier, message)), notifier.http.secrets)
    except (DeliveryError, ImproperlyConfigured) as error:
        return Preview(name, own, fault=str(error))
    return Preview(name, own, text=text)


def _rendered(notifier: Notifier, message: Message) -> Iterator[str]:
    if isinstance(notifier, EmailNotifier):
        email = notifier.compose(message)
        yield from (f"{name}: {value}" for name, value in email.message().items())
        yield f"\n{email.body}"
    elif isinstance(notifier, WebhookNotifier):
        notifier.target(message)
        body = fitted(lambda text: webhook_payload(message, text), message.message, PAYLOAD_LIMIT)
        yield pretty(body)
    elif isinstance(notifier, JsonNotifier):
        yield pretty(notifier.payload(message))
    else:
        yield f"{notifier.subject(message)}\n\n{notifier.body(message)}"


def pretty(body: bytes) -> str:
    return json.dumps(without_secrets(json.loads(body)), indent=2, ensure_ascii=False)


def without_secrets(value: object, name: str = "") -> object:
    """By the names of the fields; what the settings call secret is redacted by its value besides."""
    if isinstance(value, dict):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner, name) for inner in value]
    is_secret = SECRET_NAME.search(name) and name not in NO_SECRET
    return REDACTED if is_secret and value else value
