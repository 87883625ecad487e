"""One notification, now, while the operator waits: what a worker would do, for exactly this row."""

from __future__ import annotations

from dataclasses import dataclass

from .. import conf
from ..database import database_now
from ..endpoints.holds import PAUSED
from ..endpoints.outages import endpoint_of
from ..exceptions import TransitionRefused
from ..models import AttemptOutcome, DeliveryAttempt, Hold, NotificationEvent
from ..models.conditions import requeueable
from ..models.fields import is_channel
from ..queue.claim import claim
from .loop import deliver

BY_HAND = "by hand"  # the kind of a sweep of one row


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it. attempt: None where there was none, and `text` says why."""

    event: NotificationEvent
    text: str
    attempt: DeliveryAttempt | None = None

    @property
    def delivered(self) -> bool:
        return self.attempt is not None and self.attempt.outcome == AttemptOutcome.SENT


def requeue_and_send(event: NotificationEvent, *, by: str, reason: str = "") -> Report:
    """Give it a fresh budget where it needs one, and attempt it at once.

    Raises NotificationEvent.DoesNotExist when the row is gone.
    """
    rows = NotificationEvent.objects.filter(pk=event.pk)
    to_requeue = rows.filter(requeueable())
    if to_requeue.exists() and not to_requeue.requeue(by=by, via="admin", reason=reason).changed:
        refusal: TransitionRefused = rows.refusal("requeue", event.pk)
        return Report(event, f"Requeue refused: {refusal.why}.")
    return send(event)


def send(event: NotificationEvent) -> Report:
    """Attempt a pending notification at once, also where its endpoint is held: it is the probe then."""
    settings = conf.current()
    now = database_now()
    due = NotificationEvent.objects.pending().filter(pk=event.pk)
    claimed = claim(due, 1, now=now, lease=settings.lease)
    if not claimed:
        return _untried(event, "Not sent from here: a worker has it in hand, or it is pending no more.")
    _end_holds_of(event)
    before = set(event.deliveryattempts.values_list("pk", flat=True))
    deliver(BY_HAND, claimed, settings)
    attempt = event.deliveryattempts.exclude(pk__in=before).order_by("-started_at", "-pk").first()
    if attempt is None and (over := event.withdrawals.order_by("-at", "-pk").first()):
        return _untried(event, f"Withdrawn instead: its certificate was {over.reason}.")
    if attempt is None:
        return _untried(
            event,
            "Not sent now: its endpoint is held or paused. It stays pending, and a later sweep sends it.",
        )
    fresh: NotificationEvent = NotificationEvent.objects.get(pk=event.pk)
    return Report(fresh, _in_words(attempt, fresh.status), attempt)


def _end_holds_of(event: NotificationEvent) -> None:
    """Whoever waits for one delivery wants it tried: its holds run out, so this attempt is their probe.

    A pause is somebody's decision, and stands.
    """
    held = Hold.objects.filter(is_channel(event.channel), reopened_at__isnull=True)
    for hold in held.exclude(reason=PAUSED):
        if endpoint_of(hold).covers(event.channel, event.recipient):
            Hold.objects.filter(pk=hold.pk).update(until=database_now())


def _untried(event: NotificationEvent, text: str) -> Report:
    return Report(NotificationEvent.objects.get(pk=event.pk), text)


def _in_words(attempt: DeliveryAttempt, status: str) -> str:
    """status: what the notification has become."""
    code = f", provider status {attempt.status_code}" if attempt.status_code else ""
    how = f"in {attempt.duration_ms} ms{code}"
    if attempt.outcome == AttemptOutcome.SENT:
        return f"Sent {how}."
    became = {"failed": "it is retried later", "dead": "it is dead again"}.get(status, f"it is {status}")
    return f"Not delivered {how}: {attempt.error or attempt.outcome}; {became}."
