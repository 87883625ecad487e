"""Which notifications a call means, and one page of them: numbered, or read on from a cursor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q
from rest_framework.exceptions import ValidationError

from ..models import NotificationEvent, NotificationQuerySet

NEWEST_FIRST = ("-created_at", "-id")
# Microseconds since 1970, and an id: the last notification that was read.
CURSOR = r"(-?\d{1,16})\.([^\x00]+)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SEARCHED = ("recipient", "certificate_id", "message", "error", "last_error")


def matching(filters: Mapping[str, Any]) -> NotificationQuerySet:
    """The notifications that `filters` (serializers.Filters) means; an empty value does not narrow."""
    rows: NotificationQuerySet = NotificationEvent.objects.all()
    for name in ("status", "type", "certificate_id"):
        if value := filters.get(name):
            rows = rows.filter(**{name: value})
    if channel := filters.get("channel"):
        rows = rows.on_channel(channel)
    if error := filters.get("error"):
        rows = rows.filter(last_error__icontains=error)
    for word in filters.get("search", "").split():
        anywhere = Q(id=word)
        for field in SEARCHED:
            anywhere |= Q(**{f"{field}__icontains": word})
        rows = rows.filter(anywhere)
    return rows


def numbered(rows: NotificationQuerySet, page: int, per_page: int) -> tuple[list[NotificationEvent], int]:
    """(the page's notifications, how many there are in all); past the end a page is empty."""
    total = rows.count()
    start = (page - 1) * per_page
    found = list(rows.order_by(*NEWEST_FIRST)[start : start + per_page]) if start < total else []
    return found, total


def read_on(
    rows: NotificationQuerySet, cursor: str, per_page: int
) -> tuple[list[NotificationEvent], str | None]:
    """(the next notifications after `cursor`, the cursor after them, or None at the end).

    Costs the same however far it has read, and meets every notification once: new ones are newer.
    """
    if cursor:
        created_at, event_id = position(cursor)
        # The first condition bounds the walk along the index, which the second alone would not.
        rows = rows.filter(created_at__lte=created_at).exclude(created_at=created_at, id__gte=event_id)
    found = list(rows.order_by(*NEWEST_FIRST)[: per_page + 1])
    return found[:per_page], cursor_after(found[per_page - 1]) if len(found) > per_page else None


def cursor_after(event: NotificationEvent) -> str:
    return f"{(event.created_at - EPOCH) // timedelta(microseconds=1)}.{event.pk}"


def position(cursor: str) -> tuple[datetime, str]:
    """What cursor_after wrote. Raises ValidationError for anything else."""
    found = re.fullmatch(CURSOR, cursor, re.ASCII)
    if not found:
        raise ValidationError({"cursor": ["Not a cursor: use a next_cursor as it came, or an empty one."]})
    return EPOCH + timedelta(microseconds=int(found[1])), found[2]
