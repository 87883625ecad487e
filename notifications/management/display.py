"""How the operator's command line shows things: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper

from notifications.models import Escalation, NotificationEvent
from notifications.notifiers.wording import Severity
from notifications.reporting import activity, held, words
from notifications.reporting.channels import settings
from notifications.reporting.contract import ATTEMPT, EVENT, READING, REQUEUE, fields
from notifications.reporting.figures import Snapshot, Traffic
from notifications.reporting.preview import Preview
from notifications.reporting.timeline import Entry, Kind, plain, timeline
from notifications.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

COLORS = {
    "pending": "yellow", "failed": "yellow", "sent": "green", "dead": "bold red", "read": "dim",
    "transient": "yellow", "permanent": "bold red", "unknown": "yellow", "interrupted": "yellow",
    "no_notifier": "bold red", "not delivered": "bold red", "probably delivered": "yellow",
}  # fmt: skip
SEVERITY_COLORS = {
    Severity.CRITICAL: "bold red", Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "green",
}  # fmt: skip
NUMBER = re.compile(r"(about )?[\d,]+\+?")
WIDE = 100_000  # columns, where nobody looks: nothing is cut or folded for grep
ROOMY = 140
TIME_WIDTH = len("2026-11-24 08:00:00 UTC")
MODEST, LEAST = 30, 10  # columns of a cell that others crowd
NO_NOTIFIER = "sent, but their channel had no notifier"
MAILED = "e-mails, of which certctl reports an error after their server has taken them"
DISPENSABLE = ("TYPE", "RECIPIENT", "CERTIFICATE")


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


def show_list(screen: Screen, events: Sequence[NotificationEvent], budget: int, now: datetime) -> None:
    """On a narrow terminal without what the ID also tells."""
    columns = {
        "ID": [event.pk for event in events],
        "STATUS": [words.status(event) for event in events],
        "TYPE": [event.type for event in events],
        "CHANNEL": [event.channel for event in events],
        "RECIPIENT": [event.recipient for event in events],
        "CERTIFICATE": [event.certificate_id or "" for event in events],
        "ENDS": [words.ends(event, now) for event in events],
        "RAISED": [words.ago(event.created_at, now) for event in events],
        "RETRY": [words.retries(event, budget) for event in events],
        "LAST ERROR": [words.problem(words.error(event)) for event in events],
    }
    if not any(columns["ENDS"]):
        del columns["ENDS"]
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


def show_event(screen: Screen, event: NotificationEvent, budget: int, now: datetime) -> None:
    """The notification, and what happened to it, oldest first."""
    facts = [("Type", event.type), ("Status", words.status(event)), *words.facts(event, budget, now)]
    facts += [("Message", event.message), ("Last error", words.error(event))]
    for label, text in facts:
        if text:
            screen.line(f"{label:<18} {text}", COLORS.get(text, "") if label == "Status" else "")
    screen.line()
    for entry in timeline(event, now):
        show_entry(screen, entry)


def show_entry(screen: Screen, entry: Entry) -> None:
    at = words.timestamp(entry.at) if entry.at else ""
    facts = ", ".join(f"{label.lower()}: {plain(value)}" for label, value in entry.facts)
    line = f"{entry.sentence} ({facts})" if facts else entry.sentence
    screen.line(f"{at:<{TIME_WIDTH}}  {line}", COLORS.get(entry.outcome, ""))
    if entry.detail and entry.kind != Kind.RAISED:  # the message stands above
        screen.line(f"{'':{TIME_WIDTH}}  {one_line(entry.detail)}", "dim")


def previewed(preview: Preview) -> dict[str, Any]:
    """For programs."""
    words = preview.words
    said = words and {
        "headline": words.headline,
        "label": words.label,
        "severity": words.severity,
        "text": words.text,
        "facts": dict(words.facts),
        "url": words.link,
        "template_fault": words.fault,
    }
    return {"channel": preview.channel, "words": said, "sent": preview.text, "fault": preview.fault}


def show_preview(screen: Screen, preview: Preview) -> None:
    """As its readers see it; where programs read it, what they get."""
    words = preview.words
    if words is None:
        screen.plain(printable_lines(preview.text))
        return
    if words.fault:
        screen.line(f"In plain words: {words.fault}", "bold red")
    screen.line(words.headline, "bold")
    screen.line(f"{words.severity}: {words.label} on {preview.channel}", SEVERITY_COLORS[words.severity])
    for text in ("", *words.body().splitlines()):
        screen.line(text)


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def show_stats(screen: Screen, shown: Snapshot, now: datetime) -> None:
    """What could not be had is not shown."""
    for warning in activity.warnings(shown, now):
        screen.line(warning, "bold red")
    show_counts(screen, shown)
    if shown.traffic is not None:
        show_traffic(screen, shown.traffic)
    if shown.holds:
        show_holds(screen, shown, now)
    if shown.stranded:
        screen.line(f"{words.count(shown.stranded)} stranded: failed without a next retry.", "bold red")
    if shown.probably_delivered:
        screen.line(
            f"{words.count(shown.probably_delivered)} of them probably delivered: {MAILED}.", "yellow"
        )
    if shown.in_grace:
        screen.line(f"{words.count(shown.in_grace)} left to certctl for now, which is sending.")
    if shown.not_delivered:
        screen.line(f"{words.count(shown.not_delivered)} not delivered: {NO_NOTIFIER}.", "bold red")
    if shown.refused:
        screen.line(f"{words.count(shown.refused)} refused: {words.REFUSED}.", "bold red")
    if shown.oldest_due is not None:
        waiting = f"The oldest due notification has been waiting for {words.duration(shown.oldest_due)}."
        screen.line(waiting if shown.oldest_due else "Nothing is due.")
    for kind, run in (shown.last_sweeps or {}).items():
        screen.line(f"Last {kind} sweep: {words.sweep(run, now)}.")


def show_counts(screen: Screen, shown: Snapshot) -> None:
    if shown.counts is not None:
        counts = shown.counts.items()
        rows = [(s, words.count(number, estimated=s in shown.estimated)) for s, number in counts]
        screen.table(("STATUS", "NOTIFICATIONS"), rows)
        screen.line()
    if shown.dead_by_channel is not None and any(shown.dead_by_channel.values()):
        dead = [(channel, words.count(n)) for channel, n in shown.dead_by_channel.items() if n]
        screen.table(("DEAD ON", "NUMBER"), dead)
        screen.line()


def show_holds(screen: Screen, shown: Snapshot, now: datetime) -> None:
    """Without their recipients, as in all statistics."""
    limit = settings().hold_limit
    rows = []
    for hold in shown.holds or ():
        said = held.in_words(hold, now, limit)
        rows.append((said.name, said.state, said.until, words.ago(hold.since, now), said.why))
    screen.table(("ENDPOINT", "STATE", "UNTIL", "SINCE", "WHY"), rows)
    screen.line()


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
        if pace := words.pace(t.median, t.p95):
            screen.line(f"From raised to delivered: {pace} ({name}).")
