"""What can be seen of an alert when it is raised: that nobody will deliver it, or not to this recipient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from .base import notifier_class
from .options import faults

logger = logging.getLogger(__name__)


def warnings_of(channel: str, recipient: str) -> tuple[str, ...]:
    """Why nothing may be delivered, a phrase each; nothing where the settings cannot be read."""
    try:
        settings = conf.current()
    except ImproperlyConfigured:
        return ()
    name = settings.channel(channel)
    if name is None:
        return (f"the channel {channel} has no notifier",)
    try:
        return tuple(_against(name, settings.channels[name], recipient))
    except Exception:  # a site's own notifier: its alerts are raised all the same
        logger.exception("the channel %s cannot say whether it can deliver", name)
        return ()


def _against(name: str, options: Mapping[str, Any], recipient: str) -> Iterator[str]:
    try:
        notifier = notifier_class(options)
    except (ImportError, TypeError) as error:
        yield f"the channel {name} has no notifier that can be used: {error}"
        return
    for fault in (*faults(notifier.declared_options or (), options), *notifier.option_faults(options)):
        yield f"the channel {name} cannot deliver: {fault}"
    if fault := notifier.recipient_fault(recipient, options):
        yield f"the channel {name} cannot deliver to this recipient: {fault}"
