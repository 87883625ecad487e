"""One row's fault is its own: what the database refuses of many is found, and the others are written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from django.db.models import Exists, OuterRef

from .. import database
from ..database import PAUSES, kind_of, persistently, said
from ..models import NotificationQuerySet, Refusal

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")
LONGEST_REASON = 300
REFUSED_AGAIN = timedelta(hours=1)  # until what the database refused is tried again


def in_parts(
    items: Sequence[Item],
    write: Callable[[Sequence[Item]], Answer],
    refused: Callable[[Item, Exception], Answer],
    what: str,
    pauses: Sequence[float] = PAUSES,
) -> list[Answer]:
    """What `write`, a transaction of its own, answers for all the items at once; where the database refuses
    them, for ever smaller parts, down to the one that it refuses, which is given to `refused`.

    what    is done, for the log
    pauses  seconds before each new try where others are in the way
    """
    if not items:
        return []
    try:
        return [persistently(partial(write, items), what, pauses)]
    except Exception as error:
        if kind_of(error) != "refused":
            raise
        if len(items) == 1:
            return [refused(items[0], error)]
    half = len(items) // 2
    parts = (items[:half], items[half:])
    return [answer for part in parts for answer in in_parts(part, write, refused, what, pauses)]


def not_refused(rows: NotificationQuerySet, now: datetime) -> NotificationQuerySet:
    """Without those that the database refused of late: what made it refuse them may be gone by and by."""
    lately = Refusal.objects.filter(notification=OuterRef("pk"), at__gt=now - REFUSED_AGAIN)
    return rows.exclude(Exists(lately))


def reason_of(error: Exception) -> str:
    """Why the database refused, in words that every database takes."""
    text = f"the database refused to record what became of it: {said(error)}"
    return text.encode("ascii", "replace").decode()[:LONGEST_REASON]


def put_on_record(pk: str, verb: str, error: Exception, now: datetime) -> None:
    """Nothing could be written into the notification's row: say so where an operator sees it."""
    logger.error("notification %s is left as it is: %s", pk, reason_of(error))
    try:
        with database.atomic():
            Refusal.objects.filter(notification=pk).delete()  # one is enough, however often it is tried
            Refusal.objects.create(notification_id=pk, verb=verb, at=now, error=reason_of(error))
    except Exception as fault:
        if kind_of(fault) != "refused":
            raise
