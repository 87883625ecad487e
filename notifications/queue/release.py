"""Give back what was claimed and not attempted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from .. import database
from ..models import NotificationEvent, Status
from ..models.fields import UNDELIVERED
from .claim import Claimed


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
