"""Deleting what is finished and old, a bounded number of rows a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from .. import database
from ..models import NotificationEvent, NotificationQuerySet, SweepRun, Tally
from ..models.tallies import EPOCH
from .walk import Walk

BATCH = 5_000
FIRST_KNOWN = datetime(1, 1, 2, tzinfo=UTC)  # what is before says nothing of when it was


@dataclass(slots=True)
class Pruned:
    """How many rows went, or would go. Attempts and requeues go with their notification."""

    notifications: int = 0
    sweeps: int = 0
    tallies: int = 0

    def __str__(self) -> str:
        return f"{self.notifications} notifications, {self.sweeps} sweeps and {self.tallies} hourly tallies"

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def finished(
    before: datetime, statuses: Collection[str], rows: NotificationQuerySet | None = None
) -> NotificationQuerySet:
    """Delivered before that time, or else known to be raised; of a status that nothing leaves.

    A row that was adopted was raised, as far as its created_at knows, when it got that column.
    """
    rows = NotificationEvent.objects.all() if rows is None else rows
    sent = Q(sent_at__gt=EPOCH)  # certctl writes the year 1 for "not sent"
    old = (sent & Q(sent_at__lt=before)) | (~sent & Q(created_at__range=(FIRST_KNOWN, before)))
    return rows.filter(old, status__in=statuses)


def old_sweeps(before: datetime) -> QuerySet[SweepRun]:
    rows: QuerySet[SweepRun] = SweepRun.objects.filter(ended_at__lt=before).order_by("pk")
    return rows


def old_tallies(before: datetime) -> QuerySet[Tally]:
    """Of hours that were over by then. Never the row of all time."""
    over = before - timedelta(hours=1)
    rows: QuerySet[Tally] = Tally.objects.filter(hour__gt=EPOCH, hour__lte=over).order_by("pk")
    return rows


def count(before: datetime, statuses: Collection[str]) -> Pruned:
    return Pruned(finished(before, statuses).count(), old_sweeps(before).count(), old_tallies(before).count())


def prune(
    before: datetime,
    statuses: Collection[str],
    *,
    batch: int = BATCH,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Pruned]:
    """Delete, and yield the numbers so far after every batch; it may be stopped between two of them."""
    done = Pruned()
    for table, batches in (
        ("notifications", _notifications(before, statuses, batch)),
        ("sweeps", _in_order(old_sweeps(before), batch)),
        ("tallies", _in_order(old_tallies(before), batch)),
    ):
        while not stop() and (deleted := next(batches, None)) is not None:
            setattr(done, table, getattr(done, table) + deleted)
            if deleted:
                yield done


def _notifications(before: datetime, statuses: Collection[str], batch: int) -> Iterator[int]:
    """Oldest first, past what is kept. How many of each batch were deleted.

    What was adopted is the oldest that there is, so behind `before` it goes on while it finds some of that.
    """
    rows = NotificationEvent.objects
    parts = {"old": rows.filter(created_at__lt=before), "adopted": rows.filter(created_at__gte=before)}
    walk = Walk(parts, lambda some: finished(before, statuses, some), newest_first=False)
    found, cursor = walk.batch(None, batch)
    while found or (cursor and cursor[0] == "old"):
        still = finished(before, statuses, rows.filter(pk__in=[pk for _, pk in found]))
        yield _delete(still, batch) if found else 0
        found, cursor = walk.batch(cursor, batch) if cursor else ([], None)


def _in_order(rows: QuerySet[Any], batch: int) -> Iterator[int]:
    while deleted := _delete(rows, batch):
        yield deleted
        if deleted < batch:
            return


def _delete(rows: QuerySet[Any], batch: int) -> int:
    """Delete the first rows, locked, so that they are still what the filter said. Rows in use are left."""
    model, features = rows.model, database.connection().features
    with database.atomic():
        if features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        ids = list(rows.values_list("pk", flat=True)[:batch])
        model.objects.filter(pk__in=ids).delete()
    return len(ids)
