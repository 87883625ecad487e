"""What one cell of the list says. Everything from outside is escaped here, by format_html."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from .. import conf
from ..models import NotificationEvent, Status
from ..models.fields import REQUEUEABLE
from ..values import UNKNOWN, UnknownTime

# A mark beside the word, so that a column of badges can be told apart without colour.
MARKS = {Status.PENDING: "○", Status.FAILED: "↻", Status.SENT: "✓", Status.DEAD: "✕", Status.READ: "·"}


def badge(status: str) -> SafeString:
    known = status in Status
    return format_html(
        '<span class="nf-badge nf-{}"><span aria-hidden="true">{}</span> {}</span>',
        status if known else "unknown",
        MARKS.get(Status(status), "") if known else "?",
        Status(status).label if known else status,
    )


def exact(at: datetime) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"


def apart(one: datetime, other: datetime) -> str:
    """How far apart two times are, in the largest unit: `3 hours`."""
    if abs((other - one).total_seconds()) < 60:
        return "less than a minute"
    return timesince(min(one, other), max(one, other), depth=1)


def when(at: datetime, text: str) -> SafeString:
    """A time in words, with the exact one for the pointer and for programs."""
    shown = UNKNOWN if isinstance(at, UnknownTime) else text
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact(at), shown)


def when_exact(at: datetime) -> SafeString:
    """The exact time, with its distance for a reader in a hurry."""
    return format_html(
        '{} <span class="nf-distance">({} ago)</span>', when(at, exact(at)), apart(at, timezone.now())
    )


def age(at: datetime) -> SafeString:
    return when(at, apart(at, timezone.now()))


def retry(event: NotificationEvent, now: datetime) -> SafeString:
    """`Retry n/5`: of a failed notification the retries so far, of a dead one the attempt it died on."""
    if event.status not in REQUEUEABLE:
        return SafeString("")
    number = event.retry_count + (1 if event.status == Status.DEAD else 0)
    words = format_html('<span class="nf-retry">Retry {}/{}</span>', number, conf.current().max_attempts)
    if event.status == Status.DEAD:
        return words
    return format_html('{} <span class="nf-next">{}</span>', words, upcoming(event, now))


def upcoming(event: NotificationEvent, now: datetime) -> SafeString | str:
    """When an undelivered notification is attempted next."""
    if event.leased_until and event.leased_until > now:
        return "attempt running"
    if event.status == Status.PENDING:
        return "with the next sweep"
    if event.next_retry_at is None:
        return "not scheduled"
    if event.next_retry_at <= now:
        return when(event.next_retry_at, "due now")
    return when(event.next_retry_at, f"next in {apart(now, event.next_retry_at)}")


def problem(event: NotificationEvent) -> SafeString:
    """The error on one line. A sent notification has one where nothing was delivered after all."""
    text = (event.last_error if event.status in REQUEUEABLE else None) or event.error
    if not text:
        return SafeString("")
    return format_html('<span class="nf-error" title="{}">{}</span>', text, " ".join(text.split()))
