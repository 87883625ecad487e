"""What one cell of the list says. Everything from outside is escaped here, by format_html."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import conf
from ..deadlines import is_urgent
from ..models import NotificationEvent, Status
from ..models.fields import UNDELIVERED
from ..operations.filters import DISMISSED, NOT_DELIVERED, PROBABLY_DELIVERED, SEEN, WITHDRAWN
from ..reporting import words
from ..text import one_line

# A mark beside the word, so that a column of badges can be told apart without colour.
MARKS: dict[str, str] = {
    Status.PENDING: "○",
    Status.FAILED: "↻",
    Status.SENT: "✓",
    PROBABLY_DELIVERED: "?",
    NOT_DELIVERED: "✕",
    Status.DEAD: "✕",
    Status.READ: "·",
    SEEN: "✓",
    DISMISSED: "⊘",
    WITHDRAWN: "↩",
}
LABELS: dict[str, str] = {
    **{str(s): str(s.label) for s in Status},
    PROBABLY_DELIVERED: "Probably delivered",
    NOT_DELIVERED: "Not delivered",
    SEEN: "Seen",
    DISMISSED: "Dismissed",
    WITHDRAWN: "Withdrawn",
}


def badge(status: str) -> SafeString:
    """Of a status, or of a kind of one that has a badge of its own."""
    return format_html(
        '<span class="nf-badge nf-{}"><span aria-hidden="true">{}</span> {}</span>',
        status if status in MARKS else "unknown",
        MARKS.get(status, "?"),
        LABELS.get(status, status),
    )


def badge_of(event: NotificationEvent) -> SafeString:
    return badge(words.kind(event))


def certificate(event: NotificationEvent, now: datetime) -> SafeString:
    """With when it ends, while somebody waits to hear of it."""
    name = format_html("{}", event.certificate_id or "")
    if not event.not_after or event.status not in (*UNDELIVERED, Status.DEAD):
        return name
    tone = " nf-urgent" if is_urgent(event.not_after, now) else ""
    return format_html(
        '{} <span class="nf-ends{}" title="{}">{}</span>',
        name,
        tone,
        words.timestamp(event.not_after),
        words.ends(event, now),
    )


STATE_TONES = {"paused": "failed", "recovering": "recovering"}


def state_badge(state: str) -> SafeString:
    """Of an endpoint, by the words of reporting.held; without one that says otherwise it delivers."""
    mark = "✓" if state == "open" else "‖" if state == "paused" else "↻" if state == "recovering" else "✕"
    tone = "sent" if state == "open" else STATE_TONES.get(state, "dead")
    return format_html(
        '<span class="nf-badge nf-{}"><span aria-hidden="true">{}</span> {}</span>',
        tone,
        mark,
        state,
    )


def when(at: datetime, text: str) -> SafeString:
    """A time in words, with the exact one for the pointer and for programs."""
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), words.timestamp(at), text)


def when_exact(at: datetime) -> SafeString:
    """The exact time, with its distance for a reader in a hurry."""
    return format_html(
        '{} <span class="nf-distance">({})</span>',
        when(at, words.timestamp(at)),
        words.ago(at, timezone.now()),
    )


def age(at: datetime) -> SafeString:
    return when(at, words.age(at, timezone.now()))


def retry(event: NotificationEvent, now: datetime) -> SafeString:
    """`Retry n/5`, and of a failed notification when it is attempted next; of any, what it waits for."""
    number = words.retries(event, conf.current().max_attempts)
    if not number:
        return format_html("{}", upcoming(event, now)) if words.waits_for(event) else SafeString("")
    shown = format_html('<span class="nf-retry">Retry {}</span>', number)
    if event.status == Status.DEAD:
        return shown
    return format_html('{} <span class="nf-next">{}</span>', shown, upcoming(event, now))


def upcoming(event: NotificationEvent, now: datetime) -> SafeString | str:
    text, at = words.next_attempt(event, now)
    if words.waits_for(event):
        there = reverse("admin:notifications_notificationevent_endpoints")
        return format_html('<a class="nf-waits" href="{}">{}</a>', there, text)
    return when(at, text) if at else text


def problem(event: NotificationEvent) -> SafeString:
    """The error on one line."""
    text = words.error(event)
    return (
        format_html('<span class="nf-error" title="{}">{}</span>', text, one_line(text))
        if text
        else SafeString("")
    )
