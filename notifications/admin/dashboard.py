"""How things stand, drawn from the one snapshot that all surfaces share (stats.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.timesince import timesince

from .. import conf, stats
from ..models import Hold
from ..worker import heartbeats
from . import cells
from .narrowing import RETRYING

if TYPE_CHECKING:
    from . import NotificationAdmin

TEMPLATE = "admin/notifications/notificationevent/dashboard.html"
MISSED_SWEEPS = 3
WIDTH, HEIGHT = 600, 120  # of a chart, in its own units
WINDOWS = {"24h": "Last 24 hours", "7d": "Last 7 days"}
STATUSES = {"pending": "pending", "failed": RETRYING, "dead": "dead", "sent": "sent", "read": "read"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: failures stand on deliveries. y and heights in the chart's units."""

    x: float
    width: float
    delivered_y: float
    delivered_height: float
    failed_y: float
    failed_height: float
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
    holds: list[Hold]
    delivered: datetime | None
    failed: datetime | None
    error: str
    dead: int | None


def page(console: NotificationAdmin, request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    snapshot = stats.snapshot()
    context = {
        "title": "Dashboard",
        "at": snapshot.at or now,
        "snapshot": snapshot,
        "warning": warning(snapshot, now),
        "counts": counts(snapshot),
        "oldest_due": duration(snapshot.oldest_due),
        "health": health(snapshot, now),
        "sweeps": [
            (kind, run, cells.age(run.ended_at) if run else None)
            for kind, run in (snapshot.last_sweeps or {}).items()
        ],
        "workers": [(worker, cells.age(worker.seen_at)) for worker in heartbeats(snapshot.at)],
        "windows": windows(snapshot),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return console.respond(request, TEMPLATE, context)


def warning(snapshot: stats.Snapshot, now: datetime) -> str:
    """Why nothing may be on its way, "" when all is well."""
    if snapshot.last_sweeps is None:
        return "The database did not say when a sweep ran last."
    ends = [run.ended_at for run in snapshot.last_sweeps.values() if run]
    settings = conf.current()
    longest = MISSED_SWEEPS * max(settings.retry_interval, settings.process_interval)
    start = "Nothing is being delivered: "
    advice = "Start run_notifications, or look at the cron entries of the sweeps."
    if not ends:
        return f"{start}no sweep has ever run. {advice}"
    if now - max(ends) > longest:
        return f"{start}the last sweep ended {cells.apart(max(ends), now)} ago. {advice}"
    return ""


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
        found.append(Health(name, holds, delivered, failed, known.error, dead.get(name)))
    return found


def same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def last_hour(week: stats.Traffic | None, what: str, channel: str) -> datetime | None:
    if week is None:
        return None
    numbers = getattr(week, what).get(channel, ())
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
    left, width = round(x + slot * 0.1, 2), round(slot * 0.8, 2)
    return Bar(
        left,
        width,
        delivered_y=round(HEIGHT - low, 2),
        delivered_height=round(low, 2),
        failed_y=round(HEIGHT - low - high, 2),
        failed_height=round(high, 2),
        title=title,
    )
