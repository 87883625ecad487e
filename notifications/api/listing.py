"""One page of the notifications that a call means: numbered, or read on from a cursor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from rest_framework.exceptions import ValidationError

from ..models import NotificationEvent, NotificationQuerySet
from ..operations import filters
from ..operations.walk import NEWEST, Place, beyond


def chosen(given: Mapping[str, Any]) -> filters.Filters:
    """The filters among what a serializer let through. Raises ValidationError, which names the bad one."""
    try:
        return filters.parse(given, timezone.now())
    except filters.Meaningless as error:
        raise ValidationError({error.name: [str(error)]}) from error


def numbered(
    rows: NotificationQuerySet, page: int, per_page: int, order: str = "newest"
) -> tuple[list[NotificationEvent], int]:
    """(the page's notifications, how many there are in all); past the end a page is empty.

    order  newest, or ends: what ends first in front
    """
    total = rows.count()
    start = (page - 1) * per_page
    rows = rows.soonest_first() if order == "ends" else rows.order_by(*NEWEST)
    return told_apart(rows.in_page(per_page, start)) if start < total else [], total


def read_on(
    rows: NotificationQuerySet, cursor: str, per_page: int
) -> tuple[list[NotificationEvent], str | None]:
    """(the next notifications after `cursor`, the cursor after them, or None at the end).

    Costs the same however far it has read, and meets every notification once: new ones are newer.
    Raises ValidationError for what is no cursor.
    """
    try:
        place = Place.of(cursor) if cursor else None
    except ValueError as error:
        said = "Not a cursor: use a next_cursor as it came, or an empty one."
        raise ValidationError({"cursor": [said]}) from error
    found = told_apart(beyond(rows, place).in_page(per_page + 1))
    if len(found) <= per_page:
        return found, None
    last = found[per_page - 1]
    return found[:per_page], Place(last.created_at, last.pk).text


def told_apart(events: list[NotificationEvent]) -> list[NotificationEvent]:
    """The same, where each knows how it came to be read, and when its certificate ends: asked once for all
    that are read, and of no notification that the page skipped."""
    known = ("was_dismissed", "was_withdrawn", "not_after")
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=[event.pk for event in events])
    found = {row["pk"]: row for row in rows.with_kind().values("pk", *known)} if events else {}
    for event in events:
        vars(event).update({name: found[event.pk][name] for name in known if event.pk in found})
    return events
