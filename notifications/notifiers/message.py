"""What is between the queue and a notifier: a notification in plain values, and the provider's acceptance."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

SAFE_ID = re.compile(r"[A-Za-z0-9_-]+")


class Message(NamedTuple):
    """One notification as a notifier sees it: plain values, no database.

    id       the notification's, the same on every attempt: the provider's idempotency key
    attempt  1 for the first
    url      the notification's page in the admin, "" when the site's address is not configured
    answered  of a recipient that names several addresses, what became of those that are settled by earlier
              attempts: "" for an accepted one, else the refusal
    combined  those that this one says together
    opened   of a success, the ids of the delivered failures that it ends, where the provider can be told so
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
    answered: Mapping[str, str] = MappingProxyType({})
    opened: tuple[str, ...] = ()
    combined: tuple[Message, ...] = ()

    def key(self, limit: int = 255) -> str:
        """The id where it is safe in a header and within the provider's limit, else its SHA-256."""
        return key_of(self.id, limit)


@lru_cache(maxsize=128)  # a request says it twice
def key_of(id: str, limit: int = 255) -> str:
    safe = len(id) <= limit and SAFE_ID.fullmatch(id)
    return id if safe else hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class Delivered:
    """The provider took it. `status` and `detail` are its own answer; dialogue: as in DeliveryError."""

    status: int | None = None
    detail: str = ""
    dialogue: Sequence[str] = ()
