"""A notification as its notifier sees it: plain values, away from the database."""

from __future__ import annotations

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse

from .leases import Claimed
from .models import NotificationEvent, Status
from .notifiers.base import Message


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
    return _page("change", base_url, event_id)


def dead_letters(base_url: str) -> str:
    """The admin's dead-letter tab, as in `link`."""
    page = _page("changelist", base_url)
    return page and f"{page}?status={Status.DEAD}"


def _page(name: str, base_url: str, *args: str) -> str:
    if not base_url:
        return ""
    try:
        path = reverse(f"admin:notifications_notificationevent_{name}", args=[quote(arg) for arg in args])
    except NoReverseMatch:
        return ""
    return f"{base_url.rstrip('/')}{path}"
