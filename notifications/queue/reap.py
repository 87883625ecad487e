"""What dead workers and other programs left behind: ended leases, spent budgets, stranded rows.

Rows that others hold locked are passed over, and those that the database refuses are set aside.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import Case, F, Q, Value, When

from .. import database
from ..database import PAUSES, kind_of
from ..deaths.follow import follow
from ..models import (
    INTERRUPTED,
    INTERRUPTED_AGAIN,
    INTERRUPTED_ERROR,
    INTERRUPTED_OFTEN,
    HandOver,
    NotificationEvent,
    NotificationQuerySet,
    Refusal,
    Status,
    tallies,
)
from ..models.conditions import DUE
from ..models.fields import UNDELIVERED
from .batch import REFUSED_AGAIN, in_parts, not_refused, put_on_record, reason_of
from .claim import skip_locked
from .mend import mend

logger = logging.getLogger(__name__)

SPENT_ERROR = "no attempt left: retry_count had reached the maximum"
NO_LEASE = datetime(9000, 1, 1, tzinfo=UTC)  # no worker has leased until then: another program wrote it
NEVER = Q(status=Status.FAILED, next_retry_at__gte=NO_LEASE)
FORGOTTEN = timedelta(days=1)  # a batch that was handed over and whose lease ended so long ago
PART = 1000  # rows in one transaction
SEEN = ("status", "retry_count", "channel", "leased_until", "created_at")


def reap(
    rows: NotificationQuerySet,
    *,
    now: datetime,
    max_attempts: int,
    limit: int,
    pauses: Sequence[float] = PAUSES,
) -> tuple[int, int]:
    """End the leases that ran out: (due again, dead). What waits for a time that never comes is due now.

    The lost attempt counts, so that a notification that kills its worker cannot do so for ever, and says that
    it was interrupted: what died together is not claimed together again (engine.sender).
    """
    mend(now=now)
    HandOver.objects.filter(leased_until__lt=now - FORGOTTEN).delete()
    Refusal.objects.filter(at__lt=now - 2 * REFUSED_AGAIN).delete()  # it was tried again, and taken
    _unlease_what_nobody_leased(rows, now=now, pauses=pauses)
    _schedule_what_never_comes(rows, now=now, pauses=pauses)
    over = not_refused(rows, now).filter(leased_until__lte=now).order_by("leased_until")
    ended = _changed(over, partial(_reap, now=now, max_attempts=max_attempts), "reap", now, limit, pauses)
    return ended["again"], ended["dead"]


def _reap(ids: Sequence[str], *, now: datetime, max_attempts: int) -> Counter[str]:
    everything = NotificationEvent.objects
    with database.atomic(durable=True):
        over = everything.filter(pk__in=ids, leased_until__lte=now).order_by("leased_until")
        lost = list(skip_locked(over.only(*SEEN)))
        unbegun = _release_unbegun(lost, now)
        waiting = [e for e in lost if e.status in UNDELIVERED and e.leased_until not in unbegun]
        dying = [event.pk for event in waiting if event.retry_count >= max_attempts - 1]
        mine = everything.filter(pk__in=[event.pk for event in lost], leased_until__lte=now)
        interrupted = Case(
            When(last_error=INTERRUPTED_ERROR, then=Value(INTERRUPTED_AGAIN)),
            When(last_error__startswith=INTERRUPTED, then=Value(INTERRUPTED_OFTEN)),
            default=Value(INTERRUPTED_ERROR),
        )
        dead = mine.filter(pk__in=dying).update(
            status=Status.DEAD, leased_until=None, next_retry_at=None, last_error=interrupted
        )
        again = mine.filter(status__in=UNDELIVERED).update(
            status=Status.FAILED,
            leased_until=None,
            next_retry_at=now,
            retry_count=F("retry_count") + 1,
            last_error=interrupted,
        )
        # Another program finished these while we held them; only the lease is left over.
        mine.exclude(status__in=UNDELIVERED).update(leased_until=None)
        follow(everything.all(), dying, now=now)
        tallies.interrupted(waiting, now=now)
    return Counter(again=again, dead=dead)


def _release_unbegun(lost: Sequence[NotificationEvent], now: datetime) -> set[datetime]:
    """Batches that were handed over, and that no worker of the task engine began with: nothing was attempted,
    so nothing is spent. Answers their leases."""
    leases = {event.leased_until for event in lost if event.leased_until}
    batches = HandOver.objects.filter(leased_until__in=leases, begun_at__isnull=True)
    unbegun = set(batches.values_list("leased_until", flat=True))
    if unbegun:
        ids = [event.pk for event in lost if event.leased_until in unbegun]
        mine = NotificationEvent.objects.filter(pk__in=ids, status__in=UNDELIVERED, leased_until__lte=now)
        due = Case(When(status=Status.FAILED, then=Value(now)), default=F("next_retry_at"))
        mine.update(leased_until=None, next_retry_at=due)
    return unbegun


def bury(
    rows: NotificationQuerySet,
    *,
    now: datetime,
    max_attempts: int,
    limit: int,
    pauses: Sequence[float] = PAUSES,
) -> int:
    """Dead-letter the due rows that have no attempt left, so that no row waits for ever unseen."""
    spent = not_refused(rows, now).spent(now, max_attempts).order_by("next_retry_at")
    return _changed(spent, partial(_bury, now=now, max_attempts=max_attempts), "bury", now, limit, pauses)[
        "dead"
    ]


def _bury(ids: Sequence[str], *, now: datetime, max_attempts: int) -> Counter[str]:
    spent = NotificationEvent.objects.spent(now, max_attempts)
    with database.our_word(durable=True):
        free = list(skip_locked(spent.filter(pk__in=ids)).values_list("pk", flat=True))
        mine = spent.filter(pk__in=free)
        mine.filter(last_error__isnull=True).update(last_error=SPENT_ERROR)
        dead = mine.update(status=Status.DEAD, next_retry_at=None, leased_until=None)
        follow(NotificationEvent.objects.all(), free, now=now)
    return Counter(dead=dead)


def schedule_stranded(
    rows: NotificationQuerySet, *, now: datetime, limit: int, pauses: Sequence[float] = PAUSES
) -> int:
    """Make rows that another program left failed and unscheduled due now; answers how many.

    rows  among them; all that are stranded are meant
    """
    chosen = not_refused(rows, now).stranded().filter(leased_until__isnull=True).order_by(DUE)
    return _changed(chosen, partial(_schedule, now=now), "schedule", now, limit, pauses)["again"]


def _schedule(ids: Sequence[str], *, now: datetime) -> Counter[str]:
    stranded = NotificationEvent.objects.stranded().filter(leased_until__isnull=True)
    with database.atomic(durable=True):
        free = list(skip_locked(stranded.filter(pk__in=ids)).values_list("pk", flat=True))
        return Counter(again=stranded.filter(pk__in=free).update(next_retry_at=now))


def _unlease_what_nobody_leased(
    rows: NotificationQuerySet, *, now: datetime, pauses: Sequence[float]
) -> None:
    """PostgreSQL's infinity, say: it would never end."""
    odd = not_refused(rows, now).filter(leased_until__gte=NO_LEASE).order_by("leased_until")
    _changed(odd, _unlease, "unlease", now, PART, pauses)


