"""Give back what was claimed and not attempted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from django.db.models import Case, F, Value, When

from .. import database
from ..database import PAUSES
from ..models import NotificationEvent, Status
from ..models.fields import UNDELIVERED
from .batch import in_parts, reason_of
from .claim import Claimed, skip_locked

logger = logging.getLogger(__name__)


class Released(NamedTuple):
    """rows: how many are free again; locked: the ids of those still ours, which others hold locked."""

    rows: int = 0
    locked: frozenset[str] = frozenset()


def release(events: Iterable[Claimed], *, due_at: datetime, pauses: Sequence[float] = PAUSES) -> Released:
    """Give claimed rows back unattempted: due again at `due_at`, with nothing spent.

    What the database refuses is left: its lease runs out, as if it had been attempted.
    """
    leases: dict[datetime, list[str]] = {}
    for event in events:
        leases.setdefault(event.leased_until, []).append(event.id)
    return _release_all(leases, due_at, pauses)


def take_back(lease: datetime, *, due_at: datetime) -> Released:
    """Give back what a claim took whose answer never came, so that nobody knows which rows it was: its lease
    is the only one of that time."""
    rows = NotificationEvent.objects.filter(leased_until=lease, status__in=UNDELIVERED)
    return _release_all({lease: list(rows.values_list("pk", flat=True))}, due_at, PAUSES)


def _release_all(leases: Mapping[datetime, list[str]], due_at: datetime, pauses: Sequence[float]) -> Released:
    parts = [
        part
        for lease, ids in leases.items()
        for part in in_parts(ids, partial(_release, lease=lease, due_at=due_at), _left, "releasing", pauses)
    ]
    return Released(
        sum(part.rows for part in parts), frozenset[str]().union(*(part.locked for part in parts))
    )


def _release(ids: Sequence[str], *, lease: datetime, due_at: datetime) -> Released:
    mine = NotificationEvent.objects.filter(leased_until=lease, status__in=UNDELIVERED)
    due = Case(When(status=Status.FAILED, then=Value(due_at)), default=F("next_retry_at"))
    with database.atomic(durable=True):
        free = list(skip_locked(mine.filter(pk__in=ids)).values_list("pk", flat=True))
        changed: int = mine.filter(pk__in=free).update(leased_until=None, next_retry_at=due)
        left = mine.filter(pk__in=ids).values_list("pk", flat=True) if changed < len(ids) else ()
        return Released(changed, frozenset(left))


def _left(pk: str, error: Exception) -> Released:
    logger.error("notification %s was not released: %s", pk, reason_of(error))
    return Released()


def renew(events: Iterable[Claimed], until: datetime, unheard: Collection[datetime] = ()) -> set[str]:
    """Extend the leases of rows that one still holds; answers the ids of those whose lease stood.

    unheard  to what they may stand already: earlier renewals, whose answers never came
    """
    by_lease: dict[datetime, list[str]] = {}
    for event in events:
        by_lease.setdefault(event.leased_until, []).append(event.id)
    kept: set[str] = set()
    for lease, ids in by_lease.items():
        these = partial(_renew, leases=[lease, *unheard], until=until)
        parts = in_parts(ids, these, _not_renewed, "renewing")
        kept.update(*parts)
    return kept


def _renew(ids: Sequence[str], *, leases: Sequence[datetime], until: datetime) -> list[str]:
    with database.atomic(durable=True):
        rows = NotificationEvent.objects.filter(pk__in=ids, leased_until__in=leases, status__in=UNDELIVERED)
        mine = list(skip_locked(rows).values_list("pk", flat=True))
        NotificationEvent.objects.filter(pk__in=mine).update(leased_until=until)
        NotificationEvent.objects.filter(pk__in=mine, status=Status.FAILED).update(next_retry_at=until)
    return mine


def _not_renewed(pk: str, error: Exception) -> list[str]:
    logger.error("the lease of notification %s was not extended: %s", pk, reason_of(error))
    return []
