"""A notification's own page: its facts, and its story from raised to what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html

from .. import conf
from ..models import AttemptOutcome, NotificationEvent
from ..reporting import held, words
from ..reporting import timeline as history
from ..reporting.timeline import Entry, Fact, Kind
from .cells import retry, upcoming, when_exact

RELATED = 10
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
class Shown:
    """An entry of the timeline as the page draws it; tone is its colour."""

    entry: Entry
    tone: str
    facts: list[tuple[str, object]]


def facts(event: NotificationEvent, now: datetime, certificate: object) -> list[tuple[str, object]]:
    """What the row says, but for the message and the errors; certificate is a link, or None."""
    held.noted([event], now)
    richer: dict[str, object] = {
        "Certificate": certificate,
        "Raised": when_exact(event.created_at),
        "Sent": when_exact(event.sent_at) if event.sent_at else "",
        "Retry": retry(event, now),
    }
    plain = words.facts(event, conf.current().max_attempts, now)
    return [(label, richer.get(label) or text) for label, text in plain]


def timeline(event: NotificationEvent, now: datetime) -> list[Shown]:
    return [_shown(entry, event, now) for entry in history.timeline(event, now)]


def _shown(entry: Entry, event: NotificationEvent, now: datetime) -> Shown:
    tone = TONES.get(entry.outcome or entry.kind, "read")
    if entry.kind == Kind.NEXT and entry.facts:
        return Shown(entry, tone, [("When", upcoming(event, now))])
    return Shown(entry, tone, [(label, _linked(value)) for label, value in entry.facts])


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
