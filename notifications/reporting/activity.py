"""Whether anybody delivers: the last sweeps and the workers' heartbeats, in figures for /readyz and in
sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q

from ..engine.heartbeat import FORGOTTEN, LATE
from ..models import Status, SweepKind, SweepRun, Worker
from . import words
from .channels import settings
from .figures import Snapshot

MISSED_SWEEPS = 3
ADVICE = "Start run_notifications, or look at the cron entries of the sweeps."
UNSAID = "the database did not say when a sweep ran last"


@dataclass(frozen=True, slots=True)
class Workers:
    """The always-on workers. seen_at: when the last one said that it lives, None without any of late."""

    alive: int
    seen_at: datetime | None

    def went_silent(self, ends: Iterable[datetime]) -> bool:
        """There was one, it said no more, and no sweep has ended since. Who ended in order is not missed."""
        if self.alive or self.seen_at is None:
            return False
        last = max(ends, default=None)
        return last is None or last <= self.seen_at + LATE


def longest_pause() -> timedelta:
    """After so long without a sweep, something is wrong."""
    current = settings()
    return MISSED_SWEEPS * max(current.retry_interval, current.process_interval)


def last_ends() -> list[datetime]:
    """When the last sweep of each kind ended that ever swept."""
    # One look into the index for each kind; asked for both at once, it would read the whole table.
    ends = SweepRun.objects.order_by("-ended_at").values_list("ended_at", flat=True)
    return [end for kind in SweepKind if (end := ends.filter(kind=kind).first())]


def workers(now: datetime) -> Workers:
    seen = Worker.objects.filter(seen_at__gt=now - FORGOTTEN).aggregate(
        last=Max("seen_at"), alive=Count("pk", filter=Q(seen_at__gte=now - LATE))
    )
    return Workers(seen["alive"], seen["last"])


# Sentences


def warnings(shown: Snapshot, now: datetime) -> list[str]:
    """The complaints as sentences, each with what to do."""
    return [f"{said[:1].upper()}{said[1:]}. {advice([said])}".rstrip() for said in complaints(shown, now)]


def advice(complaints: Sequence[str]) -> str:
    """What to do about them; "" where there is nothing."""
    return ADVICE if set(complaints) - {UNSAID} else ""


def complaints(shown: Snapshot, now: datetime) -> list[str]:
    """Why nothing, or nothing of one kind, may be on its way; empty when all is well."""
    if shown.last_sweeps is None:
        return [UNSAID]
    ends = {kind: run.ended_at for kind, run in shown.last_sweeps.items() if run}
    if everything := _stalled(ends.values(), now):
        return [everything]
    counts = shown.counts or {}
    waiting = {
        SweepKind.PENDING: counts.get(Status.PENDING, 0),
        SweepKind.RETRY: counts.get(Status.FAILED, 0) - (shown.stranded or 0),
    }
    found = [
        _late(kind, ends.get(kind), number, now)
        for kind, number in waiting.items()
        if number > 0 and _is_late(ends.get(kind), now)
    ]
    return [*found, *_silent(workers(now), ends.values(), now)]


def stalled(ends: Iterable[datetime], now: datetime) -> str:
    """What to say when no sweep of any kind has run lately, else ""."""
    said = _stalled(ends, now)
    return f"{said[:1].upper()}{said[1:]}. {ADVICE}" if said else ""


def _stalled(ends: Iterable[datetime], now: datetime) -> str:
    last = max(ends, default=None)
    if not _is_late(last, now):
        return ""
    what = f"the last sweep ended {words.ago(last, now)}" if last else "no sweep has ever run"
    return f"nothing is being delivered: {what}"


def _late(kind: SweepKind, end: datetime | None, number: int, now: datetime) -> str:
    waiting = "1 notification waits" if number == 1 else f"{number:,} notifications wait"
    if end is None:
        return f"no {kind} sweep has ever run, and {waiting} for one"
    return f"the last {kind} sweep ended {words.ago(end, now)}, and {waiting} for the next one"


def _silent(workers: Workers, ends: Iterable[datetime], now: datetime) -> Iterator[str]:
    if workers.seen_at and workers.went_silent(ends):
        seen = words.ago(workers.seen_at, now)
        yield f"the always-on worker was last seen {seen}, and nobody has swept since"


def _is_late(end: datetime | None, now: datetime) -> bool:
    return end is None or now - end > longest_pause()
