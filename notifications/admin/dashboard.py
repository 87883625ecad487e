"""How things stand, drawn from the one snapshot that all surfaces share (stats.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.timesince import timesince

from .. import conf
from ..engine.heartbeat import heartbeats
from ..models import Hold, Status, SweepKind, SweepRun
from ..operations.filters import RETRYING
from ..reporting import snapshot as stats
from . import cells

if TYPE_CHECKING:
    from . import NotificationAdmin

MISSED_SWEEPS = 3
ADVICE = "Start run_notifications, or look at the cron entries of the sweeps."
WIDTH, HEIGHT = 600, 120  # of a chart, in its own units
WINDOWS = {"24h": "Last 24 hours", "7d": "Last 7 days"}
STATUSES = {"pending": "pending", "failed": RETRYING, "dead": "dead", "sent": "sent", "read": "read"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: failures stand on deliveries. Numbers as SVG writes them, in the chart's units."""

    x: str
    width: str
    delivered_y: str
    delivered_height: str
    failed_y: str
    failed_height: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One channel's hours; top: how many the tallest bar is."""

    channel: str
    delivered: int
    failed: int
    top: int
    bars: list[Bar]
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """One channel now. delivered, failed: the exact time, else the hour that counts it, else None."""

    channel: str
    configured: bool
    holds: list[Hold]
    delivered: datetime | None
    failed: datetime | None
    error: str
    dead: int | None


def page(console: NotificationAdmin, request: HttpRequest, template: str) -> HttpResponse:
    now = timezone.now()
    snapshot = stats.snapshot()
    context = {
        "title": "Dashboard",
        "at": snapshot.at or now,
        "snapshot": snapshot,
        "warnings": warnings(snapshot, now),
        "counts": counts(snapshot),
        "oldest_due": duration(snapshot.oldest_due),
        "health": health(snapshot, now),
        "sweeps": (snapshot.last_sweeps or {}).items(),
        "workers": heartbeats(snapshot.at),
        "windows": windows(snapshot),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return console.respond(request, template, context)


def warnings(snapshot: stats.Snapshot, now: datetime) -> list[str]:
    """Why nothing, or nothing of one kind, may be on its way; empty when all is well."""
    if snapshot.last_sweeps is None:
        return ["The database did not say when a sweep ran last."]
    ends = {kind: run.ended_at for kind, run in snapshot.last_sweeps.items() if run}
    if everything := stalled(ends.values(), now):
        return [everything]
    counts = snapshot.counts or {}
    waiting = {
        SweepKind.PENDING: counts.get(Status.PENDING, 0),
        SweepKind.RETRY: counts.get(Status.FAILED, 0) - (snapshot.stranded or 0),
    }
    return [
        late(kind, ends.get(kind), many, now)
        for kind, many in waiting.items()
        if many > 0 and is_late(ends.get(kind), now)
    ]


def stalled(ends: Iterable[datetime], now: datetime) -> str:
    """What to say when no sweep of any kind has run lately, else ""."""
    last = max(ends, default=None)
    if not is_late(last, now):
        return ""
    what = f"the last sweep ended {cells.apart(last, now)} ago" if last else "no sweep has ever run"
    return f"Nothing is being delivered: {what}. {ADVICE}"


def late(kind: SweepKind, end: datetime | None, many: int, now: datetime) -> str:
    what = f"ended {cells.apart(end, now)} ago" if end else "has never run"
    waiting = "1 notification waits" if many == 1 else f"{many:,} notifications wait"
    return f"The last {kind} sweep {what}, and {waiting} for the next one. {ADVICE}"


def is_late(end: datetime | None, now: datetime) -> bool:
    settings = conf.current()
    return end is None or now - end > MISSED_SWEEPS * max(settings.retry_interval, settings.process_interval)


def last_ends() -> list[datetime]:
    """When the last sweep of each kind ended that ever swept."""
    ends = SweepRun.objects.order_by("-ended_at").values_list("ended_at", flat=True)
    return [end for kind in SweepKind if (end := ends.filter(kind=kind).first())]


def counts(snapshot: stats.Snapshot) -> list[tuple[Any, str, str]]:
    """(badge, how many, the list's query string) of every status; an estimate begins with a tilde."""
    found: list[tuple[Any, str, str]] = []
    for status, filtered in STATUSES.items():
        count = (snapshot.counts or {}).get(status)
        about = "about " if status in snapshot.estimated else ""
        found.append(
            (cells.badge(status), "?" if count is None else f"{about}{count:,}", f"status={filtered}")
        )
    return found


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    if seconds == 0:
        return "nothing is due"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now, depth=2)


