"""The tables: notification_events, which certctl shares, and those of our own that say what happened.

The verbs live on the QuerySet (queryset.py: producers and operators; leases.py: workers).
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from .queryset import UNDELIVERED, NotificationQuerySet, Status, tidy

__all__ = [
    "BulkOperation",
    "DeliveryAttempt",
    "Hold",
    "NotificationEvent",
    "Reading",
    "Requeue",
    "Status",
    "SweepRun",
    "Tally",
    "Worker",
]

NO_NUL = [ProhibitNullCharactersValidator()]
MOST_ATTEMPTS = 2**31 - 1
MOST_INDEXED = 2000  # bytes; PostgreSQL refuses an index entry of 2,704


class EventType(models.TextChoices):
    """What certctl raises today; other values occur and are delivered all the same."""

    EXPIRATION_WARNING = "ExpirationWarning"
    RENEWAL_SUCCESS = "RenewalSuccess"
    RENEWAL_FAILURE = "RenewalFailure"
    DEPLOYMENT_SUCCESS = "DeploymentSuccess"
    DEPLOYMENT_FAILURE = "DeploymentFailure"
    POLICY_VIOLATION = "PolicyViolation"
    REVOCATION = "Revocation"


class Index(models.Index):
    """An index whose name may be as long as PostgreSQL and SQLite allow: certctl chose the names."""

    max_name_length = 63


def new_id() -> str:
    return str(uuid.uuid4())


class NotificationEvent(models.Model):
    """One alert owed to one recipient on one channel."""

    id = models.TextField(primary_key=True, default=new_id, editable=False, validators=NO_NUL)
    type = models.CharField(max_length=255, validators=NO_NUL)
    certificate_id = models.TextField("certificate", null=True, blank=True, validators=NO_NUL)
    channel = models.CharField(max_length=255, validators=NO_NUL)
    recipient = models.CharField(max_length=255, validators=NO_NUL)
    message = models.TextField(validators=NO_NUL)
    sent_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=50, default=Status.PENDING, db_default=Status.PENDING.value)
    error = models.TextField(null=True, blank=True)
    retry_count = models.IntegerField(default=0, db_default=0)
    next_retry_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    leased_until = models.DateTimeField(null=True, blank=True)
    dedup_key = models.TextField(null=True, blank=True, validators=NO_NUL)

    objects: ClassVar = NotificationQuerySet.as_manager()

    class Meta:
        db_table = "notification_events"
        ordering = ("-created_at",)
        verbose_name = "notification"
        permissions = (("requeue_notificationevent", "Can requeue notifications"),)
        indexes = (
            Index(fields=["certificate_id"], name="idx_notification_events_certificate_id"),
            Index(fields=["status"], name="idx_notification_events_status"),
            Index(fields=["type"], name="idx_notification_events_type"),
            Index(
                fields=["next_retry_at"],
                name="idx_notification_events_retry_sweep",
                condition=Q(status="failed", next_retry_at__isnull=False),
            ),
            # Leased rows leave this index, so a claim never walks over what others have in hand.
            Index(
                fields=["created_at"],
                name="idx_notification_events_pending",
                condition=Q(status="pending", leased_until__isnull=True),
            ),
            Index(
                fields=["leased_until"],
                name="idx_notification_events_leased",
                condition=Q(leased_until__isnull=False),
            ),
            Index(fields=["-created_at", "-id"], name="idx_notification_events_newest"),
            # The dead-letter page in its order, and the dead by channel without reading the rows.
            Index(
                fields=["-created_at", "-id", "channel"],
                name="idx_notification_events_dead",
                condition=Q(status="dead"),
            ),
            Index(
                fields=["created_at"],
                name="idx_notification_events_stranded",
                condition=Q(status="failed", next_retry_at__isnull=True),
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["dedup_key"],
                name="uniq_notification_events_dedup_key",
                condition=Q(dedup_key__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.type} to {self.recipient} on {self.channel}"

    def clean(self) -> None:
        """Refuse what no database can hold: halves of characters, as a shell's odd bytes become, and
        texts too long for their column's index."""
        for name in ("type", "certificate_id", "channel", "recipient", "message", "dedup_key"):
            try:
                size = len(str(getattr(self, name)).encode())
            except UnicodeEncodeError:
                raise ValidationError({name: "This text is not valid Unicode."}) from None
            if name in ("certificate_id", "dedup_key") and size > MOST_INDEXED:
                raise ValidationError({name: f"This text is longer than {MOST_INDEXED} bytes."})

    @property
    def attempt_number(self) -> int:
        """The next attempt's, from 1. Other programs' rows hold any integer, the history only sane ones."""
        return min(max(self.retry_count, 0), MOST_ATTEMPTS - 1) + 1

    def requeue(self, *, by: str, via: str = "python") -> None:
        """Pending again with a fresh budget. Raises TransitionRefused, or DoesNotExist if the row is gone."""
        rows = self._rows().filter(pk=self.pk)
        if not rows.requeue(by=by, via=via).changed:
            raise rows.refusal("requeue", self.pk)
        self.refresh_from_db()

    def mark_read(self, *, by: str = "", via: str = "python") -> None:
        """Seen (sent) or dismissed (dead). Raises TransitionRefused, or DoesNotExist if the row is gone."""
        rows = self._rows().filter(pk=self.pk)
        if not rows.mark_read(by=by, via=via).changed:
            raise rows.refusal("mark read", self.pk)
        self.refresh_from_db()

    def record_failed_attempt(self, last_error: str, next_retry_at: datetime) -> None:
        """A transient failure: failed, one more on retry_count, due again at next_retry_at.

        Raises TransitionRefused when the event is not waiting for delivery, ValueError without a
        next_retry_at (that would strand the row), DoesNotExist when the row is gone.
        """
        if next_retry_at is None:
            raise ValueError("next_retry_at is needed: a failed notification without one is never retried")
        self._rows().transition(
            "record a failed attempt of",
            self,
            UNDELIVERED,
            status=Status.FAILED,
            retry_count=models.F("retry_count") + 1,
            next_retry_at=next_retry_at,
            last_error=tidy(last_error),
        )

    def mark_as_dead(self, last_error: str) -> None:
        """Into the dead-letter queue; retry_count stays as evidence."""
        self._rows().transition(
            "dead-letter",
            self,
            UNDELIVERED,
            status=Status.DEAD,
            next_retry_at=None,
            last_error=tidy(last_error),
        )

    def mark_as_sent(self, sent_at: datetime) -> None:
        """Delivered at sent_at; retry_count and last_error stay as evidence."""
        self._rows().transition(
            "mark as sent", self, UNDELIVERED, status=Status.SENT, sent_at=sent_at, next_retry_at=None
        )

    def _rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = type(self).objects.using(self._state.db)
        return rows


