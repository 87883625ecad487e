"""How the operator's command line shows things: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper
from django.db import models
from django.utils import timezone

from notifications.models import (
    DeliveryAttempt,
    Escalation,
    NotificationEvent,
    Reading,
    Requeue,
    Status,
    SweepRun,
)
from notifications.reporting.snapshot import Snapshot, Traffic
from notifications.values import UNKNOWN, UnknownTime

if TYPE_CHECKING:
    from rich.console import RenderableType

EVENT = (
    "id", "type", "certificate_id", "channel", "recipient", "message", "sent_at", "status", "error",
    "retry_count", "next_retry_at", "last_error", "created_at",
)  # fmt: skip
ATTEMPT = (
    "number", "channel", "started_at", "duration_ms", "outcome", "reason", "status_code", "error", "worker",
)  # fmt: skip
REQUEUE = ("by", "via", "at", "status", "retry_count", "last_error", "reason")
READING = ("by", "via", "at", "status", "reason")
COLORS = {
    "pending": "yellow", "failed": "yellow", "sent": "green", "dead": "bold red", "read": "dim",
    "transient": "yellow", "permanent": "bold red", "unknown": "yellow", "interrupted": "yellow",
    "no_notifier": "bold red",
}  # fmt: skip
UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
NUMBER = re.compile(r"~?[\d,]+")
WIDE = 100_000  # columns, where nobody looks: nothing is cut or folded for grep
ROOMY = 140
MODEST, LEAST = 30, 10  # columns of a cell that others crowd
DISPENSABLE = ("TYPE", "RECIPIENT", "CERTIFICATE")


def fields(row: models.Model, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def as_json(value: Any) -> str:
    """One line of JSON, plain ASCII; times in RFC 3339 UTC."""
    return json.dumps(value, default=_time)


def _time(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def printable(text: object) -> str:
    """Without the characters that a terminal obeys: what a provider says is shown, never done."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def span(seconds: float) -> str:
    """42s, 17m, 5h, 12d: the largest unit that fits, rounded down."""
    whole = max(0, math.floor(seconds))
    unit, size = next(((unit, size) for unit, size in UNITS if whole >= size), UNITS[-1])
    return f"{whole // size}{unit}"


def ago(at: datetime) -> str:
    if isinstance(at, UnknownTime):
        return UNKNOWN
    return f"{span((timezone.now() - at).total_seconds())} ago"


def clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


class Screen:
    """Prints for a person: in color and cut to its width on a terminal, plain and whole anywhere else."""

    def __init__(self, stream: OutputWrapper, *, color: bool | None) -> None:
        self._stream = stream
        self._color = color
        self._interactive = stream.isatty()
        self.width = shutil.get_terminal_size().columns if self._interactive else WIDE

    @property
    def narrow(self) -> bool:
        return self.width < ROOMY

    def _draw(self, drawing: RenderableType) -> str:
        # Imported late: it costs a tenth of a second that `--json` and a script's `create` need not spend.
        from rich.console import Console

        drawn = StringIO()
        color = self._interactive if self._color is None else self._color
        console = Console(
            file=drawn,
            width=self.width,
            force_terminal=color,
            no_color=None if color else True,
            highlight=False,
        )
        console.print(drawing)
        return drawn.getvalue()

    def plain(self, text: str, end: str = "\n") -> None:
        """Text of our own, as it is."""
        self._stream.write(text, ending=end)
        self._stream.flush()

    def line(self, text: object = "", style: str = "") -> None:
        """One line, folded on a terminal that is narrower."""
        from rich.text import Text

        self.plain(self._draw(Text(printable(text), style=style)).rstrip())

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Numbers stand to the right. On a terminal the last column takes the room that the others leave."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        body = [[printable(cell) for cell in row] for row in rows]
        table = Table(box=SIMPLE_HEAD if self._interactive else None, pad_edge=False)
        widths = [max(len(cell) for cell in column) for column in zip(heads, *body, strict=True)]
        room = self.width - 1
        for n, head in enumerate(heads):
            number = bool(body) and all(NUMBER.fullmatch(row[n]) for row in body)
            width = min(widths[n], MODEST) if 0 < n < len(heads) - 1 else min(widths[n], max(LEAST, room))
            room -= width + 3
            table.add_column(
                head,
                no_wrap=True,
                width=width if self._interactive else None,
                justify="right" if number else "left",
            )
        for row in body:
            table.add_row(*(Text(cell, style=COLORS.get(cell, "")) for cell in row))
        lines = [line.rstrip() for line in self._draw(table).splitlines()]
        self.plain("\n".join(line for line in lines if line))


