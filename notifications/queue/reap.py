"""What dead workers and other programs left behind: ended leases, spent budgets, stranded rows."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F

from .. import database
from ..deaths.follow import follow
from ..models import INTERRUPTED_ERROR, DeliveryAttempt, NotificationEvent, NotificationQuerySet, Status
from ..models.fields import UNDELIVERED
from . import tallies
from .claim import skip_locked
from .tallies import Counted


def reap(rows: NotificationQuerySet, *, now: datetime, max_attempts: int, limit: int) -> tuple[int, int]:
    """End the leases that ran out: (due again, dead).

    The lost attempt counts, so that a notification that kills its worker cannot do so for ever.
    """
    with database.atomic(durable=True):
        over = rows.filter(leased_until__lte=now).order_by("leased_until")
        lost = list(skip_locked(over)[:limit])
        waiting = [event for event in lost if event.status in UNDELIVERED]
        dying = [event.pk for event in waiting if event.retry_count >= max_attempts - 1]
        everything = NotificationEvent.objects
        mine = everything.filter(pk__in=[event.pk for event in lost], leased_until__lte=now)
        dead = mine.filter(pk__in=dying).update(
            status=Status.DEAD, leased_until=None, next_retry_at=None, last_error=INTERRUPTED_ERROR
        )
        again = mine.filter(status__in=UNDELIVERED).update(
            status=Status.FAILED,
            leased_until=None,
            next_retry_at=now,
            retry_count=F("retry_count") + 1,
            last_error=INTERRUPTED_ERROR,
        )
        # Another program finished these while we held them; only the lease is left over.
        mine.exclude(status__in=UNDELIVERED).update(leased_until=None)
        attempts = [DeliveryAttempt.interrupted(event) for event in waiting]
        DeliveryAttempt.objects.bulk_create(attempts)
        follow(NotificationEvent.objects.all(), dying, now=now)
        counted = [Counted(a.channel, a.outcome, a.duration_ms) for a in attempts]
        tallies.add(counted, now=now)
    return again, dead


def bury(rows: NotificationQuerySet, *, now: datetime, max_attempts: int, limit: int) -> int:
    """Dead-letter the due rows that have no attempt left, so that no row waits for ever unseen."""
    spent = rows.spent(now, max_attempts).order_by("next_retry_at")
    with database.atomic(durable=True):
        ids = [event.pk for event in skip_locked(spent)[:limit]]
        mine = NotificationEvent.objects.spent(now, max_attempts).filter(pk__in=ids)
        mine.filter(last_error__isnull=True).update(
            last_error="no attempt left: retry_count had reached the maximum"
        )
        dead = mine.update(status=Status.DEAD, next_retry_at=None, leased_until=None)
        follow(NotificationEvent.objects.all(), ids, now=now)
    return dead


def schedule_stranded(rows: NotificationQuerySet, *, now: datetime, limit: int) -> int:
    """Make rows that another program left failed and unscheduled due now."""
    chosen = rows.stranded().filter(leased_until__isnull=True).order_by("created_at")[:limit]
    everything = NotificationEvent.objects
    return everything.stranded().filter(pk__in=chosen.values("pk")).update(next_retry_at=now)