class OperationKind(models.TextChoices):
    REQUEUE = "requeue"
    READ = "read"


class BulkOperation(models.Model):
    """An operator's one decision about many notifications, carried out a batch at a time.

    filters    the list's query string; ids instead, where rows were selected
    requested  how many were to be changed when it was asked; at_least: there were more than are counted
    skips      how many were left as they are, by why
    cursor     the last notification looked at: [status, created_at, id]
    """

    kind = models.CharField(max_length=20, choices=OperationKind.choices)
    filters = models.TextField(blank=True, default="")
    ids = models.JSONField(null=True, blank=True)
    reason = models.TextField(blank=True, default="")
    by = models.CharField(max_length=255)
    via = models.CharField(max_length=50)
    requested = models.PositiveBigIntegerField()
    at_least = models.BooleanField(default=False)
    changed = models.PositiveBigIntegerField(default=0)
    skips = models.JSONField(default=dict)
    cursor = models.JSONField(null=True, blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    stopped_by = models.CharField(max_length=255, blank=True, default="")

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_operations"
        ordering = ("-started_at", "-id")

    def __str__(self) -> str:
        return f"{self.kind} by {self.by} of {self.started_at:%Y-%m-%d %H:%M:%S}"


def belongs_to_operation() -> models.ForeignKey[BulkOperation | None, BulkOperation | None]:
    """Which operation this was a part of. Without a constraint, as operations outlive what they changed."""
    return models.ForeignKey(
        BulkOperation,
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )


class History(models.Model):
    """Evidence about one notification. It goes when the notification goes.

    PostgreSQL cascades in the database, because certctl deletes rows that Django never sees;
    the constraint is made by hand in the migration, so Django must not make its own.
    """

    notification = models.ForeignKey(
        NotificationEvent,
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="%(class)ss",
        db_index=False,  # each table's own index starts with it
    )

    class Meta:
        abstract = True


class AttemptOutcome(models.TextChoices):
    SENT = "sent"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"  # written but never answered: it may have arrived
    INTERRUPTED = "interrupted"  # its worker died
    NO_NOTIFIER = "no_notifier"


class DeliveryAttempt(History):
    """One claimed try, numbered from 1 since the last requeue."""

    number = models.PositiveIntegerField()
    channel = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    outcome = models.CharField(max_length=20, choices=AttemptOutcome.choices)
    reason = models.CharField(max_length=20, blank=True, default="")
    status_code = models.IntegerField("HTTP or SMTP status", null=True, blank=True)
    error = models.TextField(null=True, blank=True)
    worker = models.CharField(max_length=255)

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_attempts"
        ordering = ("started_at", "id")
        indexes = (Index(fields=["notification", "started_at"], name="idx_notification_attempts_event"),)

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"

    @classmethod
    def interrupted(cls, event: NotificationEvent) -> DeliveryAttempt:
        """The attempt that ended with its worker: all that is known is when its lease did."""
        return cls(
            notification=event,
            number=event.attempt_number,
            channel=event.channel,
            started_at=event.leased_until or event.created_at,
            duration_ms=0,
            outcome=AttemptOutcome.INTERRUPTED,
            error=INTERRUPTED_ERROR,
            worker="",
        )


INTERRUPTED_ERROR = "interrupted: the worker did not live to record this attempt, so it may have arrived"


class Requeue(History):
    """An operator's requeue, and the evidence that it wiped from the row."""

    by = models.CharField(max_length=255)
    via = models.CharField(max_length=50)
    at = models.DateTimeField()
    status = models.CharField("status before", max_length=50)
    retry_count = models.IntegerField("retry count before")
    last_error = models.TextField("last error before", null=True, blank=True)
    reason = models.TextField(blank=True, default="")
    operation = belongs_to_operation()

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_requeues"
        ordering = ("at", "id")
        indexes = (Index(fields=["notification", "at"], name="idx_notification_requeues_event"),)

    def __str__(self) -> str:
        return f"requeued by {self.by} via {self.via}"

    @classmethod
    def of(cls, event: NotificationEvent, **said: Any) -> Requeue:
        """said: by, via, at, reason, operation."""
        wiped = {"status": event.status, "retry_count": event.retry_count, "last_error": event.last_error}
        return cls(notification=event, **wiped, **said)


class Reading(History):
    """Somebody marked it read: seen where it was sent, dismissed where it was dead."""

    by = models.CharField(max_length=255, blank=True)
    via = models.CharField(max_length=50)
    at = models.DateTimeField()
    status = models.CharField("status before", max_length=50)
    reason = models.TextField(blank=True, default="")
    operation = belongs_to_operation()

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_readings"
        ordering = ("at", "id")
        indexes = (Index(fields=["notification", "at"], name="idx_notification_readings_event"),)

    def __str__(self) -> str:
        return f"marked read by {self.by} via {self.via}"


class SweepKind(models.TextChoices):
    PENDING = "pending"
    RETRY = "retry"


class SweepRun(models.Model):
    """One finished sweep."""

    kind = models.CharField(max_length=20, choices=SweepKind.choices)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    claimed = models.PositiveIntegerField()
    sent = models.PositiveIntegerField()
    rescheduled = models.PositiveIntegerField()
    dead = models.PositiveIntegerField()
    no_notifier = models.PositiveIntegerField()
    released = models.PositiveIntegerField()
    worker = models.CharField(max_length=255)

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_sweeps"
        ordering = ("ended_at", "id")
        indexes = (Index(fields=["kind", "-ended_at"], name="idx_notification_sweeps_last"),)

    def __str__(self) -> str:
        return f"{self.kind} sweep of {self.ended_at:%Y-%m-%d %H:%M}"


DURATIONS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # seconds that an attempt took: upper bounds
AGES = (1, 10, 30, 60, 120, 300, 900, 3600, 14400, 86400)  # seconds from raised to delivered


class Tally(models.Model):
    """Attempts counted as they are recorded, per hour, and for all time in the hour EPOCH.

    It answers "how many, how long" without reading the history. took_n counts the attempts that took
    at most DURATIONS[n] seconds and more than the bound before; age_n the deliveries by AGES alike.
    """

    hour = models.DateTimeField()
    channel = models.CharField(max_length=255)
    outcome = models.CharField(max_length=20)
    attempts = models.BigIntegerField()
    milliseconds = models.BigIntegerField()
    took_0 = models.BigIntegerField()
    took_1 = models.BigIntegerField()
    took_2 = models.BigIntegerField()
    took_3 = models.BigIntegerField()
    took_4 = models.BigIntegerField()
    took_5 = models.BigIntegerField()
    age_0 = models.BigIntegerField()
    age_1 = models.BigIntegerField()
    age_2 = models.BigIntegerField()
    age_3 = models.BigIntegerField()
    age_4 = models.BigIntegerField()
    age_5 = models.BigIntegerField()
    age_6 = models.BigIntegerField()
    age_7 = models.BigIntegerField()
    age_8 = models.BigIntegerField()
    age_9 = models.BigIntegerField()

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_tallies"
        ordering = ("hour", "channel", "outcome")
        verbose_name_plural = "tallies"
        constraints = (
            models.UniqueConstraint(
                fields=["hour", "channel", "outcome"], name="uniq_notification_tallies_hour"
            ),
        )

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.channel} {self.outcome}: {self.attempts}"


