"""How things stand, read once: the dashboard, /api/v1/stats/summary, /metrics and `notifications stats`
all show this snapshot, so that they cannot disagree.

Every part is cheap at five million rows, and a part that cannot be had is None, never an error.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Count, F, Min, Q, Sum
from django.utils.functional import cached_property

from .. import conf, database
from ..database import database_now
from ..models import (
    AGES,
    AttemptOutcome,
    DeliveryAttempt,
    Hold,
    NotificationEvent,
    NotificationQuerySet,
    Status,
    SweepKind,
    SweepRun,
    Tally,
)
from ..models.fields import UNDELIVERED
from ..models.tallies import AGE, EPOCH, TOOK

logger = logging.getLogger(__name__)

EXACT_UP_TO = 100_000  # rows of a status; PostgreSQL's planner estimates the larger ones
PART_MILLISECONDS = 2_000
ALL_SECONDS = 3.0  # no part begins after this, so that a scrape is answered before Prometheus gives up
MOST_HOLDS = 100
LATEST = 1_000
HOUR = timedelta(hours=1)
WINDOWS = {"24h": 24, "7d": 168}  # hours, the running one included
# Nothing was sent to anybody, so these say nothing about how long sending takes.
UNTIMED = (AttemptOutcome.INTERRUPTED, AttemptOutcome.NO_NOTIFIER)


@dataclass(frozen=True, slots=True)
class Attempts:
    """All attempts on one channel since counting began.

    outcomes  every outcome, with 0 where there was none
    seconds   that the timed ones took together
    took      how many took at most models.DURATIONS[n] seconds and more than the bound before;
              the last is those that took longer than all bounds
    """

    outcomes: Mapping[str, int]
    seconds: float
    took: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was attempted in the last hours.

    hours              when each hour began, oldest first; the last one is still running
    delivered, failed  by channel: attempts in each of the hours
    median, p95        seconds from raised to delivered, from the histogram of ages; None without deliveries
    """

    hours: tuple[datetime, ...]
    delivered: Mapping[str, tuple[int, ...]]
    failed: Mapping[str, tuple[int, ...]]
    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Latest:
    """When a channel last delivered and last failed, and with what error."""

    delivered: datetime | None = None
    failed: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment. A part that could not be had is None.

    counts           notifications by status, every status present
    estimated        the statuses whose count is an estimate: more than EXACT_UP_TO rows on PostgreSQL
    dead_by_channel  configured channels first, in the settings' spelling and order
    stranded         failed without a next retry
    oldest_due       seconds that the oldest due notification has been waiting, 0 when none is due
    last_sweeps      by kind, None for a kind that never swept
    attempts         by channel, every configured one present
    traffic          by the names of WINDOWS
    holds            the endpoints that nobody sends to for now, at most MOST_HOLDS
    latest           by channel, where it is among the newest LATEST attempts
    """

    at: datetime | None = None
    counts: Mapping[str, int] | None = None
    estimated: frozenset[str] = frozenset()
    dead_by_channel: Mapping[str, int] | None = None
    stranded: int | None = None
    oldest_due: float | None = None
    last_sweeps: Mapping[str, SweepRun | None] | None = None
    attempts: Mapping[str, Attempts] | None = None
    traffic: Mapping[str, Traffic] | None = None
    holds: tuple[Hold, ...] | None = None
    latest: Mapping[str, Latest] | None = None


@dataclass(frozen=True)
class Moment:
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


class Channels:
    """The names of channels: what is configured is spelled and sorted as configured."""

    def __init__(self) -> None:
        try:
            self._conf = conf.current()
        except ImproperlyConfigured:
            self._conf = conf.Conf()  # `manage.py check` says what is wrong

    @property
    def configured(self) -> list[str]:
        return list(self._conf.channels)

    def spelled(self, name: str) -> str:
        return self._conf.channel(name) or name


def snapshot(*, details: bool = True) -> Snapshot:
    """How things stand now. Raises nothing: when the database is away, every part is None.

    details  False leaves out dead_by_channel, traffic, holds and latest, for those who look every few seconds
    """
    parts = [part for part in PARTS if details or part not in DETAILS]
    found: dict[str, Any] = {}
    try:
        with _one_moment():
            moment = Moment(database_now())
            found["at"] = moment.now
            for part in parts:
                found |= _guarded(part, moment)
    except Exception as error:
        _report("all that is missing", error)
    return Snapshot(**found)


@contextmanager
def _one_moment() -> Iterator[None]:
    """On PostgreSQL: all parts see the same moment, none takes long, none reads the whole table.

    Everything is rolled back at the end, and with it the settings, where we are in somebody's transaction.
    SQLite has no such settings, and a transaction there would make writers wait.
    """
    connection = database.connection()
    if connection.vendor != "postgresql":
        yield
        return
    ours = not connection.in_atomic_block
    with database.atomic(), connection.cursor() as cursor:
        if ours:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Old planner statistics could make it look for few rows in the whole table.
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('enable_seqscan', 'off', true)",
            [str(PART_MILLISECONDS)],
        )
        yield
        transaction.set_rollback(True)


def _guarded(part: Callable[[Moment], dict[str, Any]], moment: Moment) -> dict[str, Any]:
    """What the part found; {} when it failed or its turn came too late."""
    if time.monotonic() > moment.deadline:
        return {}
    in_transaction = database.connection().in_atomic_block
    try:
        with database.atomic() if in_transaction else nullcontext():
            return part(moment)
    except Exception as error:
        _report(part.__name__.strip("_"), error)
        return {}


def _report(what: str, error: Exception) -> None:
    said = " ".join(str(error).split())
    logger.warning("statistics without %s: %s: %s", what, type(error).__name__, said)


def _counts(moment: Moment) -> dict[str, Any]:
    if not database.is_postgresql():
        exact = dict(moment.rows.values_list("status").annotate(Count("pk")))
        return {"counts": {str(status): exact.get(status, 0) for status in Status}}
    # The values are what the index holds, so that the rows themselves are not read.
    by_status = {str(status): moment.rows.filter(status=status).values("status") for status in Status}
    counts = {status: rows[: EXACT_UP_TO + 1].count() for status, rows in by_status.items()}
    large = frozenset(status for status, count in counts.items() if count > EXACT_UP_TO)
    counts |= {status: max(counts[status], _estimate(by_status[status])) for status in large}
    return {"counts": counts, "estimated": large}


def _estimate(rows: Any) -> int:
    """How many rows PostgreSQL's planner expects, from its statistics and the table's present size."""
    return int(json.loads(rows.explain(format="json"))[0]["Plan"]["Plan Rows"])


def _dead_by_channel(moment: Moment) -> dict[str, Any]:
    counts = dict.fromkeys(moment.channels.configured, 0)
    for channel, count in moment.rows.dead().values_list("channel").annotate(Count("channel")):
        name = moment.channels.spelled(channel)
        counts[name] = counts.get(name, 0) + count
    return {"dead_by_channel": counts}


def _stranded(moment: Moment) -> dict[str, Any]:
    return {"stranded": moment.rows.stranded().count()}


def _oldest_due(moment: Moment) -> dict[str, Any]:
    """Each of the three is the first entry of an index."""
    since = (
        moment.rows.pending().filter(leased_until__isnull=True).aggregate(at=Min("created_at")),
        moment.rows.failed().filter(next_retry_at__isnull=False).aggregate(at=Min("next_retry_at")),
        moment.rows.filter(leased_until__lte=moment.now, status__in=UNDELIVERED).aggregate(
            at=Min("leased_until")
        ),
    )
    waits = [(moment.now - found["at"]).total_seconds() for found in since if found["at"]]
    return {"oldest_due": max(0.0, *waits) if waits else 0.0}


def _last_sweeps(moment: Moment) -> dict[str, Any]:
    sweeps = SweepRun.objects
    return {
        "last_sweeps": {
            str(kind): sweeps.filter(kind=kind).order_by("-ended_at").first() for kind in SweepKind
        }
    }


def _attempts(moment: Moment) -> dict[str, Any]:
    by_channel: dict[str, list[Tally]] = {name: [] for name in moment.channels.configured}
    for tally in Tally.objects.filter(hour=EPOCH).order_by("channel"):
        by_channel.setdefault(moment.channels.spelled(tally.channel), []).append(tally)
    return {"attempts": {name: _total(tallies) for name, tallies in by_channel.items()}}


def _total(tallies: Sequence[Tally]) -> Attempts:
    outcomes = dict.fromkeys(map(str, AttemptOutcome), 0)
    for tally in tallies:
        outcomes[tally.outcome] = outcomes.get(tally.outcome, 0) + tally.attempts
    timed = [tally for tally in tallies if tally.outcome not in UNTIMED]
    took = [sum(getattr(tally, name) for tally in timed) for name in TOOK]
    longer = sum(tally.attempts for tally in timed) - sum(took)
    return Attempts(outcomes, sum(tally.milliseconds for tally in timed) / 1000, (*took, longer))


def _traffic(moment: Moment) -> dict[str, Any]:
    this_hour = moment.now.replace(minute=0, second=0, microsecond=0)
    sent = Q(outcome=AttemptOutcome.SENT)
    recent = Tally.objects.filter(hour__gt=this_hour - max(WINDOWS.values()) * HOUR)
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
            name: _window(rows, tuple(this_hour - n * HOUR for n in reversed(range(hours))), moment.channels)
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


def quantile(q: float, counts: Sequence[int], total: int, bounds: Sequence[float] = AGES) -> float | None:
    """The q-quantile of a histogram, interpolated within its bucket; None when it is empty.

    counts  how many are at most bounds[n] and more than the bound before; beyond the last bound are
            the rest of `total`, for which the last bound stands (it is at least that)
    """
    if not total:
        return None
    rank, lower = q * total, 0.0
    for count, upper in zip(counts, bounds, strict=True):
        if count and rank <= count:
            return lower + (upper - lower) * rank / count
        rank, lower = rank - count, upper
    return float(bounds[-1])


def _holds(moment: Moment) -> dict[str, Any]:
    held = Hold.objects.filter(reopened_at__isnull=True)
    return {"holds": tuple(held.order_by("endpoint", "pk")[:MOST_HOLDS])}


def _latest(moment: Moment) -> dict[str, Any]:
    found: dict[str, Latest] = {}
    names = ("channel", "started_at", "outcome", "error")
    for name, at, outcome, error in DeliveryAttempt.objects.order_by("-pk").values_list(*names)[:LATEST]:
        channel = moment.channels.spelled(name)
        known = found.setdefault(channel, Latest())
        if outcome == AttemptOutcome.SENT:
            found[channel] = replace(known, delivered=known.delivered or at)
        elif known.failed is None:
            found[channel] = replace(known, failed=at, error=error or outcome)
    return {"latest": found}


PARTS = (
    _counts,
    _stranded,
    _oldest_due,
    _last_sweeps,
    _attempts,
    _dead_by_channel,
    _holds,
    _traffic,
    _latest,
)
DETAILS = (_dead_by_channel, _holds, _traffic, _latest)


def summary(shown: Snapshot | None = None) -> dict[str, Any]:
    """The snapshot (a new one, unless given) as JSON for programs; what could not be had is left out."""
    shown = shown or snapshot()
    counts = shown.counts
    parts: dict[str, Any] = {
        "at": shown.at,
        **{f"notifications_{status}": count for status, count in (counts or {}).items()},
        "notifications_estimated": None if counts is None else sorted(shown.estimated),
        "notifications_stranded": shown.stranded,
        "notifications_dead_by_channel": shown.dead_by_channel,
        "oldest_due_seconds": None if shown.oldest_due is None else round(shown.oldest_due, 1),
        "last_sweep": shown.last_sweeps and {k: _sweep(run) for k, run in shown.last_sweeps.items()},
        "attempts": shown.attempts and {name: a.outcomes for name, a in shown.attempts.items()},
        "deliveries": shown.traffic and {name: _deliveries(t) for name, t in shown.traffic.items()},
        "holds": None if shown.holds is None else [_hold(hold) for hold in shown.holds],
    }
    return {name: part for name, part in parts.items() if part is not None}


def _sweep(run: SweepRun | None) -> dict[str, Any] | None:
    names = ("started_at", "ended_at", "claimed", "sent", "rescheduled", "dead", "no_notifier", "released")
    return {name: getattr(run, name) for name in names} if run else None


def _deliveries(traffic: Traffic) -> dict[str, Any]:
    return {
        "delivered": {channel: sum(counts) for channel, counts in traffic.delivered.items()},
        "failed": {channel: sum(counts) for channel, counts in traffic.failed.items()},
        "median_seconds": traffic.median and round(traffic.median, 2),
        "p95_seconds": traffic.p95 and round(traffic.p95, 2),
    }


def _hold(hold: Hold) -> dict[str, Any]:
    """Without its recipients: their addresses can be secrets."""
    names = ("endpoint", "channel", "reason", "error", "since", "until", "failures", "by")
    return {name: getattr(hold, name) for name in names}
