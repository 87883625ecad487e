"""How things stand, drawn from the one snapshot that all surfaces share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from ..engine.heartbeat import heartbeats
from ..models import Hold, Status
from ..operations.filters import (
    DISMISSED,
    NOT_DELIVERED,
    PROBABLY_DELIVERED,
    REFUSED,
    SEEN,
    STRANDED,
    WITHDRAWN,
)
from ..operations.verbs import REQUEUE
from ..reporting import held, words
from ..reporting.channels import Channels, settings
from ..reporting.figures import EXACT_UP_TO, Latest, Snapshot, Traffic
from ..reporting.held import HoldWords
from ..reporting.snapshot import snapshot as read_snapshot
from ..reporting.verdict import verdict
from . import cells, charts
from .console import Console

WIDTH, HEIGHT = 600, 120  # of a chart, in its own units
DAY = 24  # hours; a longer axis has dates
WINDOWS = {"24h": "24 hours", "7d": "7 days"}


class Figure(NamedTuple):
    """A number, what it counts, and the query string of the list of these, if there is one. some: not 0."""

    number: str
    label: str
    query: str
    some: bool


@dataclass(frozen=True, slots=True)
class Hour:
    """What the pointer is told of one; x and width in the chart's units."""

    x: str
    width: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One channel's hours: deliveries are bars, failed attempts a line. top: how many the tallest is."""

    channel: str
    delivered: str
    failed: str
    top: str
    bars: str
    line: str
    hours: list[Hour]
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """One channel now. delivered, failed: the exact time, else the hour that counts it, else None."""

    channel: str
    configured: bool
    holds: list[tuple[Hold, HoldWords, SafeString]]
    delivered: datetime | None
    failed: datetime | None
    error: str
    dead: str


def page(console: Console, request: HttpRequest, template: str) -> HttpResponse:
    snapshot = read_snapshot()
    now = snapshot.at or timezone.now()
    chosen = next((name for name in WINDOWS if name == request.GET.get("window")), "24h")
    context = {
        "title": "Dashboard",
        "at": now,
        "snapshot": snapshot,
        "verdict": verdict(snapshot, now, recipients=True),
        "loud": loud(snapshot),
        "quiet": quiet(snapshot),
        "health": health(snapshot, now),
        "delivering": cells.state_badge(cells.DELIVERING),
        "sweeps": [(kind, words.sweep(run, now)) for kind, run in (snapshot.last_sweeps or {}).items()],
        "workers": [(beat.name, words.worker(beat, now)) for beat in heartbeats(snapshot.at)],
        "no_worker": words.NO_WORKER,
        "window": window(snapshot, chosen),
        "windows": [(name, label, name == chosen) for name, label in WINDOWS.items()],
        "may": REQUEUE.allowed_to(request.user),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return console.respond(request, template, context)


def loud(snapshot: Snapshot) -> list[Figure]:
    """What somebody must decide on, and how long the oldest that is due has waited."""
    dead = _of_status(snapshot, Status.DEAD)
    label = "stranded: nothing tries them again"
    if snapshot.probably_delivered:
        label = f"stranded, {words.count(snapshot.probably_delivered)} of them probably delivered"
    stranded = _figure(snapshot.stranded, label, f"status={STRANDED}")
    waits = Figure(*waited(snapshot.oldest_due), "", bool(snapshot.oldest_due))
    return [dead._replace(label="dead letters wait for a decision"), stranded, waits]


def quiet(snapshot: Snapshot) -> list[Figure]:
    """The others; the special ones only where there are any."""
    ours = [_of_status(snapshot, status) for status in (Status.PENDING, Status.FAILED, Status.SENT)]
    ours += _read(snapshot)
    special = [
        _figure(snapshot.in_grace, "of the pending left to certctl, which is sending", ""),
        _figure(snapshot.probably_delivered, "probably delivered", f"status={PROBABLY_DELIVERED}"),
        _figure(snapshot.not_delivered, "not delivered", f"status={NOT_DELIVERED}"),
        _figure(snapshot.refused, f"refused: {words.REFUSED}", f"status={REFUSED}"),
    ]
    return [*ours, *(figure for figure in special if figure.some)]


def _read(snapshot: Snapshot) -> list[Figure]:
    """The three kinds of read. Nobody counts the seen: they are what the others leave."""
    counted, read = snapshot.closed or {}, (snapshot.counts or {}).get(Status.READ)
    vague = Status.READ in snapshot.estimated or max(counted.values(), default=0) > EXACT_UP_TO
    seen = None if read is None or not counted else max(read - sum(counted.values()), 0)
    text = "?" if seen is None else words.count(seen, estimated=vague)
    others = [(DISMISSED, counted.get(DISMISSED)), (WITHDRAWN, counted.get(WITHDRAWN))]
    return [
        Figure(text, SEEN, f"status={SEEN}", bool(seen)),
        *(_figure(number, kind, f"status={kind}") for kind, number in others),
    ]


def _of_status(snapshot: Snapshot, status: Status) -> Figure:
    number = (snapshot.counts or {}).get(status)
    text = "?" if number is None else words.count(number, estimated=status in snapshot.estimated)
    return Figure(text, str(status), f"status={status}", bool(number))


def _figure(number: int | None, label: str, query: str) -> Figure:
    text = "?" if number is None else words.count(number, most=EXACT_UP_TO)
    return Figure(text, label, query, bool(number))


def waited(seconds: float | None) -> tuple[str, str]:
    if seconds is None:
        return "?", "how long the oldest due has waited is not known"
    return words.duration(seconds), "the oldest due has waited" if seconds else "nothing is due"


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
                dead="?" if snapshot.dead_by_channel is None else words.count(dead.get(name, 0)),
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


def window(snapshot: Snapshot, name: str) -> dict[str, Any] | None:
    """One of WINDOWS, with a chart for each channel that has anything to show; None where it is not known."""
    traffic = (snapshot.traffic or {}).get(name)
    if traffic is None:
        return None
    drawn = [chart(channel, traffic) for channel in traffic.delivered]
    return {
        "label": WINDOWS[name],
        "charts": [c for c in drawn if c.hours],
        "quiet": [c.channel for c in drawn if not c.hours],
        "pace": words.pace(traffic.median, traffic.p95),
    }


def chart(channel: str, traffic: Traffic) -> Chart:
    delivered, failed = traffic.delivered[channel], traffic.failed.get(channel, ())
    failed = failed or (0,) * len(delivered)
    top = max(*delivered, *failed, 0)
    slot = WIDTH / len(traffic.hours)
    written = words.clock if len(traffic.hours) <= DAY else words.date
    hours = [
        Hour(
            f"{n * slot:.2f}",
            f"{slot:.2f}",
            f"{words.minute(hour)}: {good:,} delivered, {bad:,} failed attempts",
        )
        for n, (hour, good, bad) in enumerate(zip(traffic.hours, delivered, failed, strict=True))
        if good or bad
    ]
    return Chart(
        channel=channel,
        delivered=words.count(sum(delivered)),
        failed=words.count(sum(failed)),
        top=words.count(top),
        bars=charts.bars(delivered, WIDTH, HEIGHT, top),
        line=charts.line(failed, WIDTH, HEIGHT, top),
        hours=hours,
        first=written(traffic.hours[0]),
        last=written(traffic.hours[-1]),
    )