class Hold(models.Model):
    """An endpoint that nobody sends to until a time, and why; its rows wait without spending attempts.

    A webhook's endpoint is a host, and the rows are those whose recipient begins with recipient_prefix
    (or is just it, where `exact`); "" means all of the channel's rows. One endpoint can have several.
    """

    endpoint = models.TextField()
    channel = models.CharField(max_length=255)
    recipient_prefix = models.CharField(max_length=255, blank=True, default="")
    exact = models.BooleanField(default=False)
    reason = models.CharField(max_length=20)
    error = models.TextField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    failures = models.PositiveIntegerField(default=1)

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_holds"
        ordering = ("endpoint",)
        constraints = (
            models.UniqueConstraint(
                fields=["endpoint", "channel", "recipient_prefix"], name="uniq_notification_holds_rows"
            ),
        )

    def __str__(self) -> str:
        return f"{self.endpoint} until {self.until:%Y-%m-%d %H:%M:%S}: {self.reason}"


class Worker(models.Model):
    """The heartbeat of an always-on worker; one that ends in order takes its row with it."""

    name = models.CharField(max_length=255, primary_key=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    in_flight = models.PositiveIntegerField(default=0)

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "notification_workers"
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name}, seen {self.seen_at:%Y-%m-%d %H:%M:%S}"
