"""What happened to notifications, and who decided it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.utils.functional import cached_property

from ..durations import timestamp
from .fields import Index, Json, Status, Table

EVENT = "notifications.NotificationEvent"


class OperationKind(models.TextChoices):
    REQUEUE = "requeue"
    READ = "read"  # seen or dismissed, as it comes: the command line's
    DISMISS = "dismiss"
    SEE = "see"
    RESTORE = "restore"
    UNDO = "undo"  # a requeue is taken back


class BulkOperation(Table):
    """An operator's one decision about many notifications, carried out a batch at a time.

    filters    the list's query string; ids instead, where rows were selected
    requested  how many were to be changed when it was asked; at_least: there were more than are counted
    skips      how many were left as they are, by why
    cursor     the last notification looked at: [status, created_at, id]
    undoes     the operation that this one takes back: its rows are those that it changed
    driven_by  who carries it out: whoever confirmed it, then whoever went on with it; stepped_at: when a
               batch of it was done last
    taken_over who went on with it, and when, one after the other
    renewed    a requeue that means those whose certificates were renewed since as well
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
    undoes = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    driven_by = models.CharField(max_length=255, blank=True, default="", db_default="")
    stepped_at = models.DateTimeField(null=True, blank=True)
    taken_over = models.JSONField(null=True, blank=True)
    renewed = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "notification_operations"
        ordering = ("-started_at", "-id")

    def __str__(self) -> str:
        return f"{self.kind} by {self.by} of {timestamp(self.started_at)}"


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


class History(Table):
    """Evidence about one notification. It goes when the notification goes.

    PostgreSQL cascades in the database, because certctl deletes rows that Django never sees;
    the constraint is made by hand in the migration, so Django must not make its own.
    """

    notification = models.ForeignKey(
        EVENT,
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="%(class)ss",
        db_index=False,  # each table has an index of its own, on it alone: the longest id fits
    )

    class Meta:
        abstract = True


class Decision(History):
    """What an operator decided about one notification, which can be taken back.

    undone_at  when it was, by whom, through what, why; undo: the operation that this was a part of
    """

    by = models.CharField(max_length=255, blank=True)
    via = models.CharField(max_length=50)
    at = models.DateTimeField()
    status = models.CharField("status before", max_length=50)
    reason = models.TextField(blank=True, default="")
    operation = belongs_to_operation()
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=255, blank=True, default="", db_default="")
    undone_via = models.CharField(max_length=50, blank=True, default="", db_default="")
    undone_reason = models.TextField(blank=True, default="", db_default="")
    undo = belongs_to_operation()

    class Meta:
        abstract = True
        ordering = ("at", "id")


class Interrupted(Protocol):
    """What is asked of a notification whose attempt was lost."""

    pk: str

    @property
    def attempt_number(self) -> int: ...

    channel: str
    leased_until: datetime | None
    created_at: datetime


class Requeued(Protocol):
    """What is asked of a notification that is requeued: the evidence that it loses."""

    pk: str
    status: str
    retry_count: int
    last_error: str | None
    error: str | None
    next_retry_at: datetime | None
    sent_at: datetime | None


class AttemptOutcome(models.TextChoices):
    SENT = "sent"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"  # written but never answered: it may have arrived
    INTERRUPTED = "interrupted"  # its worker died
    NO_NOTIFIER = "no_notifier"


