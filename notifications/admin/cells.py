"""What one cell of the list says. Everything from outside is escaped here, by format_html."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from .. import conf
from ..durations import is_urgent
from ..models import NotificationEvent, Status
from ..models.fields import UNDELIVERED
from ..operations.filters import DISMISSED, NOT_DELIVERED, PROBABLY_DELIVERED, SEEN, WITHDRAWN
from ..reporting import words
from ..text import fold

HEAD, TAIL = 10, 8  # characters at the ends of what is left out in the middle
# The channels whose mark is drawn (marks.html), folded.
DRAWN = ("email", "webhook", "slack", "teams", "pagerduty", "opsgenie")

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


DELIVERING = "delivering"  # the state of an endpoint that nothing keeps back
STATES = {DELIVERING: ("sent", "✓"), "paused": ("failed", "‖"), "recovering": ("recovering", "↻")}


def state_badge(state: str) -> SafeString:
    """Of an endpoint, by the words of reporting.held; without one that says otherwise it delivers."""
    tone, sign = STATES.get(state, ("dead", "✕"))
    return format_html(
        '<span class="nf-badge nf-{}"><span aria-hidden="true">{}</span> <i class="nf-state">{}</i></span>',
        tone,
        sign,
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
    """`Retry n/5`, with when a failed one is attempted next; where one died early, on which attempt; of any,
    what it waits for."""
    budget = conf.current().max_attempts
    number = words.retries(event, budget)
    if not number:
        return format_html("{}", upcoming(event, now)) if words.waits_for(event) else SafeString("")
    what = upcoming(event, now)
    if event.status == Status.DEAD:
        what = words.died(event) if event.attempt_number < budget else ""
    return format_html('<span class="nf-retry">Retry {}</span> <span class="nf-next">{}</span>', number, what)


def upcoming(event: NotificationEvent, now: datetime) -> SafeString | str:
    text, at = words.next_attempt(event, now)
    if words.waits_for(event):
        there = reverse("admin:notifications_notificationevent_endpoints")
        return format_html('<a class="nf-waits" href="{}" title="{}">{}</a>', there, text, text)
    return when(at, text) if at else text


def subject(event: NotificationEvent, now: datetime) -> SafeString:
    """What it says, and on the same line what is wrong with it."""
    said = words.headline(event, now)
    shown = format_html('<span class="nf-said" title="{}: {}">{}</span>', event.type, said, bdi(said))
    error = words.error(event)
    more = (deadline(event, now), problem(error) if error else "")
    return format_html_join(" ", "{}", [(part,) for part in (shown, *more) if part])


def deadline(event: NotificationEvent, now: datetime) -> SafeString:
    """When its certificate ends, while somebody waits to hear of it."""
    if not event.not_after or event.status not in (*UNDELIVERED, Status.DEAD):
        return SafeString("")
    return format_html(
        '<span class="nf-ends{}" title="{}">{}</span>',
        " nf-urgent" if is_urgent(event.not_after, now) else "",
        words.timestamp(event.not_after),
        words.ends(event, now),
    )


def problem(error: str) -> SafeString:
    """An error on one line."""
    return format_html('<span class="nf-error" title="{}">{}</span>', error, bdi(words.problem(error)))


def bdi(text: str) -> SafeString:
    return format_html("<bdi>{}</bdi>", text)


def shortened(text: str | None) -> SafeString:
    """Without its middle where that has no room: the ends tell hosts and certificates apart. What is left
    out is there for whoever copies it, and where a row has lines enough."""
    if not text:
        return SafeString("")
    scheme, slashes, rest = text.partition("://")
    if not slashes or not text.startswith(("http://", "https://")):
        scheme, rest = "", text
    if not text.isascii() or not (scheme or len(rest) > HEAD + TAIL + 2):
        return format_html('<bdi class="nf-cut" title="{}">{}</bdi>', text, text)
    head, middle, tail = rest, "", ""
    if len(rest) > HEAD + TAIL + 2:
        head, middle, tail = rest[:HEAD], rest[HEAD:-TAIL], rest[-TAIL:]
    return format_html(
        '<bdi class="nf-short" title="{}">{}{}{}{}</bdi>',
        text,
        format_html('<span class="nf-scheme">{}</span>', scheme + slashes) if scheme else "",
        head,
        format_html('<span class="nf-omitted"><span>{}</span></span>', middle) if middle else "",
        tail,
    )


def mark(channel: str) -> SafeString:
    """A channel's sign, beside its name: a drawing of tabs.html, or its first letter."""
    name = fold(channel)
    if name in DRAWN:
        return format_html(
            '<svg class="nf-mark" aria-hidden="true"><use href="#nf-mark-{}"></use></svg>', name
        )
    return format_html('<span class="nf-mark" aria-hidden="true">{}</span>', channel[:1].upper())


def channel(name: str) -> SafeString:
    return format_html('<span class="nf-channel" title="{}">{} {}</span>', name, mark(name), bdi(name))
