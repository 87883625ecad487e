"""A notification as its notifier sees it: plain values, away from the database."""

from __future__ import annotations

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse

from .models import NotificationEvent
from .notifiers.base import Message


def message_of(event: NotificationEvent, base_url: str) -> Message:
    """The notification as its notifier sees it."""
    return Message(
        id=event.pk,
        type=event.type,
        channel=event.channel,
        recipient=event.recipient,
        message=event.message,
        certificate_id=event.certificate_id,
        created_at=event.created_at,
        attempt=event.retry_count + 1,
        url=link(event.pk, base_url),
    )


def link(event_id: str, base_url: str) -> str:
    """The notification's page in the admin; "" where the site's address or its admin is not known."""
    if not base_url:
        return ""
    try:
        path = reverse("admin:notifications_notificationevent_change", args=[quote(event_id)])
    except NoReverseMatch:
        return ""
    return f"{base_url.rstrip('/')}{path}"
