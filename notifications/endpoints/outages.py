"""When endpoints failed, from the first failure in a row until they delivered again, and whom that killed.

All workers write one record (notification_outages), so that a streak is one also where every sweep is
a new process. Which notifications died of an outage is what their own attempts say.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Greatest, Least

from .. import database
from ..exceptions import BLAMING, DeliveryError
from ..models import (
    BulkOperation,
    DeliveryAttempt,
    Hold,
    NotificationEvent,
    NotificationQuerySet,
    OperationKind,
    Outage,
    Requeue,
)
from ..notifiers.endpoint import Endpoint, going_to
from ..text import tidy
from .breaker import Change

STRAY = timedelta(days=1)  # a failure that nothing followed
KEPT = timedelta(days=90)
RECENT = timedelta(days=1)  # an outage that ended earlier is not redriven by itself any more
MOST = 10  # outages that one sweep redrives
STEP = 500  # notifications that it requeues for one outage
LOOKED_AT = 5_000  # dead letters that it looks at to find them
COUNTED = 2_000  # dead letters that are looked at to say how many died of some outages
SYSTEM, REDRIVE = "system", "redrive"


def note(change: Change, error: DeliveryError, *, now: datetime) -> None:
    """Open the endpoint's outage, or add to the one that is open; it begins with the earliest failure."""
    endpoint, since = change.endpoint, change.since or now
    which = {
        "endpoint": endpoint.key,
        "channel": endpoint.channel,
        "recipient_prefix": endpoint.recipient_prefix or "",
    }
    said = {"reason": error.reason, "error": tidy(str(error)), "exact": endpoint.exact}
    ongoing = Outage.objects.filter(**which, ended_at__isnull=True)
    added = {
        "since": Least("since", since),
        "failures": Greatest("failures", change.failures),
        "died": F("died") + change.died,
    }
    if ongoing.update(**said, **added):
        return
    try:
        with database.atomic():
            Outage.objects.create(**which, **said, since=since, failures=change.failures, died=change.died)
    except IntegrityError:  # another worker was first
        ongoing.update(**said, **added)


def endpoint_of(row: Hold | Outage) -> Endpoint:
    return Endpoint(row.endpoint, row.channel, row.recipient_prefix or None, row.exact)


def end(which: Q, *, now: datetime) -> None:
    """The endpoint delivered. What killed nothing leaves no trace."""
    rows = Outage.objects
    open_ones = rows.filter(which, ended_at__isnull=True)
    open_ones.filter(died=0).delete()
    if open_ones.update(ended_at=now):
        rows.filter(since__lt=now - KEPT).delete()


def ongoing(*, now: datetime) -> list[tuple[Endpoint, datetime, int]]:
    """The endpoints that fail, as all sweeps together know it: (endpoint, since, failures in a row)."""
    rows = Outage.objects.filter(ended_at__isnull=True)
    rows.filter(died=0, since__lt=now - STRAY).delete()
    return [(endpoint_of(o), o.since, o.failures) for o in rows]


# Whom an outage killed


def died_of(rows: NotificationQuerySet, outage: Outage) -> NotificationQuerySet:
    """Of `rows`, the dead whose last attempt began within the outage, and failed because of the endpoint.

    Those that were requeued since, or dismissed, are none of them.
    """
    newest = DeliveryAttempt.objects.filter(notification=OuterRef("pk"))
    newest = newest.order_by("-started_at", "-id")
    requeued = Requeue.objects.filter(notification=OuterRef("pk"), at__gte=OuterRef("killed_at"))
    mine: Any = rows.dead().filter(going_to([endpoint_of(outage)]))
    if outage.ended_at:
        mine = mine.filter(created_at__lte=outage.ended_at)
    mine = mine.alias(
        killed_at=Subquery(newest.values("started_at")[:1]), killed_for=Subquery(newest.values("reason")[:1])
    )
    mine = mine.filter(killed_at__gte=outage.since, killed_for__in=BLAMING).exclude(Exists(requeued))
    found: NotificationQuerySet = mine.filter(killed_at__lte=outage.ended_at) if outage.ended_at else mine
    return found


def not_redriven(rows: NotificationQuerySet) -> NotificationQuerySet:
    """Without those that were requeued by themselves before: what dies again is for a person to look at."""
    before = Requeue.objects.filter(notification=OuterRef("pk"), via=REDRIVE)
    return rows.exclude(Exists(before))


def count(outage: Outage, most: int = COUNTED) -> tuple[int, bool]:
    """How many died of it and are still dead, among the newest `most`; whether there may be more."""
    newest = _dead_before(outage)
    ids = newest.order_by("-created_at", "-id").values("pk")[:most]
    some: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids)
    return died_of(some, outage).count(), newest.values("pk")[most : most + 1].exists()


def take_over(outage: Outage, *, by: str, via: str, now: datetime, filters: str = "") -> BulkOperation:
    """Put on record that what died of the outage is requeued: one operation, whose filter is the outage."""
    operation: BulkOperation = BulkOperation.objects.create(
        kind=OperationKind.REQUEUE,
        filters=f"status=dead&outage={outage.pk}{filters}",
        reason=f"{outage.endpoint} delivers again" if outage.ended_at else f"{outage.endpoint} was down",
        by=by,
        via=via,
        requested=outage.died,
        started_at=now,
    )
    if outage.operation_id:
        before = BulkOperation.objects.filter(pk=outage.operation_id, ended_at__isnull=True)
        before.update(ended_at=now, stopped_by=by)
    said = {"redriven_at": now, "redriven_by": by, "operation": operation}
    Outage.objects.filter(pk=outage.pk).update(**said)
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
        if database.connection().features.has_select_for_update_skip_locked:
            found = found.select_for_update(skip_locked=True)
        mine = found.first()
        if mine is None:
            return 0
        operation = mine.operation or take_over(mine, by=SYSTEM, via=REDRIVE, now=now, filters="&redriven=no")
        return _step(mine, operation, now) if operation.ended_at is None else 0


def _step(outage: Outage, operation: BulkOperation, now: datetime) -> int:
    """The operation's next batch. Its cursor is the one that the console's own steps keep."""
    ahead = _dead_before(outage)
    if operation.cursor and len(operation.cursor) > 1:
        at, pk = datetime.fromisoformat(operation.cursor[1]), operation.cursor[2]
        ahead = ahead.filter(created_at__lte=at).exclude(created_at=at, pk__gte=pk)
    places = ahead.order_by("-created_at", "-id").values_list("created_at", "pk")
    last = next(iter(places[LOOKED_AT - 1 : LOOKED_AT]), None)
    near = (
        ahead.filter(created_at__gte=last[0]).exclude(created_at=last[0], pk__lt=last[1]) if last else ahead
    )
    matching = not_redriven(died_of(near, outage)).order_by("-created_at", "-id")
    batch = list(matching.values_list("created_at", "pk")[:STEP])
    rows: NotificationQuerySet = NotificationEvent.objects.dead()
    done = rows.filter(pk__in=[pk for _, pk in batch]).requeue(
        by=operation.by, via=operation.via, now=now, reason=operation.reason, operation=operation
    )
    operation.changed += done.changed
    end = batch[-1] if len(batch) == STEP else last
    operation.cursor = ["dead", end[0].isoformat(), end[1]] if end else operation.cursor
    operation.ended_at = None if end else now
    operation.save()
    return done.changed


def _dead_before(outage: Outage) -> NotificationQuerySet:
    rows: NotificationQuerySet = NotificationEvent.objects.dead()
    return rows.filter(created_at__lte=outage.ended_at) if outage.ended_at else rows