def retries(event: NotificationEvent, budget: int) -> str:
    """For a dead notification the attempt that it died on."""
    if event.status not in (Status.FAILED, Status.DEAD):
        return ""
    number = event.attempt_number if event.status == Status.DEAD else event.retry_count
    return f"{number}/{budget}"


def show_list(screen: Screen, events: Sequence[NotificationEvent], budget: int) -> None:
    """On a narrow terminal without what the ID also tells."""
    columns = {
        "ID": [event.pk for event in events],
        "STATUS": [event.status for event in events],
        "TYPE": [event.type for event in events],
        "CHANNEL": [event.channel for event in events],
        "RECIPIENT": [event.recipient for event in events],
        "CERTIFICATE": [event.certificate_id or "" for event in events],
        "RAISED": [ago(event.created_at) for event in events],
        "RETRY": [retries(event, budget) for event in events],
        "LAST ERROR": [event.last_error or event.error or "" for event in events],
    }
    heads = [head for head in columns if not (screen.narrow and head in DISPENSABLE)]
    screen.table(heads, zip(*(columns[head] for head in heads), strict=True))


def whole(event: NotificationEvent) -> dict[str, Any]:
    """The notification with its history, for programs."""
    before, after = Escalation.around(event)
    return {
        **fields(event, EVENT),
        "escalation_of": before and before.notification_id,
        "escalated_to": after and after.raised_id,
        "attempts": [fields(attempt, ATTEMPT) for attempt in event.deliveryattempts.all()],
        "requeues": [fields(requeue, REQUEUE) for requeue in event.requeues.all()],
        "readings": [fields(reading, READING) for reading in event.readings.all()],
    }


def show_event(screen: Screen, event: NotificationEvent, budget: int) -> None:
    """The notification, and what happened to it, oldest first."""
    facts = (
        ("Notification", event.pk),
        ("Status", event.status),
        ("Type", event.type),
        ("Channel", event.channel),
        ("Recipient", event.recipient),
        ("Certificate", event.certificate_id),
        ("Retry", retries(event, budget)),
        ("Deduplication key", event.dedup_key),
        ("Message", event.message),
    )
    for name, value in facts:
        if value not in (None, ""):
            screen.line(f"{name:<18} {value}", COLORS.get(str(value), "") if name == "Status" else "")
    screen.line()
    for at, what, detail, style in timeline(event):
        screen.line(f"{clock(at)}  {what}", style)
        if detail:
            screen.line(f"{'':21}{detail}", "dim")


def timeline(event: NotificationEvent) -> list[tuple[datetime, str, str, str]]:
    """(when, what, the error, color), oldest first; the last one may lie ahead."""
    attempts = list(event.deliveryattempts.all())
    happened = [(event.created_at, "raised", "", "")]
    happened += [(a.started_at, attempted(a), a.error or "", COLORS.get(a.outcome, "")) for a in attempts]
    happened += [(r.at, requeued(r), r.last_error or "", "") for r in event.requeues.all()]
    happened += [(r.at, marked_read(r), "", "") for r in event.readings.all()]
    before, after = Escalation.around(event)
    if before:
        why = (
            f"in place of notification {before.notification_id}, which died on {before.notification.channel}"
        )
        happened.append((before.at, why, "", ""))
    if after:
        happened.append((after.at, f"escalated as notification {after.raised_id}", "", ""))
    if event.sent_at and not any(a.outcome == "sent" for a in attempts):
        happened.append((event.sent_at, "sent", event.error or "", COLORS["sent"]))
    if event.leased_until:
        happened.append((event.leased_until, "until then a worker has it in hand", "", ""))
    elif event.status == Status.FAILED and event.next_retry_at:
        happened.append((event.next_retry_at, "due again", "", ""))
    return sorted(happened, key=lambda moment: moment[0])


