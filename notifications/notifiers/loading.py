"""From a channel's settings to its notifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..text import redact
from .base import Notifier
from .http.client import HttpClient
from .http.proxy import Proxies
from .message import Message
from .options import COMMON_OPTIONS, faults
from .tls import TlsFiles


def notifier_class(options: Mapping[str, Any]) -> type[Notifier]:
    """The class that a channel's settings name. Raises ImportError or TypeError where there is none."""
    try:
        found = import_string(options["NOTIFIER"])
    except (AttributeError, TypeError, ValueError) as error:
        raise ImportError(str(error)) from error
    if not (isinstance(found, type) and issubclass(found, Notifier)):
        raise TypeError(f"{options['NOTIFIER']} is not a subclass of notifications.notifiers.base.Notifier")
    return found


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Patterns of the secrets in a channel's settings, whatever its notifier is."""
    try:
        return notifier_class(options).secrets(options)
    except (ImportError, KeyError, TypeError):
        return Notifier.secrets(options)


def preview_of(notifier: Notifier, message: Message) -> str:
    """The notifier's preview, without secrets. Raises what the notifier raises."""
    return redact(notifier.preview(message), notifier.http.secrets)


def load(name: str, options: Mapping[str, Any], timeout: float) -> Notifier:
    """The notifier of a configured channel; timeout: seconds for one attempt.

    Raises ImproperlyConfigured, in one line that names the channel, when it cannot be made. An option
    that is only missing raises nothing here: the rows of that channel die and say so, the others go out.
    """
    try:
        made_of = notifier_class(options)
        if found := list(faults(COMMON_OPTIONS, options)):
            raise ValueError("; ".join(found))
        http = HttpClient(
            timeout=own_deadline(timeout),
            allowed=options.get("ALLOWED_NETWORKS") or (),
            secrets=made_of.secrets(options),
            **the_way(options),
        )
        notifier = made_of(options, http)
    except (ImportError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"channel {name}: {error}") from error
    notifier.name = name
    return notifier


def the_way(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a channel's requests go through, and what they show: HttpClient's arguments."""
    files = TlsFiles.made_of(options)
    return {
        "proxies": Proxies.made_of(options.get("PROXY")),
        "headers": options.get("HEADERS") or {},
        "home": str(options.get("URL") or ""),
        **({"tls": files.context} if files else {}),
    }


def own_deadline(timeout: float) -> float:
    """A little before the engine's: the notifier knows how far it came, the engine does not."""
    return timeout - min(1.0, timeout / 20)