def _unlease(ids: Sequence[str]) -> Counter[str]:
    odd = NotificationEvent.objects.filter(leased_until__gte=NO_LEASE)
    with database.atomic(durable=True):
        free = list(skip_locked(odd.filter(pk__in=ids)).values_list("pk", flat=True))
        return Counter(again=odd.filter(pk__in=free).update(leased_until=None))


def _schedule_what_never_comes(rows: NotificationQuerySet, *, now: datetime, pauses: Sequence[float]) -> None:
    never = not_refused(rows, now).filter(NEVER, leased_until__isnull=True).order_by("next_retry_at")
    _changed(never, partial(_schedule_now, now=now), "schedule", now, PART, pauses)


def _schedule_now(ids: Sequence[str], *, now: datetime) -> Counter[str]:
    never = NotificationEvent.objects.filter(NEVER, leased_until__isnull=True)
    with database.atomic(durable=True):
        free = list(skip_locked(never.filter(pk__in=ids)).values_list("pk", flat=True))
        return Counter(again=never.filter(pk__in=free).update(next_retry_at=now))


def _changed(
    chosen: NotificationQuerySet,
    change: Callable[[Sequence[str]], Counter[str]],
    verb: str,
    now: datetime,
    limit: int,
    pauses: Sequence[float],
) -> Counter[str]:
    """Change the first of the chosen, at most `limit`; answers what `change` counts."""
    ids, counted = list(chosen.values_list("pk", flat=True)[:limit]), Counter[str]()
    refused = partial(_set_aside, verb=verb, now=now)
    for start in range(0, len(ids), PART):
        for part in in_parts(ids[start : start + PART], change, refused, verb, pauses):
            counted += part
    return counted


def _set_aside(pk: str, error: Exception, *, verb: str, now: datetime) -> Counter[str]:
    """Dead, with a reason that can be written; where not even that is taken, the row stays as it is."""
    reason = reason_of(error)
    try:
        with database.our_word(durable=True):
            mine: Any = NotificationEvent.objects.filter(pk=pk, status__in=UNDELIVERED)
            dead = mine.update(status=Status.DEAD, leased_until=None, next_retry_at=None, last_error=reason)
            follow(NotificationEvent.objects.all(), [pk] if dead else [], now=now)
    except Exception as fault:
        if kind_of(fault) != "refused":
            raise
        error, dead = fault, 0
    if not dead:  # or another program has finished it, and its lease cannot be taken off
        put_on_record(pk, verb, error, now)
        return Counter()
    logger.error("notification %s is dead: %s", pk, reason)
    return Counter(dead=dead)
