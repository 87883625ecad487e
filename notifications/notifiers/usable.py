"""What can be seen of an alert when it is raised: that nobody will deliver it, or not to this recipient."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from .base import Notifier
from .loading import notifier_class
from .options import faults

logger = logging.getLogger(__name__)


class Doubts:
    """What the settings say now against alerts, for any number of them."""

    def __init__(self) -> None:
        try:
            self._settings: conf.Conf | None = conf.current()
        except ImproperlyConfigured:
            self._settings = None
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}
        self._of_channels: dict[str, tuple[type[Notifier] | None, list[str]]] = {}

    def about(self, channel: str, recipient: str) -> tuple[str, ...]:
        """Why nothing may be delivered, a phrase each; nothing where the settings cannot be read."""
        if self._settings is None:
            return ()
        if (channel, recipient) not in self._known:
            self._known[channel, recipient] = self._about(self._settings, channel, recipient)
        return self._known[channel, recipient]

    def _about(self, settings: conf.Conf, channel: str, recipient: str) -> tuple[str, ...]:
        name = settings.channel(channel)
        if name is None:
            return (f"the channel {channel} has no notifier",)
        options = settings.channels[name]
        try:
            if name not in self._of_channels:
                self._of_channels[name] = _channel(name, options)
            notifier, found = self._of_channels[name]
            if notifier and (fault := notifier.recipient_fault(recipient, options)):
                found = [*found, f"the channel {name} cannot deliver to this recipient: {fault}"]
        except Exception:  # a site's own notifier: its alerts are raised all the same
            logger.exception("the channel %s cannot say whether it can deliver", name)
            return ()
        return tuple(found)


def _channel(name: str, options: Mapping[str, Any]) -> tuple[type[Notifier] | None, list[str]]:
    """Its notifier, and what is wrong with it whoever the recipient is."""
    try:
        notifier = notifier_class(options)
    except (ImportError, TypeError) as error:
        return None, [f"the channel {name} has no notifier that can be used: {error}"]
    found = [*faults(notifier.declared_options or (), options), *notifier.option_faults(options)]
    return notifier, [f"the channel {name} cannot deliver: {fault}" for fault in found]
