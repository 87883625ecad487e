"""How things stand, drawn from the one snapshot that all surfaces share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from ..engine.heartbeat import heartbeats
from ..models import Hold
from ..operations.filters import NOT_DELIVERED, PROBABLY_DELIVERED
from ..operations.verbs import REQUEUE
from ..reporting import held, words
from ..reporting.channels import Channels, settings
from ..reporting.figures import Latest, Snapshot, Traffic
from ..reporting.held import HoldWords
from ..reporting.snapshot import snapshot as read_snapshot
from ..reporting.verdict import verdict
from . import cells
from .console import Console

WIDTH, HEIGHT = 600, 120  # of a chart, in its own units
WINDOWS = {"24h": "Last 24 hours", "7d": "Last 7 days"}
STATUSES = ("pending", "failed", "dead", "sent", "read")


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
class ChannelHealth:
    """One channel now. delivered, failed: the exact time, else the hour that counts it, else None."""

    channel: str
    configured: bool
    holds: list[tuple[Hold, HoldWords, SafeString]]
    delivered: datetime | None
    failed: datetime | None
    error: str
    dead: int | None


def page(console: Console, request: HttpRequest, template: str) -> HttpResponse:
    snapshot = read_snapshot()
    now = snapshot.at or timezone.now()
    context = {
        "title": "Dashboard",
        "at": now,
        "snapshot": snapshot,
        "verdict": verdict(snapshot, now, recipients=True),
        "counts": counts(snapshot),
        "probably_delivered": cells.badge(PROBABLY_DELIVERED),
        "refused": words.REFUSED,
        "not_delivered": cells.badge(NOT_DELIVERED),
        "oldest_due": waited(snapshot.oldest_due),
        "health": health(snapshot, now),
        "open": cells.state_badge("open"),
        "sweeps": [(kind, words.sweep(run, now)) for kind, run in (snapshot.last_sweeps or {}).items()],
        "workers": [(beat.name, words.worker(beat, now)) for beat in heartbeats(snapshot.at)],
        "no_worker": words.NO_WORKER,
        "windows": windows(snapshot),
        "may": REQUEUE.allowed_to(request.user),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return console.respond(request, template, context)


def counts(snapshot: Snapshot) -> list[tuple[Any, str, str]]:
    """(badge, how many, the list's query string) of every status; an estimate says so."""
    found: list[tuple[Any, str, str]] = []
    for status in STATUSES:
        count = (snapshot.counts or {}).get(status)
        text = "?" if count is None else words.count(count, estimated=status in snapshot.estimated)
        found.append((cells.badge(status), text, f"status={status}"))
    return found


def waited(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    return words.duration(seconds) if seconds else "nothing is due"


def within(seconds: float | None) -> str:
    return "no deliveries" if seconds is None else words.duration(seconds)


def health(snapshot: Snapshot, now: datetime) -> list[ChannelHealth]:
    week = (snapshot.traffic or {}).get("7d")
    dead = snapshot.dead_by_channel or {}
    latest = snapshot.latest or {}
    channels, limit = Channels(), settings().hold_limit
    holds: dict[str, list[tuple[Hold, HoldWords, SafeString]]] = {}
    for hold in snapshot.holds or ():
        said = held.in_words(hold, now, limit)
        holds.setdefault(channels.spelled(hold.channel), []).append(
            (hold, said, cells.state_badge(said.state))
        )
    found = []
    for name in dict.fromkeys(
        [*channels.configured, *dead, *(week.delivered if week else ()), *latest, *holds]
    ):
        known = latest.get(name, Latest())
        found.append(
            ChannelHealth(
                channel=name,
                configured=channels.is_configured(name),
                holds=holds.get(name, []),
                delivered=known.delivered or last_hour(week, "delivered", name),
                failed=known.failed or last_hour(week, "failed", name),
                error=known.error,
                dead=dead.get(name),
            )
        )
    return found


def last_hour(week: Traffic | None, what: str, channel: str) -> datetime | None:
    numbers = getattr(week, what).get(channel) if week else None
    if week is None or numbers is None:
        return None
    return next(
        (hour for hour, number in zip(reversed(week.hours), reversed(numbers), strict=True) if number), None
    )


def windows(snapshot: Snapshot) -> list[dict[str, Any]]:
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
                "median": within(traffic.median),
                "p95": within(traffic.p95),
            }
        )
    return found


def chart(channel: str, traffic: Traffic) -> Chart:
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
    title = f"{words.minute(hour)}: {delivered:,} delivered, {failed:,} failed attempts"
    return Bar(
        x=f"{x + slot * 0.1:.2f}",
        width=f"{slot * 0.8:.2f}",
        delivered_y=f"{HEIGHT - low:.2f}",
        delivered_height=f"{low:.2f}",
        failed_y=f"{HEIGHT - low - high:.2f}",
        failed_height=f"{high:.2f}",
        title=title if delivered or failed else "",
    )
