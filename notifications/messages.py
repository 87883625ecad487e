"""A notification as its notifier sees it: plain values, away from the database."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote as urlquote

from django.conf import settings
from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, get_script_prefix, get_urlconf, reverse
from django.utils.http import RFC3986_SUBDELIMS

from .leases import Claimed
from .models import NotificationEvent, Status
from .notifiers.base import Message

PLACE = "place-of-the-id"
PATH_SAFE = f"{RFC3986_SUBDELIMS}/~:@"


def message_of(event: NotificationEvent | Claimed, base_url: str) -> Message:
    """The notification as its notifier sees it."""
    return Message(
        id=event.id,
        type=event.type,
        channel=event.channel,
        recipient=event.recipient,
        message=event.message,
        certificate_id=event.certificate_id,
        created_at=event.created_at,
        attempt=event.retry_count + 1,
        url=link(event.id, base_url),
    )


def link(event_id: str, base_url: str) -> str:
    """The notification's page in the admin; "" where the site's address or its admin is not known."""
    before, _, after = _page("change", base_url, PLACE).rpartition(PLACE)
    return before and f"{before}{urlquote(quote(event_id), safe=PATH_SAFE)}{after}"


def dead_letters(base_url: str) -> str:
    """The admin's dead-letter tab, as in `link`."""
    page = _page("changelist", base_url)
    return page and f"{page}?status={Status.DEAD}"


def _page(name: str, base_url: str, *args: str) -> str:
    where = get_urlconf() or settings.ROOT_URLCONF, get_script_prefix()
    return base_url and _resolved(name, base_url, args, *where)


@lru_cache(maxsize=32)
def _resolved(name: str, base_url: str, args: tuple[str, ...], urlconf: str, prefix: str) -> str:
    """Remembered, as resolving a page for each message would take a fifth of an attempt."""
    try:
        path = reverse(f"admin:notifications_notificationevent_{name}", urlconf=urlconf, args=args)
    except NoReverseMatch:
        return ""
    return f"{base_url.rstrip('/')}{path}"
