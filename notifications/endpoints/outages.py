"""When endpoints failed, from the first failure in a row until they delivered again.

All workers write one record (notification_outages), so that a streak is one also where every sweep is
a new process. Which notifications died of an outage is what their own attempts say (operations/filters.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from .. import database
from ..database import carried, dump
from ..exceptions import DeliveryError
from ..models import Hold, Outage
from ..notifiers.endpoint import Endpoint
from ..text import tidy
from .breaker import Change

STRAY = timedelta(days=1)  # a failure that nothing followed
KEPT = timedelta(days=90)


# One statement for all that fails, as thousands can at once.
ENDPOINT_AND_ERROR = (
    ("endpoint", "text"),
    ("channel", "text"),
    ("recipient_prefix", "text"),
    ("exact", "boolean"),
    ("reason", "text"),
    ("error", "text"),
)
COLUMNS = (
    *ENDPOINT_AND_ERROR,
    ("since", "timestamptz"),
    ("failures", "integer"),
    ("died", "integer"),
)
NOTE = """
    INSERT INTO notification_outages AS known ({names}, redriven_by)
    SELECT {names}, '' FROM {rows} WHERE endpoint IS NOT NULL
        ON CONFLICT (endpoint, channel, recipient_prefix) WHERE ended_at IS NULL
        DO UPDATE SET reason = excluded.reason, error = excluded.error, exact = excluded.exact,
                      since = {least}(known.since, excluded.since),
                      failures = {greatest}(known.failures, excluded.failures),
                      died = known.died + excluded.died
"""


def note(changes: Sequence[Change], *, now: datetime) -> None:
    """Open the endpoints' outages, or add to those that are open; each begins with the earliest failure."""
    together: dict[tuple[str, ...], dict[str, Any]] = {}
    for change in changes:
        if change.error is not None:
            add(together.setdefault(name(change.endpoint), {}), change, change.error, now)
    adapt = database.connection().ops.adapt_datetimefield_value
    rows = [row | {"since": adapt(row["since"])} for row in together.values()]
    least, greatest = ("LEAST", "GREATEST") if database.is_postgresql() else ("MIN", "MAX")
    names = ", ".join(column for column, _ in COLUMNS)
    statement = NOTE.format(names=names, rows=carried(*COLUMNS), least=least, greatest=greatest)
    with database.connection().cursor() as cursor:
        cursor.execute(statement, [dump(rows)])


def add(row: dict[str, Any], change: Change, error: DeliveryError, now: datetime) -> None:
    since = change.since or now
    row["since"] = min(row.get("since", since), since)
    row["failures"] = max(row.get("failures", 0), change.failures)
    row["died"] = row.get("died", 0) + change.died
    row |= which(change.endpoint) | said(error)


def name(endpoint: Endpoint) -> tuple[str, ...]:
    """What is unique in the table."""
    return endpoint.key, endpoint.channel, endpoint.recipient_prefix or ""


def said(error: DeliveryError) -> dict[str, Any]:
    return {"reason": error.reason, "error": tidy(str(error))}


def which(endpoint: Endpoint) -> dict[str, Any]:
    """The columns that say which rows go there."""
    return {
        "endpoint": endpoint.key,
        "channel": endpoint.channel,
        "recipient_prefix": endpoint.recipient_prefix or "",
        "exact": endpoint.exact,
    }


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
