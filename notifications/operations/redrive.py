"""Requeueing what died of an outage: when an operator says so, or by itself once the endpoint delivers
again (REDRIVE_ON_RECOVERY). Either is one operation, whose filter is the outage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Q

from .. import database
from ..database import said
from ..endpoints.outages import endpoint_of
from ..models import BulkOperation, Hold, NotificationEvent, NotificationQuerySet, Outage
from ..models.fields import UNDELIVERED
from ..notifiers.endpoint import going_to
from ..queue.batch import in_parts
from . import bulk
from .filters import REDRIVE, Filters, before_the_end, died_of, not_redriven
from .survey import capped
from .verbs import REQUEUE
from .walk import NEWEST

logger = logging.getLogger(__name__)

SETTLED = timedelta(minutes=5)  # an outage that began later is still tried by what failed
RECENT = timedelta(days=1)  # an outage that ended earlier is not redriven by itself any more
MOST = 10  # outages that one sweep redrives
LOOKED_AT = 5_000  # dead letters that it looks at for one outage
LOOKED_THROUGH = 10_000  # dead letters that are looked at to say how many died of it, as far as the list does
COUNTED = 500  # of them; beyond, a count says "500+"
PROBED = 2_000  # dead letters among which a probe is looked for
SYSTEM = "system"


def count(outage: Outage) -> tuple[int, bool]:
    """How many died of it and are still dead, up to COUNTED; whether there may be more."""
    dead = before_the_end(NotificationEvent.objects.dead(), outage)
    places = dead.order_by(*NEWEST).values_list("created_at", flat=True)
    edges = list(places[LOOKED_THROUGH - 1 : LOOKED_THROUGH + 1])  # the last that is looked at, and the next
    some: NotificationQuerySet = dead.filter(created_at__gte=edges[0]) if edges else dead
    found = capped(died_of(some, outage), COUNTED)
    return min(found, COUNTED), found > COUNTED or len(edges) > 1


def take_over(outage: Outage, *, by: str, via: str, now: datetime, again: bool = True) -> BulkOperation:
    """Put on record that what died of the outage is requeued; whoever was doing that before stops.

    again  also what was redriven before and died once more
    """
    filters = Filters(status="dead", outage=outage.pk, redriven="" if again else "no")
    operation = bulk.start(
        REQUEUE,
        filters=filters.query,
        reason=f"{outage.endpoint} delivers again" if outage.ended_at else f"{outage.endpoint} was down",
        by=by,
        via=via,
        requested=outage.died,
        now=now,
    )
    Outage.objects.filter(pk=outage.pk).update(redriven_at=now, redriven_by=by, operation=operation)
    if outage.operation_id:
        bulk.stop(outage.operation_id, by)
    return operation


# REDRIVE_ON_RECOVERY


def redrive(*, now: datetime) -> int:
    """Requeue a batch of what died of each outage that is over; how many notifications that were.

    Once for each outage, once in a notification's life, and not where the endpoint is failing again.
    """
    return sum(_redrive(outage, now) for outage in _recovered(now))


def _recovered(now: datetime) -> list[Outage]:
    rows = Outage.objects
    again = rows.filter(endpoint=OuterRef("endpoint"), ended_at__isnull=True)
    unfinished = Q(redriven_by=SYSTEM, operation__ended_at__isnull=True)
    over = rows.filter(died__gt=0, ended_at__gte=now - RECENT).exclude(Exists(again))
    return list(over.filter(Q(redriven_at__isnull=True) | unfinished).order_by("ended_at")[:MOST])


def _redrive(outage: Outage, now: datetime) -> int:
    with database.atomic():
        # Whoever has the outage locked is doing this.
        found = Outage.objects.filter(pk=outage.pk, redriven_at=outage.redriven_at)
        mine = found.select_for_update(skip_locked=True).first()
        if mine is None:
            return 0
        before = mine.operation or take_over(mine, by=SYSTEM, via=REDRIVE, now=now, again=False)
        after = bulk.step(before.pk, now=now, looks_at=LOOKED_AT)
    return after.changed - before.changed


def requeue_probes(*, now: datetime) -> int:
    """Requeue one of the dead for each outage that goes on although its endpoint may be tried and nothing
    waits to be sent there: without a new alert, nobody would find out that it delivers again.

    Bounded by the hold, which a failed probe makes longer, and by the notification that waits since.
    """
    held = Hold.objects.filter(endpoint=OuterRef("endpoint"), until__gt=now)
    lasting = Outage.objects.filter(ended_at__isnull=True, died__gt=0, since__lt=now - SETTLED)
    unheld = lasting.exclude(Exists(held)).order_by("since")[:MOST]
    return sum(_requeue_probe(outage, now) for outage in unheld)


def _requeue_probe(outage: Outage, now: datetime) -> int:
    waiting = NotificationEvent.objects.filter(going_to([endpoint_of(outage)]), status__in=UNDELIVERED)
    if waiting.exists():
        return 0
    newest = before_the_end(NotificationEvent.objects.dead(), outage).order_by(*NEWEST).values("pk")[:PROBED]
    some: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=newest)
    probe = not_redriven(died_of(some, outage)).order_by(*NEWEST).values_list("pk", flat=True)[:1]
    reason = f"to find out whether {outage.endpoint} delivers again"

    def requeue(ids: Sequence[str]) -> int:
        rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids)
        return rows.requeue(by=SYSTEM, via=REDRIVE, now=now, reason=reason).changed

    return sum(in_parts(list(probe), requeue, _refused, "requeueing a probe"))


def _refused(pk: str, error: Exception) -> int:
    logger.error("notification %s is not requeued: %s", pk, said(error))
    return 0
