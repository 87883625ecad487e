"""What a notifier is: the object that speaks to one channel's provider.

A site adds a channel of its own with a subclass and an entry in NOTIFICATIONS["CHANNELS"].
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .http import HttpClient


@dataclass(frozen=True, slots=True)
class Message:
    """One notification as a notifier sees it: plain values, no database.

    id       the notification's, the same on every attempt: the provider's idempotency key
    attempt  1 for the first
    url      the notification's page in the admin, "" when the site's address is not configured
    """

    id: str
    type: str
    channel: str
    recipient: str
    message: str
    certificate_id: str | None
    created_at: datetime
    attempt: int = 1
    url: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The provider took it. `status` and `detail` are its own answer."""

    status: int | None = None
    detail: str = ""


class Notifier:
    """Speaks to one channel's provider.

    `options` is the channel's dict of settings. `send` returns Delivered, or raises TransientError,
    UnknownOutcome or PermanentError; anything else that it raises counts as transient.
    """

    # Whether the provider folds a repeated message with the same id into the first.
    folds_repeats: ClassVar[bool] = False

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        self.options = options
        self.http = http

    def endpoint(self, message: Message) -> str:
        """Names what can be down on its own: a host, a mail server, a provider's API."""
        return message.channel.casefold()

    async def send(self, message: Message) -> Delivered:
        raise NotImplementedError(f"{type(self).__name__} must define send")

    async def close(self) -> None:
        """Give back what `send` holds on to."""


class SyncNotifier(Notifier):
    """A notifier whose provider's library blocks: `deliver` runs in a thread of the channel's own pool."""

    threads: ClassVar[int] = 8

    def __init__(self, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(options, http)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=type(self).__name__)

    def deliver(self, message: Message) -> Delivered:
        raise NotImplementedError(f"{type(self).__name__} must define deliver")

    async def send(self, message: Message) -> Delivered:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.deliver, message)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def load(name: str, options: Mapping[str, Any], timeout: float) -> Notifier:
    """The notifier of a configured channel; timeout: seconds for one request.

    Raises ImproperlyConfigured, in one line that names the channel, when it cannot be made.
    """
    try:
        notifier_class = import_string(options["NOTIFIER"])
        http = HttpClient(timeout=timeout, allowed=options.get("ALLOWED_NETWORKS", ()))
        notifier: Notifier = notifier_class(options, http)
    except (ImportError, ValueError) as error:
        raise ImproperlyConfigured(f"channel {name}: {error}") from error
    return notifier
