"""A notification's own page: its facts, and its story from raised to what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..models import AttemptOutcome, DeliveryAttempt, Escalation, NotificationEvent, Reading, Requeue, Status
from ..models.fields import UNDELIVERED
from .cells import retry, upcoming, when_exact

# The newest, and far more than anybody reads: a page must not grow with the years.
SHOWN = 100
RELATED = 10

TONES = {
    AttemptOutcome.SENT: "sent",
    AttemptOutcome.TRANSIENT: "failed",
    AttemptOutcome.UNKNOWN: "failed",
    AttemptOutcome.INTERRUPTED: "failed",
    AttemptOutcome.PERMANENT: "dead",
    AttemptOutcome.NO_NOTIFIER: "dead",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry. facts are (label, value); text is long and comes from outside."""

    at: datetime | None
    title: str
    tone: str
    facts: list[tuple[str, object]] = field(default_factory=list)
    text: str = ""


def facts(event: NotificationEvent, now: datetime, certificate: object) -> list[tuple[str, object]]:
    """What the row says, but for the message and the errors; certificate is a link, or None."""
    return _given(
        [
            ("Channel", event.channel),
            ("Recipient", event.recipient),
            ("Certificate", certificate),
            ("Raised", when_exact(event.created_at)),
            ("Sent", when_exact(event.sent_at) if event.sent_at else None),
            ("Retries", retry(event, now)),
            (
                "Delivered",
                f"on attempt {event.retry_count + 1}" if event.sent_at and not event.error else None,
            ),
            ("Id", event.pk),
            ("Deduplication key", event.dedup_key),
        ]
    )


def timeline(event: NotificationEvent, now: datetime) -> list[Moment]:
    """What happened, oldest first, at most SHOWN attempts and as many requeues."""
    attempts = list(event.deliveryattempts.order_by("-started_at", "-id")[: SHOWN + 1])
    requeues = list(event.requeues.order_by("-at", "-id")[: SHOWN + 1])
    readings = list(event.readings.order_by("-at", "-id")[: SHOWN + 1])
    happened = [_attempt(a, event.channel) for a in attempts[:SHOWN]]
    happened += [_requeue(r) for r in requeues[:SHOWN]] + [_reading(r) for r in readings[:SHOWN]]
    happened += _escalations(event)
    happened.sort(key=lambda moment: moment.at or now)
    return [_raised(event), *_cut(attempts, requeues, readings), *happened, *_next(event, now)]


def related(event: NotificationEvent) -> list[NotificationEvent]:
    """The newest others about the same certificate."""
    if not event.certificate_id:
        return []
    rows = NotificationEvent.objects.filter(certificate_id=event.certificate_id).defer("message")
    newest = rows.order_by("-created_at", "-id")[: RELATED + 1]
    return [other for other in newest if other.pk != event.pk][:RELATED]


def _raised(event: NotificationEvent) -> Moment:
    return Moment(event.created_at, "Raised", "pending", text=event.message)


def _attempt(attempt: DeliveryAttempt, channel: str) -> Moment:
    facts = [
        ("Duration", _duration(attempt.duration_ms)),
        ("Provider status", attempt.status_code),
        ("Reason", attempt.reason),
        ("Channel", attempt.channel if attempt.channel != channel else None),
        ("Worker", attempt.worker),
    ]
    title = f"Attempt {attempt.number}: {attempt.get_outcome_display().lower()}"
    tone = TONES.get(AttemptOutcome(attempt.outcome), "unknown")
    return Moment(attempt.started_at, title, tone, _given(facts), attempt.error or "")


def _requeue(requeue: Requeue) -> Moment:
    facts = [
        ("Wiped status", requeue.status),
        ("Wiped retry count", requeue.retry_count),
        ("Reason", requeue.reason),
        ("Operation", requeue.operation_id),
    ]
    title = f"Requeued by {requeue.by or 'somebody unnamed'} via {requeue.via}"
    text = f"Wiped error: {requeue.last_error}" if requeue.last_error else ""
    return Moment(requeue.at, title, "requeue", _given(facts), text)


def _reading(reading: Reading) -> Moment:
    done = "Dismissed" if reading.status == Status.DEAD else "Marked as read"
    title = f"{done} by {reading.by or 'somebody unnamed'} via {reading.via}"
    facts = [("Reason", reading.reason), ("Operation", reading.operation_id)]
    return Moment(reading.at, title, "read", _given(facts))


def _escalations(event: NotificationEvent) -> Iterator[Moment]:
    before, after = Escalation.around(event)
    if before:
        origin = _link(before.notification)
        yield Moment(before.at, "Escalation of a dead letter", "requeue", [("In place of", origin)])
    if after:
        raised = _link(after.successor) if after.successor else f"{after.raised_id}, deleted since"
        yield Moment(after.at, "Escalated", "requeue", [("As", raised)])


def _link(event: NotificationEvent) -> SafeString:
    url = reverse("admin:notifications_notificationevent_change", args=[quote(event.pk)])
    return format_html('<a href="{}">{}</a>', url, event)


def _cut(*histories: list[DeliveryAttempt] | list[Requeue] | list[Reading]) -> Iterator[Moment]:
    if any(len(history) > SHOWN for history in histories):
        yield Moment(None, f"Earlier entries are not shown: the newest {SHOWN} of each kind are", "read")


def _next(event: NotificationEvent, now: datetime) -> Iterator[Moment]:
    if event.status == Status.DEAD:
        yield Moment(None, "Dead letter: retrying is over, and a person decides", "next")
    if event.status in UNDELIVERED:
        yield Moment(event.next_retry_at, "Next attempt", "next", [("When", upcoming(event, now))])


def _given(facts: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(label, value) for label, value in facts if value not in (None, "")]


def _duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
