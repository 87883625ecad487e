"""notification_events, the table that certctl shares."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, cast

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.functional import cached_property

from .. import database, signals
from ..deaths.follow import follow
from ..text import isolated, tidy
from .conditions import DUE, MAILED
from .fields import (
    NO_NUL,
    UNDELIVERED,
    Index,
    Line,
    Manager,
    Status,
    Table,
    Text,
    Time,
    Whole,
    attempt_number,
    new_id,
)
from .history import AttemptOutcome, Deadline
from .queryset import EventQuerySet

MOST_INDEXED = 2000  # bytes; PostgreSQL refuses an index entry of 2,704
LONGEST_MESSAGE = 256 * 1024  # bytes; of what another program wrote, so many characters are delivered


class EventType(models.TextChoices):
    """What certctl raises today; other values occur and are delivered all the same."""

    EXPIRATION_WARNING = "ExpirationWarning"
    RENEWAL_SUCCESS = "RenewalSuccess"
    RENEWAL_FAILURE = "RenewalFailure"
    DEPLOYMENT_SUCCESS = "DeploymentSuccess"
    DEPLOYMENT_FAILURE = "DeploymentFailure"
    POLICY_VIOLATION = "PolicyViolation"
    REVOCATION = "Revocation"


class NotificationQuerySet(EventQuerySet["NotificationEvent"]):
    """The verbs of producers and operators; see EventQuerySet."""


class NotificationEvent(Table):
    """One alert owed to one recipient on one channel."""

    id = Text(primary_key=True, default=new_id, editable=False, validators=NO_NUL)
    type = Line(max_length=255, validators=NO_NUL)
    certificate_id = Text("certificate", null=True, blank=True, validators=NO_NUL)
    channel = Line(max_length=255, validators=NO_NUL)
    recipient = Line(max_length=255, validators=NO_NUL)
    message = Text(validators=NO_NUL)
    sent_at = models.DateTimeField(null=True, blank=True)
    status = Line(max_length=50, default=Status.PENDING, db_default=Status.PENDING.value)
    error = Text(null=True, blank=True)
    retry_count = Whole(default=0, db_default=0)
    next_retry_at = models.DateTimeField(null=True, blank=True)
    last_error = Text(null=True, blank=True)
    created_at = Time(default=timezone.now, db_default=Now())
    leased_until = models.DateTimeField(null=True, blank=True)
    dedup_key = Text(null=True, blank=True, validators=NO_NUL)
    requeued_at = models.DateTimeField(null=True, blank=True)
    # True where a verb of ours raised or requeued it; another program's INSERT leaves it null.
    ours = models.BooleanField(null=True, blank=True, default=True, editable=False)

    # Of the one that `notify` answers: why nothing may be delivered, a phrase each.
    warnings: tuple[str, ...] = ()
    # Of one that is about to be raised.
    deadline: Deadline | None = None

    # A manager has the QuerySet's verbs; without django-stubs' plugin a checker knows of no such mixture.
    objects: ClassVar[NotificationQuerySet] = cast(  # type: ignore[assignment]
        NotificationQuerySet, Manager.from_queryset(NotificationQuerySet)()
    )

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
                DUE,
                name="idx_notification_events_due",
                condition=Q(status="pending", leased_until__isnull=True),
            ),
            Index(
                fields=["leased_until"],
                name="idx_notification_events_leased",
                condition=Q(leased_until__isnull=False),
            ),
            # No id in an index of ours: one that just fits its primary key would be too long there, and the
            # row could not be written.
            Index(fields=["-created_at"], name="idx_notification_events_latest"),
            # All that one recipient was owed, in the list's order.
            Index(fields=["recipient", "-created_at"], name="idx_notification_events_recipient"),
            # The dead-letter page in its order, and the dead by channel without reading the rows.
            Index(
                fields=["-created_at", "channel"],
                name="idx_notification_events_dead_letters",
                condition=Q(status="dead"),
            ),
            Index(
                fields=["created_at"],
                name="idx_notification_events_stranded",
                condition=Q(status="failed", next_retry_at__isnull=True),
            ),
            # Of these, what a sweep takes up by itself beside certctl.
            Index(
                DUE,
                name="idx_notification_events_unscheduled",
                condition=Q(status="failed", next_retry_at__isnull=True),
            ),
            # What may not have been delivered although it is sent, the newest first.
            Index(
                fields=["-created_at"],
                name="idx_notification_events_not_delivered",
                condition=Q(status="sent", error__gt=""),
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
        said = (isolated(str(text)) for text in (self.type, self.recipient, self.channel))
        return "{} to {} on {}".format(*said)

    def clean(self) -> None:
        """Refuse what no database can hold: halves of characters, as a shell's odd bytes become, and
        texts too long for their column's index or for anybody to read."""
        for name in ("type", "certificate_id", "channel", "recipient", "message", "dedup_key"):
            try:
                size = len(str(getattr(self, name)).encode())
            except UnicodeEncodeError:
                raise ValidationError({name: "This text is not valid Unicode."}) from None
            if name in ("certificate_id", "dedup_key") and size > MOST_INDEXED:
                raise ValidationError({name: f"This text is longer than {MOST_INDEXED} bytes."})
            if name == "message" and size > LONGEST_MESSAGE:
                raise ValidationError({name: f"This text is longer than {LONGEST_MESSAGE // 1024} KiB."})

    @property
    def attempt_number(self) -> int:
        return attempt_number(self.retry_count)

    @property
    def not_delivered(self) -> bool:
        """Sent by the rules, although its channel had no notifier. Asks the database where the row was read
        without EventQuerySet.with_kind."""
        if self.status != Status.SENT or not self.error:
            return False
        if "last_outcome" in self.__dict__:
            return bool(self.__dict__["last_outcome"] == AttemptOutcome.NO_NOTIFIER)
        return bool(self._rows().filter(pk=self.pk).not_delivered().exists())

    @property
    def dismissed(self) -> bool:
        """Read, and it was dead before: a person closed it, and nobody was told. Asks as `not_delivered`."""
        if self.status != Status.READ:
            return False
        if "was_dismissed" in self.__dict__:
            return bool(self.__dict__["was_dismissed"])
        return bool(self._rows().filter(pk=self.pk).dismissed().exists())

    @property
    def withdrawn(self) -> bool:
        """Read, because its certificate was renewed before it had arrived. Asks as `not_delivered`."""
        if self.status != Status.READ:
            return False
        if "was_withdrawn" in self.__dict__:
            return bool(self.__dict__["was_withdrawn"]) and not self.dismissed
        return bool(self._rows().filter(pk=self.pk).withdrawn().exists())

    @cached_property
    def not_after(self) -> datetime | None:
        """When the certificate ends that it is about, where that is known. Asks as `not_delivered`."""
        if self._state.adding:
            return None
        deadline = Deadline.objects.filter(notification=self.pk).first()
        return deadline.not_after if deadline else None

    @property
    def probably_delivered(self) -> bool:
        """An e-mail that certctl left failed: most likely its server had taken it. See the QuerySet's."""
        return self.stranded and self.last_error is None and self.channel.casefold() == MAILED

    @property
    def stranded(self) -> bool:
        return self.status == Status.FAILED and self.next_retry_at is None

    def requeue(self, *, by: str, via: str = "python", renewed: bool = False) -> None:
        """Pending again with a fresh budget. Raises TransitionRefused, or DoesNotExist if the row is gone.

        renewed  also where its certificate was renewed since
        """
        rows = self._rows().filter(pk=self.pk)
        if not rows.requeue(by=by, via=via, renewed=renewed).changed:
            raise rows.refusal("requeue", self.pk)
        self.refresh_from_db()

    def mark_read(self, *, by: str = "", via: str = "python") -> None:
        """Seen (sent) or dismissed (dead). Raises TransitionRefused, or DoesNotExist if the row is gone."""
        rows = self._rows().filter(pk=self.pk)
        if not rows.mark_read(by=by, via=via).changed:
            raise rows.refusal("mark read", self.pk)
        self.refresh_from_db()

    def dismiss(self, *, by: str, via: str = "python", reason: str = "") -> None:
        """A dead letter that nobody need look at any more. Raises as `requeue`."""
        self._decide("dismiss", by=by, via=via, reason=reason)

    def mark_seen(self, *, by: str, via: str = "python", reason: str = "") -> None:
        """A delivery that somebody acknowledged. Raises as `requeue`."""
        self._decide("mark_seen", by=by, via=via, reason=reason)

    def restore(self, *, by: str, via: str = "python", reason: str = "") -> None:
        """Dismissed: a dead letter again. Raises as `requeue`."""
        self._decide("restore", by=by, via=via, reason=reason)

    def withdraw(self, *, by: str, via: str = "python") -> None:
        """Its certificate was renewed since, and nobody need be told of it. Raises as `requeue`."""
        self._decide("withdraw", by=by, via=via)

    def _decide(self, verb: str, **record: str) -> None:
        rows = self._rows().filter(pk=self.pk)
        if not getattr(rows, verb)(**record).changed:
            raise rows.refusal(verb.replace("_", " "), self.pk)
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
        rows = self._rows()
        with database.atomic():
            rows.transition(
                "dead-letter",
                self,
                UNDELIVERED,
                status=Status.DEAD,
                next_retry_at=None,
                last_error=tidy(last_error),
            )
            follow(rows, [self.pk])

    def mark_as_sent(self, sent_at: datetime) -> None:
        """Delivered at sent_at; retry_count and last_error stay as evidence."""
        rows = self._rows()
        with database.atomic():
            rows.transition(
                "mark as sent", self, UNDELIVERED, status=Status.SENT, sent_at=sent_at, next_retry_at=None
            )
            signals.tell_of(signals.delivered, rows, [self.pk])

    def _rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = type(self).objects.all()
        return rows