def attempted(attempt: DeliveryAttempt) -> str:
    status = f"status {attempt.status_code}" if attempt.status_code is not None else ""
    why = ", ".join(part for part in (attempt.reason, status) if part)
    by = f" by {attempt.worker}" if attempt.worker else ""
    return (
        f"attempt {attempt.number}: {attempt.outcome}{f' ({why})' if why else ''}"
        f" after {attempt.duration_ms} ms{by}"
    )


def requeued(requeue: Requeue) -> str:
    was = f"it was {requeue.status}, retried {requeue.retry_count} times"
    return f"requeued by {requeue.by} via {requeue.via}; {was}{because(requeue.reason)}"


def marked_read(reading: Reading) -> str:
    did = "dismissed" if reading.status == Status.DEAD else "seen"
    return f"{did} by {reading.by or 'somebody unnamed'} via {reading.via}{because(reading.reason)}"


def because(reason: str) -> str:
    return f": {reason}" if reason else ""


def show_stats(screen: Screen, shown: Snapshot) -> None:
    """What could not be had is not shown."""
    if shown.counts is not None:
        rows = [(s, f"{'~' if s in shown.estimated else ''}{count:,}") for s, count in shown.counts.items()]
        screen.table(("STATUS", "NOTIFICATIONS"), rows)
        screen.line()
    if shown.dead_by_channel is not None and any(shown.dead_by_channel.values()):
        dead = [(channel, count) for channel, count in shown.dead_by_channel.items() if count]
        screen.table(("DEAD ON", "NUMBER"), dead)
        screen.line()
    if shown.traffic is not None:
        show_traffic(screen, shown.traffic)
    if shown.holds:
        heads = ("HELD ENDPOINT", "UNTIL", "REASON", "SINCE", "ERROR")
        held = [(h.endpoint, clock(h.until), h.reason, ago(h.since), h.error) for h in shown.holds]
        screen.table(heads, held)
        screen.line()
    if shown.stranded:
        screen.line(f"{shown.stranded:,} stranded: failed without a next retry.", "bold red")
    if shown.oldest_due is not None:
        waiting = f"The oldest due notification has been waiting for {span(shown.oldest_due)}."
        screen.line(waiting if shown.oldest_due else "Nothing is due.")
    for kind, run in (shown.last_sweeps or {}).items():
        screen.line(f"Last {kind} sweep: {swept(run)}.")


def swept(run: SweepRun | None) -> str:
    if run is None:
        return "never"
    counts = f"{run.claimed} claimed, {run.sent} sent, {run.rescheduled} rescheduled, {run.dead} dead"
    return f"{ago(run.ended_at)}, {counts}"


def show_traffic(screen: Screen, traffic: Mapping[str, Traffic]) -> None:
    """Attempts by channel in each window, those without any left out."""
    heads = [f"{what} {name}" for name in traffic for what in ("DELIVERED", "FAILED")]
    series = [by_channel for t in traffic.values() for by_channel in (t.delivered, t.failed)]
    channels = list(dict.fromkeys(channel for by_channel in series for channel in by_channel))
    rows = [(c, *(sum(by_channel.get(c, ())) for by_channel in series)) for c in channels]
    if busy := [row for row in rows if any(row[1:])]:
        screen.table(("CHANNEL", *heads), busy)
        screen.line()
    for name, t in traffic.items():
        if t.median is not None and t.p95 is not None:
            screen.line(f"Half of all took {t.median:.1f} s to arrive, 95 % took {t.p95:.1f} s ({name}).")
