"""Give back what was claimed and not attempted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from .. import database
from ..models import NotificationEvent, Status
from ..models.fields import UNDELIVERED
from .claim import Claimed, skip_locked


def release(events: Iterable[Claimed], *, due_at: datetime) -> int:
    """Give claimed rows back unattempted: due again at `due_at`, with nothing spent."""
    leases: dict[datetime | None, list[str]] = {}
    for event in events:
        leases.setdefault(event.leased_until, []).append(event.id)
    rows = NotificationEvent.objects.filter(status__in=UNDELIVERED)
    with database.atomic(durable=True):
        return sum(
            rows.filter(pk__in=ids, leased_until=lease, status=Status.PENDING).update(leased_until=None)
            + rows.filter(pk__in=ids, leased_until=lease, status=Status.FAILED).update(
                leased_until=None, next_retry_at=due_at
            )
            for lease, ids in leases.items()
        )


def renew(events: Iterable[Claimed], until: datetime) -> set[str]:
    """Extend the leases of rows that one still holds; answers the ids of those whose lease stood."""
    by_lease: dict[datetime, list[str]] = {}
    for event in events:
        by_lease.setdefault(event.leased_until, []).append(event.id)
    kept: set[str] = set()
    for lease, ids in by_lease.items():
        with database.atomic(durable=True):
            rows = NotificationEvent.objects.filter(pk__in=ids, leased_until=lease, status__in=UNDELIVERED)
            mine = list(skip_locked(rows).values_list("pk", flat=True))
            NotificationEvent.objects.filter(pk__in=mine).update(leased_until=until)
            NotificationEvent.objects.filter(pk__in=mine, status=Status.FAILED).update(next_retry_at=until)
        kept.update(mine)
    return kept
