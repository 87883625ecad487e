"""What is read for a snapshot, a part at a time. Every part is cheap at five million rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, F, Min, Q, Sum
from django.utils.functional import cached_property

from .. import database
from ..models import (
    AttemptOutcome,
    Deadline,
    DeliveryAttempt,
    NotificationEvent,
    NotificationQuerySet,
    Status,
    SweepKind,
    SweepRun,
    Tally,
)
from ..models.conditions import DUE, PROBABLY_DELIVERED
from ..models.fields import UNDELIVERED
from ..models.tallies import AGE, EPOCH, NOT_CONFIGURED, TOOK, WITHDRAWN
from ..operations import filters
from ..queue.beside import terms
from . import held
from .channels import Channels, settings
from .figures import (
    EXACT_UP_TO,
    LATEST,
    MOST_DIED,
    MOST_HOLDS,
    MOST_UNCONFIGURED,
    MOST_WITH_AN_ERROR,
    WINDOWS,
    AttemptTotals,
    Latest,
    Traffic,
    quantile,
)

ALL_SECONDS = 3.0  # no part begins after this, so that a scrape is answered before Prometheus gives up
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOST_ENDING = 1_000
# Nothing was sent to anybody, so these say nothing about how long sending takes.
UNTIMED = (AttemptOutcome.INTERRUPTED, AttemptOutcome.NO_NOTIFIER)


@dataclass(frozen=True)
class AsOf:
    """Where and as of when the parts are read."""

    now: datetime
    deadline: float = field(default_factory=lambda: time.monotonic() + ALL_SECONDS)

    @property
    def rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = NotificationEvent.objects.order_by()
        return rows

    @cached_property
    def channels(self) -> Channels:
        return Channels()


def counts(as_of: AsOf) -> dict[str, Any]:
    if not database.is_postgresql():
        exact = dict(as_of.rows.values_list("status").annotate(Count("pk")))
        return {"counts": {str(status): exact.get(status, 0) for status in Status}}
    # The values are what the index holds, so that the rows themselves are not read.
    by_status = {str(status): as_of.rows.filter(status=status).values("status") for status in Status}
    counts = {status: rows[: EXACT_UP_TO + 1].count() for status, rows in by_status.items()}
    large = frozenset(status for status, count in counts.items() if count > EXACT_UP_TO)
    counts |= {status: max(counts[status], _estimate(by_status[status])) for status in large}
    return {"counts": counts, "estimated": large}


def closed(as_of: AsOf) -> dict[str, Any]:
    """The two kinds of read of which there are records, so that an index finds them."""
    kinds = {filters.DISMISSED: as_of.rows.dismissed(), filters.WITHDRAWN: as_of.rows.withdrawn()}
    return {"closed": {k: rows.values("pk")[: EXACT_UP_TO + 1].count() for k, rows in kinds.items()}}


def _estimate(rows: Any) -> int:
    """How many rows PostgreSQL's planner expects, from its statistics and the table's present size."""
    return int(json.loads(rows.explain(format="json"))[0]["Plan"]["Plan Rows"])


def dead_by_channel(as_of: AsOf) -> dict[str, Any]:
    counts = dict.fromkeys(as_of.channels.configured, 0)
    named = as_of.rows.dead().values_list("channel").annotate(number=Count("channel"))
    for channel, count in named.order_by("-number", "channel"):
        name, most = as_of.channels.spelled(channel), len(as_of.channels.configured) + MOST_UNCONFIGURED
        if name not in counts and len(counts) >= most:
            name = NOT_CONFIGURED
        counts[name] = counts.get(name, 0) + count
    return {"dead_by_channel": counts}


def died_last_hour(as_of: AsOf) -> dict[str, Any]:
    """The dead that were raised, or last failed, within the hour, as the filter `dead_since` has it: an index
    holds the failures by their time."""
    since, dead = as_of.now - HOUR, as_of.rows.dead()
    failures = DeliveryAttempt.objects.filter(started_at__gte=since).exclude(outcome=AttemptOutcome.SENT)
    failures = failures.order_by("-started_at")
    young = dead.filter(created_at__gte=since).values("pk")[: MOST_DIED + 1].count()
    newest = failures.values("notification")[:MOST_DIED]
    older = dead.filter(created_at__lt=since, pk__in=newest).count()
    more = young > MOST_DIED or failures.values("pk")[MOST_DIED : MOST_DIED + 1].exists()
    return {"died_last_hour": young + older, "died_more": more}


def stranded(as_of: AsOf) -> dict[str, Any]:
    rows = as_of.rows.stranded()
    probably = Count("pk", filter=PROBABLY_DELIVERED)
    return rows.aggregate(stranded=Count("pk"), probably_delivered=probably)


def not_delivered(as_of: AsOf) -> dict[str, Any]:
    return {"not_delivered": as_of.rows.not_delivered(among=MOST_WITH_AN_ERROR).count()}


def refused(as_of: AsOf) -> dict[str, Any]:
    return {"refused": as_of.rows.refused().count()}


def oldest_due(as_of: AsOf) -> dict[str, Any]:
    """Each of the three is the first entry of an index. What is left to certctl is not due yet."""
    beside = terms(settings())
    pending = beside.claimable(as_of.rows.pending(), as_of.now)
    since = (
        pending.filter(leased_until__isnull=True).aggregate(at=Min(DUE)),
        as_of.rows.failed().filter(next_retry_at__isnull=False).aggregate(at=Min("next_retry_at")),
        as_of.rows.filter(leased_until__lte=as_of.now, status__in=UNDELIVERED).aggregate(
            at=Min("leased_until")
        ),
    )
    waits = [(as_of.now - found["at"]).total_seconds() for found in since if found["at"]]
    return {
        "oldest_due": max(0.0, *waits) if waits else 0.0,
        "beside": beside.mode,
        "in_grace": beside.in_grace(as_of.rows, as_of.now).count(),
    }


def last_sweeps(as_of: AsOf) -> dict[str, Any]:
    sweeps = SweepRun.objects
    return {
        "last_sweeps": {
            str(kind): sweeps.filter(kind=kind).order_by("-ended_at").first() for kind in SweepKind
        }
    }


def attempts(as_of: AsOf) -> dict[str, Any]:
    by_channel: dict[str, list[Tally]] = {name: [] for name in as_of.channels.configured}
    withdrawn = dict.fromkeys(as_of.channels.configured, 0)
    for tally in Tally.objects.filter(hour=EPOCH).order_by("channel"):
        name = as_of.channels.folded(tally.channel)
        if tally.outcome == WITHDRAWN:
            withdrawn[name] = withdrawn.get(name, 0) + tally.attempts
        else:
            by_channel.setdefault(name, []).append(tally)
    attempts = {name: _total(tallies) for name, tallies in by_channel.items()}
    return {"attempts": attempts, "withdrawn": withdrawn}


def _total(tallies: Sequence[Tally]) -> AttemptTotals:
    outcomes = dict.fromkeys(map(str, AttemptOutcome), 0)
    for tally in tallies:
        outcomes[tally.outcome] = outcomes.get(tally.outcome, 0) + tally.attempts
    timed = [tally for tally in tallies if tally.outcome not in UNTIMED]
    took = [sum(getattr(tally, name) for tally in timed) for name in TOOK]
    longer = sum(tally.attempts for tally in timed) - sum(took)
    return AttemptTotals(outcomes, sum(tally.milliseconds for tally in timed) / 1000, (*took, longer))


def traffic(as_of: AsOf) -> dict[str, Any]:
    this_hour = as_of.now.replace(minute=0, second=0, microsecond=0)
    sent = Q(outcome=AttemptOutcome.SENT)
    made = Tally.objects.exclude(outcome=WITHDRAWN)
    recent = made.filter(hour__gt=this_hour - max(WINDOWS.values()) * HOUR)
    rows: list[Any] = list(
        recent.order_by()
        .values("hour", "channel")
        .annotate(
            delivered=Sum("attempts", filter=sent, default=0),
            failed=Sum("attempts", filter=~sent, default=0),
            **{f"sum_{name}": Sum(F(name), filter=sent, default=0) for name in AGE},
        )
    )
    return {
        "traffic": {
            name: _window(rows, tuple(this_hour - n * HOUR for n in reversed(range(hours))), as_of.channels)
            for name, hours in WINDOWS.items()
        }
    }


def _window(rows: Sequence[Mapping[str, Any]], hours: tuple[datetime, ...], channels: Channels) -> Traffic:
    within = [row for row in rows if hours[0] <= row["hour"] <= hours[-1]]
    delivered = _series(within, "delivered", hours, channels)
    total = sum(map(sum, delivered.values()))
    ages = [sum(row[f"sum_{name}"] for row in within) for name in AGE]
    return Traffic(
        hours,
        delivered,
        _series(within, "failed", hours, channels),
        quantile(0.5, ages, total),
        quantile(0.95, ages, total),
    )


def _series(
    rows: Sequence[Mapping[str, Any]], what: str, hours: tuple[datetime, ...], channels: Channels
) -> dict[str, tuple[int, ...]]:
    place = {hour: n for n, hour in enumerate(hours)}
    counts = {channel: [0] * len(hours) for channel in channels.configured}
    for row in rows:
        counts.setdefault(channels.spelled(row["channel"]), [0] * len(hours))[place[row["hour"]]] += row[what]
    return {channel: tuple(numbers) for channel, numbers in counts.items()}


def holds(as_of: AsOf) -> dict[str, Any]:
    return {"holds": tuple(held.in_force(as_of.now)[:MOST_HOLDS])}


def latest(as_of: AsOf) -> dict[str, Any]:
    found: dict[str, Latest] = {}
    names = ("channel", "started_at", "outcome", "error")
    for name, at, outcome, error in DeliveryAttempt.objects.order_by("-pk").values_list(*names)[:LATEST]:
        channel = as_of.channels.spelled(name)
        known = found.setdefault(channel, Latest())
        if outcome == AttemptOutcome.SENT:
            found[channel] = replace(known, delivered=known.delivered or at)
        elif known.failed is None:
            found[channel] = replace(known, failed=at, error=error or outcome)
    return {"latest": found}


def ending(as_of: AsOf) -> dict[str, Any]:
    """Of the first MOST_ENDING that end from a day ago on."""
    soon = Deadline.objects.filter(settled=False, not_after__gt=as_of.now - DAY).order_by("not_after")
    found: dict[str, datetime] = dict(soon.values_list("notification", "not_after")[:MOST_ENDING])
    dead = as_of.rows.dead().filter(pk__in=list(found)).values_list("pk", "certificate_id") if found else ()
    first = min(((found[pk], name or "") for pk, name in dead), default=None)
    return {"ending": ((first[1], first[0]),) if first else ()}


PARTS = (
    counts,
    closed,
    stranded,
    not_delivered,
    refused,
    oldest_due,
    last_sweeps,
    attempts,
    dead_by_channel,
    holds,
    traffic,
    latest,
    died_last_hour,
    ending,
)
DETAILS = (closed, dead_by_channel, holds, traffic, latest, died_last_hour, ending)
