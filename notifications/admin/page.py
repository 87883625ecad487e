"""A notification's own page: its facts, and its story from raised to what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html

from .. import conf
from ..deaths.fingerprints import LONG
from ..models import AttemptOutcome, NotificationEvent, Status
from ..reporting import held, words
from ..reporting import timeline as history
from ..reporting.timeline import Entry, Fact, Kind
from ..text import telling
from .cells import retry, upcoming, when_exact

RELATED = 10
LINES, CHARACTERS, SPARED = 5, 600, 200  # of a long text that are shown; no fewer characters are hidden
TONES: dict[str, str] = {
    Kind.RAISED: "pending",
    Kind.REQUEUE: "requeue",
    Kind.ESCALATION: "requeue",
    Kind.UNDO: "requeue",
    AttemptOutcome.SENT: "sent",
    AttemptOutcome.TRANSIENT: "failed",
    AttemptOutcome.UNKNOWN: "failed",
    AttemptOutcome.INTERRUPTED: "failed",
    AttemptOutcome.PERMANENT: "dead",
    AttemptOutcome.NO_NOTIFIER: "dead",
    Kind.NEXT: "next",
}


@dataclass(frozen=True, slots=True)
class Clamped:
    """A long text: its beginning, the rest of it, how much that is, and its end where that tells most."""

    text: str
    rest: str = ""
    more: str = ""
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry of the timeline as the page draws it.

    tone    its colour
    detail  an error, where it says more than what stands above; else `again`: that it is the same
    """

    entry: Entry
    tone: str
    facts: list[tuple[str, object]]
    detail: Clamped | None = None
    again: bool = False


def clamped(text: str) -> Clamped:
    """What fits into a few lines, and the rest."""
    lines = text.splitlines(keepends=True)
    shown = _to_a_blank("".join(lines[:LINES]))
    rest = text[len(shown) :]
    if len(rest) < SPARED:
        return Clamped(text)
    number = rest.count("\n") + 1 if rest.strip() else 0
    more = f"{number} more lines" if number > 1 else f"{len(rest):,} more characters"
    tail = telling(text)
    tail = "" if tail == text else tail[:CHARACTERS]
    return Clamped(shown.rstrip("\n"), rest.lstrip("\n") if shown.endswith("\n") else rest, more, tail)


def _to_a_blank(text: str) -> str:
    """As much of it as is shown at once, without half a word at its end."""
    if len(text) <= CHARACTERS:
        return text
    end = max(text.rfind(blank, CHARACTERS - LONG, CHARACTERS) for blank in " \n")
    return text[: end + 1 or CHARACTERS]


def errors(event: NotificationEvent) -> list[Clamped]:
    """What is wrong with it, each text once."""
    return [clamped(text) for text in dict.fromkeys((event.last_error, event.error)) if text]


def facts(event: NotificationEvent, now: datetime, certificate: object) -> list[tuple[str, object]]:
    """What the row says, but for the message and the errors; certificate is a link, or None."""
    held.noted([event], now)
    richer: dict[str, object] = {
        "Certificate": certificate,
        "Raised": when_exact(event.created_at),
        "Sent": when_exact(event.sent_at) if event.sent_at else "",
        "Retry": retry(event, now) if event.status != Status.DEAD else "",
    }
    plain = words.facts(event, conf.current().max_attempts, now)
    return [(label, richer.get(label) or text) for label, text in plain]


def timeline(event: NotificationEvent, now: datetime) -> list[Shown]:
    """Every text once: the message and the last error stand above, and repeat themselves."""
    known = {event.message, event.last_error, event.error}
    found = []
    for entry in history.timeline(event, now):
        text = entry.detail.removeprefix(history.WIPED)
        found.append(_shown(entry, event, now, again=text in known))
        known.add(text)
    return found


def _shown(entry: Entry, event: NotificationEvent, now: datetime, *, again: bool) -> Shown:
    tone = TONES.get(entry.outcome or entry.kind, "read")
    facts: list[tuple[str, object]] = [(label, _linked(value)) for label, value in entry.facts]
    if entry.kind == Kind.NEXT and entry.facts:
        facts = [("When", upcoming(event, now))]
    if entry.kind == Kind.RAISED or not entry.detail:
        return Shown(entry, tone, facts)
    if again:
        return Shown(entry, tone, facts, again=True)
    return Shown(entry, tone, facts, clamped(entry.detail))


def _linked(value: Fact) -> object:
    if not isinstance(value, NotificationEvent):
        return value
    url = reverse("admin:notifications_notificationevent_change", args=[quote(value.pk)])
    return format_html('<a href="{}">{}</a>', url, value)


def related(event: NotificationEvent) -> list[NotificationEvent]:
    """The newest others about the same certificate."""
    if not event.certificate_id:
        return []
    rows = NotificationEvent.objects.filter(certificate_id=event.certificate_id).defer("message").with_kind()
    newest = rows.order_by("-created_at", "-id")[: RELATED + 1]
    return [other for other in newest if other.pk != event.pk][:RELATED]
