"""A notification as its notifier sees it: plain values, away from the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote as urlquote

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.http import RFC3986_SUBDELIMS

from ..models import NotificationEvent, Status
from ..models.solving import SOLVED_TYPE, solves
from ..notifiers.base import Message
from .claim import NOTHING_ANSWERED, Claimed

PLACE = "place-of-the-id"
PATH_SAFE = f"{RFC3986_SUBDELIMS}/~:@"

Linker = Callable[[str], str]


def message_of(event: NotificationEvent | Claimed, link: Linker) -> Message:
    """The notification as its notifier sees it. link: of `linker`."""
    told = (event.answered, event.opened) if isinstance(event, Claimed) else _told(event)
    return Message(
        event.id,
        event.type,
        event.channel,
        event.recipient,
        event.message,
        event.certificate_id,
        event.created_at,
        event.retry_count + 1,
        link(event.id),
        *told,
    )


def _told(event: NotificationEvent) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Of one that is only looked at."""
    opened = solves(event.dedup_key) if event.type == SOLVED_TYPE else ""
    return NOTHING_ANSWERED, (opened,) if opened else ()


MOST_COMBINED = 20  # notifications in one message: with a line for each it is shown whole


def combined(messages: Sequence[Message]) -> Message:
    """One message to their common recipient; its key is theirs together."""
    keys = "\n".join(sorted(message.key() for message in messages))
    digest = hashlib.sha256(keys.encode()).hexdigest()
    return messages[0]._replace(id=digest, certificate_id=None, combined=tuple(messages))


def linker(base_url: str) -> Linker:
    """From a notification's id to its page in the admin; to "" where the site's address or its admin is
    not known. The page is resolved here, once: for each message that took a fifth of an attempt's time."""
    before, place, after = _page("change", base_url, PLACE).rpartition(PLACE)
    if not place:
        return lambda event_id: ""
    return lambda event_id: f"{before}{urlquote(quote(event_id), safe=PATH_SAFE)}{after}"


def dead_letters(base_url: str) -> str:
    """The admin's dead-letter tab, as in `linker`."""
    page = _page("changelist", base_url)
    return page and f"{page}?status={Status.DEAD}"


def _page(name: str, base_url: str, *args: str) -> str:
    if not base_url:
        return ""
    try:
        path = reverse(f"admin:notifications_notificationevent_{name}", args=args)
    except NoReverseMatch:
        return ""
    base, prefix = base_url.rstrip("/"), get_script_prefix().rstrip("/")
    # The process may know the path of the site's address too.
    return base + (path.removeprefix(prefix) if base.endswith(prefix) else path)