def health(snapshot: stats.Snapshot, now: datetime) -> list[Health]:
    week = (snapshot.traffic or {}).get("7d")
    dead = snapshot.dead_by_channel or {}
    latest = snapshot.latest or {}
    names = dict.fromkeys([*dead, *(week.delivered if week else ()), *latest])
    found = []
    for name in names:
        known = latest.get(name, stats.Latest())
        holds = [hold for hold in snapshot.holds or () if same(hold.channel, name) and hold.until > now]
        delivered = known.delivered or last_hour(week, "delivered", name)
        failed = known.failed or last_hour(week, "failed", name)
        configured = conf.current().channel(name) is not None
        found.append(Health(name, configured, holds, delivered, failed, known.error, dead.get(name)))
    return found


def same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def last_hour(week: stats.Traffic | None, what: str, channel: str) -> datetime | None:
    numbers = getattr(week, what).get(channel) if week else None
    if week is None or numbers is None:
        return None
    return next(
        (hour for hour, number in zip(reversed(week.hours), reversed(numbers), strict=True) if number), None
    )


def windows(snapshot: stats.Snapshot) -> list[dict[str, Any]]:
    """The two time ranges, with a chart for each channel that has anything to show."""
    found = []
    for name, label in WINDOWS.items():
        traffic = (snapshot.traffic or {}).get(name)
        if traffic is None:
            continue
        charts = [chart(channel, traffic) for channel in traffic.delivered]
        found.append(
            {
                "label": label,
                "charts": [c for c in charts if c.top],
                "quiet": [c.channel for c in charts if not c.top],
                "median": duration(traffic.median) if traffic.median is not None else "no deliveries",
                "p95": duration(traffic.p95) if traffic.p95 is not None else "no deliveries",
            }
        )
    return found


def chart(channel: str, traffic: stats.Traffic) -> Chart:
    delivered, failed = traffic.delivered[channel], traffic.failed.get(channel, ())
    failed = failed or (0,) * len(delivered)
    top = max(map(sum, zip(delivered, failed, strict=True)), default=0)
    slot = WIDTH / len(traffic.hours)
    bars = [
        bar(n * slot, slot, traffic.hours[n], delivered[n], failed[n], top) for n in range(len(traffic.hours))
    ]
    hours = traffic.hours
    return Chart(channel, sum(delivered), sum(failed), top, [b for b in bars if b.title], hours[0], hours[-1])


def bar(x: float, slot: float, hour: datetime, delivered: int, failed: int, top: int) -> Bar:
    """An hour without attempts has no title, and is not drawn."""
    low, high = (HEIGHT * number / top if top else 0.0 for number in (delivered, failed))
    at = f"{timezone.localtime(hour):%Y-%m-%d %H:%M}"
    title = f"{at}: {delivered:,} delivered, {failed:,} failed attempts" if delivered or failed else ""
    return Bar(
        x=f"{x + slot * 0.1:.2f}",
        width=f"{slot * 0.8:.2f}",
        delivered_y=f"{HEIGHT - low:.2f}",
        delivered_height=f"{low:.2f}",
        failed_y=f"{HEIGHT - low - high:.2f}",
        failed_height=f"{high:.2f}",
        title=title,
    )
