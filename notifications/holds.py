"""Endpoints that nobody sends to for now, shared by all workers through notification_holds.

Rows of a held endpoint wait without spending attempts. When a hold runs out, one worker takes the
probe: one attempt that decides whether the endpoint is open again or held for longer. An endpoint that
has been held for longer than HOLD_LIMIT is worn: its rows spend their attempts again, because an alert
must reach the dead-letter queue while it still matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from .lanes import HoldChange
from .models import Hold
from .notifiers.base import Endpoint
from .queryset import tidy

FORGOTTEN = timedelta(days=1)  # a hold whose end is this long past had nothing to send since


class Surveyed(NamedTuple):
    """A hold as one worker sees it; `ours`: it has run out, and this worker does the probe."""

    endpoint: Endpoint
    failures: int
    worn: bool
    ours: bool


def survey(*, now: datetime, using: str, probe_for: timedelta, limit: timedelta) -> list[Surveyed]:
    """All holds. Those that have run out are taken for a probe of at most `probe_for`, by one worker each."""
    rows = Hold.objects.using(using)
    rows.filter(until__lt=now - FORGOTTEN).delete()
    return [
        Surveyed(
            Endpoint(hold.endpoint, hold.channel, hold.recipient_prefix or None, hold.exact),
            hold.failures,
            now - hold.since > limit,
            # Compare and set: of two workers that see the same end, one moves it.
            hold.until <= now
            and bool(rows.filter(pk=hold.pk, until=hold.until).update(until=now + probe_for)),
        )
        for hold in rows.all()
    ]


def apply(changes: Iterable[HoldChange], *, now: datetime, using: str) -> None:
    """Write what a sweep learned: endpoints to hold, endpoints that deliver again, probes not used."""
    rows = Hold.objects.using(using)
    for change in changes:
        endpoint, error = change.endpoint, change.error
        until = now + timedelta(seconds=change.seconds)
        if change.delivers:
            rows.filter(endpoint=endpoint.key).delete()
        elif error is None:
            rows.filter(endpoint=endpoint.key).update(until=until)
        else:
            values = {
                "reason": error.reason,
                "error": tidy(str(error)),
                "until": until,
                "failures": change.holds,
                "exact": endpoint.exact,
            }
            rows.update_or_create(
                endpoint=endpoint.key,
                channel=endpoint.channel,
                recipient_prefix=endpoint.recipient_prefix or "",
                defaults=values,
                create_defaults=values | {"since": now},
            )
