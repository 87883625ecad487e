"""What each channel would send for a notification, as far as that can be shown: no secrets in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..exceptions import DeliveryError
from ..models import NotificationEvent
from ..notifiers.base import Message, Notifier
from ..notifiers.loading import load, preview_of
from ..notifiers.wording import Fact, Words
from ..queue.messages import linker, message_of
from ..text import cut, redact

logger = logging.getLogger(__name__)

SHOWN = 3_000  # characters of a text in a picture


@dataclass(frozen=True, slots=True)
class Preview:
    """One channel's rendering.

    own     it is the notification's own channel
    looks   how it is read: see Notifier.looks
    words   what is said, None where programs read it
    text    what is handed over: JSON, or a mail
    fault   why nothing can be sent
    """

    channel: str
    own: bool
    looks: str = ""
    words: Words | None = None
    text: str = ""
    fault: str = ""


def previews(event: NotificationEvent) -> list[Preview]:
    """Every configured channel's, the notification's own first."""
    settings = conf.current()
    own = settings.channel(event.channel)
    names = sorted(settings.channels, key=lambda name: name != own)
    found = [preview(event, name, settings) for name in names]
    if own is None:
        found.insert(0, Preview(event.channel, True, fault="no notifier is configured for this channel"))
    return found


def preview(event: NotificationEvent, channel: str, settings: conf.Conf) -> Preview:
    """What the channel, named as the settings spell it, would send now."""
    message = message_of(event, linker(settings.base_url))
    own = channel == settings.channel(event.channel)
    try:
        notifier = load(channel, settings.channels[channel], settings.send_timeout.total_seconds())
        text = preview_of(notifier, message)
        words = _words(notifier, message) if notifier.looks else None
    except (DeliveryError, ImproperlyConfigured) as error:
        return Preview(channel, own, fault=str(error))
    except Exception as error:  # a site's own notifier can raise anything
        logger.exception("no preview for the channel %s", channel)
        return Preview(channel, own, fault=f"its notifier failed: {type(error).__name__}")
    return Preview(channel, own, notifier.looks, words, text)


def _words(notifier: Notifier, message: Message) -> Words:
    def shown(text: str) -> str:
        return redact(cut(text, SHOWN), notifier.http.secrets)

    words = notifier.words(message)
    return replace(
        words,
        headline=shown(words.headline),
        text=shown(words.text),
        detail=shown(words.detail),
        facts=tuple(Fact(label, shown(value)) for label, value in words.facts),
        link=shown(words.link),
    )
