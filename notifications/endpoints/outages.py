"""When endpoints failed, from the first failure in a row until they delivered again.

All workers write one record (notification_outages), so that a streak is one also where every sweep is
a new process. Which notifications died of an outage is what their own attempts say (operations/filters.py).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError
from django.db.models import F, Q
from django.db.models.functions import Greatest, Least

from .. import database
from ..exceptions import DeliveryError
from ..models import Hold, Outage
from ..notifiers.endpoint import Endpoint
from ..text import tidy
from .breaker import Change

STRAY = timedelta(days=1)  # a failure that nothing followed
KEPT = timedelta(days=90)


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
