"""What each channel would send for a notification, as far as that can be shown: no secrets in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..exceptions import DeliveryError
from ..models import NotificationEvent
from ..notifiers.base import Message, load, preview_of
from ..queue.messages import linker, message_of

logger = logging.getLogger(__name__)


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
        return Preview(name, own, text=preview_of(notifier, message))
    except (DeliveryError, ImproperlyConfigured) as error:
        return Preview(name, own, fault=str(error))
    except Exception as error:  # a site's own notifier can raise anything
        logger.exception("no preview for the channel %s", name)
        return Preview(name, own, fault=f"its notifier failed: {type(error).__name__}")