COMBINED = "combined"  # the reason of an attempt that delivered several notifications in one message


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

    class Meta:
        db_table = "notification_attempts"
        ordering = ("started_at", "id")
        indexes = (
            Index(fields=["notification"], name="idx_notification_attempts_notification"),
            # What failed lately, however much was delivered.
            Index(
                fields=["started_at"],
                name="idx_notification_attempts_failed",
                condition=~models.Q(outcome="sent"),
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"

    @classmethod
    def interrupted(cls, event: Interrupted, *, channel: str) -> DeliveryAttempt:
        """The attempt that ended with its worker: all that is known is when its lease did.

        channel  as the settings spell it, where it is configured
        """
        return cls(
            notification_id=event.pk,
            number=event.attempt_number,
            channel=channel,
            started_at=event.leased_until or event.created_at,
            duration_ms=0,
            outcome=AttemptOutcome.INTERRUPTED,
            error=INTERRUPTED_ERROR,
            worker="",
        )


INTERRUPTED = "interrupted"  # how these errors begin: such rows are claimed a few at a time
INTERRUPTED_ERROR = f"{INTERRUPTED}: the worker did not live to record this attempt, so it may have arrived"
INTERRUPTED_AGAIN = f"{INTERRUPTED} again: no worker lived to record this attempt, so it may have arrived"
INTERRUPTED_OFTEN = f"{INTERRUPTED} time and again: no worker lived to record an attempt; it may have arrived"


class Requeue(Decision):
    """An operator's requeue, and the evidence that it wiped from the row."""

    by = models.CharField(max_length=255)
    retry_count = models.IntegerField("retry count before")
    last_error = models.TextField("last error before", null=True, blank=True)
    next_retry_at = models.DateTimeField("next retry before", null=True, blank=True)
    sent_at = models.DateTimeField("sent before", null=True, blank=True)

    class Meta(Decision.Meta):
        db_table = "notification_requeues"
        indexes = (
            Index(fields=["notification"], name="idx_notification_requeues_notification"),
            Index(
                fields=["operation", "id"],
                name="idx_notification_requeues_operation",
                condition=models.Q(operation__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"requeued by {self.by} via {self.via}"

    @classmethod
    def of(cls, event: Requeued, **said: Any) -> Requeue:
        """said: by, via, at, reason, operation."""
        error = event.error if event.status == Status.SENT else event.last_error
        wiped = {"status": event.status, "retry_count": event.retry_count, "last_error": error}
        wiped |= {"next_retry_at": event.next_retry_at, "sent_at": event.sent_at}
        return cls(notification_id=event.pk, **wiped, **said)


DISMISSAL = models.Q(status=Status.DEAD, undone_at__isnull=True)  # of the readings


class Reading(Decision):
    """Somebody marked it read: seen where it was sent, dismissed where it was dead."""

    class Meta(Decision.Meta):
        db_table = "notification_readings"
        indexes = (
            Index(fields=["notification"], name="idx_notification_readings_notification"),
            Index(
                fields=["operation", "id"],
                name="idx_notification_readings_operation",
                condition=models.Q(operation__isnull=False),
            ),
            # Which notifications are dismissed, without reading those that were seen.
            Index(
                fields=["notification"],
                name="idx_notification_readings_dismissed",
                condition=DISMISSAL,
            ),
        )

    def __str__(self) -> str:
        return f"marked read by {self.by} via {self.via}"


class Withdrawal(History):
    """It was taken back: its certificate was renewed before it had arrived.

    status  what it was before
    reason  by what it was renewed
    """

    by = models.CharField(max_length=255, blank=True)
    via = models.CharField(max_length=50)
    at = models.DateTimeField()
    status = models.CharField("status before", max_length=50)
    reason = models.TextField()

    class Meta:
        db_table = "notification_withdrawals"
        ordering = ("at", "id")
        indexes = (Index(fields=["notification"], name="idx_notification_withdrawals_notification"),)

    def __str__(self) -> str:
        return f"withdrawn by {self.by} via {self.via}: {self.reason}"


class Escalation(History):
    """A notification died, and `raised` took its alert to another channel: once, whatever happens after.

    raised has no constraint: it may be pruned, and this one must still not be escalated again.
    """

    raised = models.ForeignKey(
        EVENT,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        db_index=False,  # the one below
    )
    at = models.DateTimeField()

    class Meta:
        db_table = "notification_escalations"
        ordering = ("at", "id")
        indexes = (Index(fields=["raised"], name="idx_notification_escalations_raised"),)
        constraints = (
            models.UniqueConstraint(fields=["notification"], name="uniq_notification_escalations_event"),
        )

    def __str__(self) -> str:
        return f"escalated to {self.raised_id}"

    @classmethod
    def around(cls, event: models.Model) -> tuple[Escalation | None, Escalation | None]:
        """(what made `event` be raised, what its own death raised), in one query."""
        links = cls.objects.filter(models.Q(raised=event) | models.Q(notification=event))
        found = {link.raised_id == event.pk: link for link in links.select_related("notification")}
        return found.get(True), found.get(False)

    @cached_property
    def successor(self) -> Any:
        """The notification that was raised; None where it was deleted since."""
        try:
            return self.raised
        except ObjectDoesNotExist:
            return None


class Refusal(History):
    """The database took no end of this notification's attempt, not even that it is dead: it stays as it
    was, and no worker touches it again for an hour, or until an operator has requeued it.

    verb  what was to be done
    """

    verb = models.CharField(max_length=20)
    at = models.DateTimeField()
    error = models.TextField()

    class Meta:
        db_table = "notification_refusals"
        ordering = ("at", "id")
        indexes = (Index(fields=["notification"], name="idx_notification_refusals_notification"),)

    def __str__(self) -> str:
        return f"refused to {self.verb}: {self.error}"


class RecipientAnswer(History):
    """What became of one address of a recipient that names several: the others' attempts go on without it.

    refusal  "" for an address that accepted it. A refusal counts until the notification is requeued
    """

    recipient = models.TextField()
    refusal = models.TextField(blank=True, default="")
    at = models.DateTimeField()

    class Meta:
        db_table = "notification_recipients"
        ordering = ("at", "id")
        indexes = (Index(fields=["notification"], name="idx_notification_recipients_notification"),)

    def __str__(self) -> str:
        return f"{self.recipient}: {self.refusal or 'accepted'}"


class Trace(History):
    """In which span an alert was raised, where spans are recorded: its attempts' link to it.

    context  as the header `traceparent` of W3C Trace Context has it
    """

    context = models.CharField(max_length=55)

    class Meta:
        db_table = "notification_traces"
        ordering = ("id",)
        indexes = (Index(fields=["notification"], name="idx_notification_traces_notification"),)

    def __str__(self) -> str:
        return self.context


class Deadline(History):
    """When the certificate ends that an alert is about: of several, the first of them.

    fingerprints  SHA-256 of the certificates, in hexadecimal; none where they are not known
    waiting       it may still wait for delivery: claims look through these; what ended is put right by sweeps
    insisted      an operator wants it sent, renewed or not
    settled       it was renewed, and whoever had to know was told: nobody need look again
    """

    not_after = models.DateTimeField()
    fingerprints = Json(default=list)
    waiting = models.BooleanField(default=True, db_default=True)
    insisted = models.BooleanField(default=False, db_default=False)
    settled = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "notification_deadlines"
        ordering = ("not_after", "id")
        indexes = (
            Index(
                fields=["not_after"],
                name="idx_notification_deadlines_waiting",
                condition=models.Q(waiting=True),
            ),
            Index(
                fields=["not_after"],
                name="idx_notification_deadlines_open",
                condition=models.Q(settled=False),
            ),
        )
        constraints = (
            models.UniqueConstraint(fields=["notification"], name="uniq_notification_deadlines_event"),
        )

    def __str__(self) -> str:
        return f"until {timestamp(self.not_after)}"
