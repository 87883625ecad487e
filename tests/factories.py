"""Notifications in every state, with what the state implies; any field can be given instead.

Times are relative to now: `failed()` was due a minute ago, `failed(due_at=ahead(minutes=5))` is not due.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.utils import timezone

from notifications.models import Alert, AttemptOutcome, DeliveryAttempt, NotificationEvent, Refusal, Status

REFUSED = "HTTP 503: upstream is down"
LEASE = timedelta(minutes=2)


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


def ahead(**span: float) -> datetime:
    return timezone.now() + timedelta(**span)


def notification(status: str = Status.PENDING, **fields: Any) -> NotificationEvent:
    """One row of notification_events, exactly as told; the status implies nothing here."""
    defaults = {
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "ops@example.com",
        "message": "api.example.com expires in 7 days",
        "certificate_id": "mc-api-prod",
    }
    event: NotificationEvent = NotificationEvent.objects.create(status=status, **{**defaults, **fields})
    return event


def pending(**fields: Any) -> NotificationEvent:
    return notification(Status.PENDING, **fields)


def failed(due_at: datetime | None = None, **fields: Any) -> NotificationEvent:
    """Failed once, and due again at `due_at` (a minute ago, unless given)."""
    return notification(
        Status.FAILED,
        **{
            "retry_count": 1,
            "last_error": REFUSED,
            "next_retry_at": due_at or ago(minutes=1),
            "created_at": ago(minutes=10),
            **fields,
        },
    )


def stranded(**fields: Any) -> NotificationEvent:
    """As certctl leaves a first failure: no next retry, and its error in `error`."""
    defaults = {"error": REFUSED, "created_at": ago(hours=1)}
    return notification(Status.FAILED, **{**defaults, **fields})


def sent(**fields: Any) -> NotificationEvent:
    return notification(Status.SENT, **{"sent_at": ago(minutes=1), **fields})


def not_delivered(**fields: Any) -> NotificationEvent:
    """Sent by the rules: its channel has no notifier."""
    text = "nothing was delivered: the channel Pager has no notifier"
    event = sent(**{"channel": "Pager", "error": text, **fields})
    attempt(event, AttemptOutcome.NO_NOTIFIER, error=text, reason="")
    return event


def read(**fields: Any) -> NotificationEvent:
    return notification(Status.READ, **{"sent_at": ago(minutes=1), **fields})


def dead(**fields: Any) -> NotificationEvent:
    """Died on its fifth attempt."""
    return notification(Status.DEAD, **{"retry_count": 4, "last_error": REFUSED, **fields})


def leased(until: datetime | None = None, status: str = Status.FAILED, **fields: Any) -> NotificationEvent:
    """In the hands of a worker until `until` (two minutes from now, unless given), as a claim leaves it."""
    until = until or timezone.now() + LEASE
    if status == Status.PENDING:
        return pending(leased_until=until, **fields)
    return failed(due_at=until, leased_until=until, **fields)


def lost(status: str = Status.FAILED, **fields: Any) -> NotificationEvent:
    """Claimed by a worker that died: its lease ran out a second ago."""
    return leased(until=ago(seconds=1), status=status, **fields)


def one_of_each(**fields: Any) -> dict[str, NotificationEvent]:
    """A row in every status, by status."""
    made = (pending(**fields), failed(**fields), sent(**fields), dead(**fields), read(**fields))
    return {event.status: event for event in made}


def attempt(
    event: NotificationEvent, outcome: str = AttemptOutcome.TRANSIENT, **fields: Any
) -> DeliveryAttempt:
    """One attempt on record for `event`."""
    failure = {} if outcome == AttemptOutcome.SENT else {"error": REFUSED, "reason": "server"}
    defaults = {
        "number": event.retry_count + 1,
        "channel": event.channel,
        "started_at": ago(minutes=1),
        "duration_ms": 12,
        "worker": "worker-1:1",
    }
    made: DeliveryAttempt = DeliveryAttempt.objects.create(
        notification=event, outcome=outcome, **{**defaults, **failure, **fields}
    )
    return made


def refused(event: NotificationEvent) -> NotificationEvent:
    """The database took no end of its attempt."""
    Refusal.objects.create(notification=event, verb="record", at=timezone.now(), error="not this one")
    return event


def wipe() -> None:
    """No row in any of the app's tables."""
    for model in apps.get_app_config("notifications").get_models():
        model._base_manager.all().delete()


def an_alert(**changed: Any) -> Alert:
    """As `notify_many` takes it."""
    given = {
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "#pki",
        "message": "soon",
        **changed,
    }
    return given  # type: ignore[return-value]
