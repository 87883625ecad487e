"""The figures of a snapshot: what is known of how things stand, as of one time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..models import AGES, Hold, SweepRun

EXACT_UP_TO = 100_000  # rows of a status; PostgreSQL's planner estimates the larger ones
MOST_HOLDS = 100
MOST_UNCONFIGURED = 20  # channels without a notifier that have names of their own among the dead
MOST_WITH_AN_ERROR = 10_000  # sent notifications with an error whose last attempt is looked at
LATEST = 1_000
MOST_DIED = 10_000  # attempts of the last hour that are looked at, and dead letters that were raised in it
WINDOWS = {"24h": 24, "7d": 168}  # hours, the running one included


@dataclass(frozen=True, slots=True)
class AttemptTotals:
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
    """One as_of. A part that could not be had is None.

    counts           notifications by status, every status present
    estimated        the statuses whose count is an estimate: more than EXACT_UP_TO rows on PostgreSQL
    dead_by_channel  configured channels first, in the settings' spelling and order; of the others the
                     MOST_UNCONFIGURED with the most, and the rest as one
    closed           how many of the read are dismissed, and withdrawn, up to EXACT_UP_TO + 1; others are seen
    stranded         failed without a next retry
    probably_delivered  of these the e-mails of certctl's
    beside           how we live together with certctl, and in_grace: what is left to it for now
    not_delivered    sent for want of a notifier, among the newest MOST_WITH_AN_ERROR that may be
    refused          undelivered, of which the database takes no change
    died_last_hour   dead letters that died in the last hour; died_more: or more than that
    oldest_due       seconds that the oldest due notification has been waiting, 0 when none is due
    last_sweeps      by kind, None for a kind that never swept
    attempts         by channel, every configured one present; tallies.NOT_CONFIGURED stands for all others
    traffic          by the names of WINDOWS
    holds            the endpoints that are held, paused or on their way back, at most MOST_HOLDS
    ending           of the certificates that dead letters are about the first to end, or that ended within a
                     day: its name, where it has one, and when
    withdrawn        how many were withdrawn, by channel
    latest           by channel, where it is among the newest LATEST attempts
    """

    at: datetime | None = None
    counts: Mapping[str, int] | None = None
    estimated: frozenset[str] = frozenset()
    dead_by_channel: Mapping[str, int] | None = None
    closed: Mapping[str, int] | None = None
    stranded: int | None = None
    probably_delivered: int | None = None
    beside: str | None = None
    in_grace: int | None = None
    not_delivered: int | None = None
    refused: int | None = None
    oldest_due: float | None = None
    last_sweeps: Mapping[str, SweepRun | None] | None = None
    attempts: Mapping[str, AttemptTotals] | None = None
    withdrawn: Mapping[str, int] | None = None
    traffic: Mapping[str, Traffic] | None = None
    holds: tuple[Hold, ...] | None = None
    ending: tuple[tuple[str, datetime], ...] | None = None
    latest: Mapping[str, Latest] | None = None
    died_last_hour: int | None = None
    died_more: bool | None = None


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
