"""How things stand: sweeps, counts, endpoints that are held, workers that live."""

from __future__ import annotations

from django.db import models

from ..durations import minute, timestamp
from .fields import Index, Table
from .history import belongs_to_operation


class SweepKind(models.TextChoices):
    PENDING = "pending"
    RETRY = "retry"


class SweepRun(Table):
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
    handed_over = models.PositiveIntegerField(default=0, db_default=0)
    worker = models.CharField(max_length=255)

    class Meta:
        db_table = "notification_sweeps"
        ordering = ("ended_at", "id")
        indexes = (Index(fields=["kind", "-ended_at"], name="idx_notification_sweeps_last"),)

    def __str__(self) -> str:
        return f"{self.kind} sweep of {timestamp(self.ended_at)}"


class HandOver(Table):
    """A batch that a sweep gave to a task engine: all its rows are under this lease.

    begun_at  when the engine's worker began with it; until then none of its rows was attempted
    """

    leased_until = models.DateTimeField(primary_key=True)
    notifications = models.PositiveIntegerField()
    handed_over_at = models.DateTimeField()
    begun_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notification_hand_overs"
        ordering = ("leased_until",)

    def __str__(self) -> str:
        return f"{self.notifications} notifications until {timestamp(self.leased_until)}"


DURATIONS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # seconds that an attempt took: upper bounds
AGES = (1, 10, 30, 60, 120, 300, 900, 3600, 14400, 86400)  # seconds from raised to delivered


class Tally(Table):
    """Attempts counted as they are recorded, per hour, and for all time in the hour EPOCH.

    It answers "how many, how long" without reading the history. took_n counts the attempts that took
    at most DURATIONS[n] seconds and more than the bound before; age_n the deliveries by AGES alike.

    slot  workers that count at the same time count in different ones: none waits for another. Add them up
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
    slot = models.IntegerField(default=0, db_default=0)

    class Meta:
        db_table = "notification_tallies"
        ordering = ("hour", "channel", "outcome")
        verbose_name_plural = "tallies"
        constraints = (
            models.UniqueConstraint(
                fields=["hour", "channel", "outcome", "slot"], name="uniq_notification_tallies_slot"
            ),
        )

    def __str__(self) -> str:
        return f"{minute(self.hour)} {self.channel} {self.outcome}: {self.attempts}"


class Death(Table):
    """Notifications that died alike, counted until a digest has told of them.

    since  when the digest's interval began that they died in
    error  its fingerprint
    slot   as of a Tally
    tell_by  before the interval is over, where a certificate ends soon: the earliest of them
    """

    since = models.DateTimeField()
    channel = models.CharField(max_length=255)
    error = models.CharField(max_length=255)
    notifications = models.BigIntegerField()
    slot = models.IntegerField(default=0, db_default=0)
    tell_by = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notification_deaths"
        ordering = ("since", "channel", "error")
        constraints = (
            models.UniqueConstraint(
                fields=["since", "channel", "error", "slot"], name="uniq_notification_deaths_slot"
            ),
        )

    def __str__(self) -> str:
        return f"{self.notifications} on {self.channel}: {self.error}"


class Hold(Table):
    """An endpoint that nobody sends to until a time, and why; its rows wait without spending attempts.

    A webhook's endpoint is a host, and the rows are those whose recipient begins with recipient_prefix
    (or is just it, where `exact`); "" means all of the channel's rows. One endpoint can have several.

    times        how often it was held since it last delivered
    by           the operator who paused it; "" where a worker found it down
    reopened_at  when it delivered again: until `until` its backlog flows at a bounded rate
    """

    endpoint = models.TextField()
    channel = models.CharField(max_length=255)
    recipient_prefix = models.CharField(max_length=255, blank=True, default="")
    exact = models.BooleanField(default=False)
    reason = models.CharField(max_length=20)
    error = models.TextField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    times = models.PositiveIntegerField(default=1, db_column="failures")
    by = models.CharField(max_length=255, blank=True, default="")
    reopened_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notification_holds"
        ordering = ("endpoint",)
        constraints = (
            models.UniqueConstraint(
                fields=["endpoint", "channel", "recipient_prefix"], name="uniq_notification_holds_rows"
            ),
        )

    def __str__(self) -> str:
        return f"{self.endpoint} until {timestamp(self.until)}: {self.reason}"


class Outage(Table):
    """From the first failure in a row of one endpoint until it delivered again. Rows as for Hold.

    An outage that killed nothing is forgotten when it ends.

    failures     in a row that were seen
    died         how many notifications were dead-lettered by it, about
    redriven_by  who had them requeued; "system" where REDRIVE_ON_RECOVERY did
    """

    endpoint = models.TextField()
    channel = models.CharField(max_length=255)
    recipient_prefix = models.CharField(max_length=255, blank=True, default="")
    exact = models.BooleanField(default=False)
    reason = models.CharField(max_length=20)
    error = models.TextField()
    since = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)
    died = models.PositiveIntegerField(default=0)
    ended_at = models.DateTimeField(null=True, blank=True)
    redriven_at = models.DateTimeField(null=True, blank=True)
    redriven_by = models.CharField(max_length=255, blank=True, default="")
    operation = belongs_to_operation()

    class Meta:
        db_table = "notification_outages"
        ordering = ("-since", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=["endpoint", "channel", "recipient_prefix"],
                name="uniq_notification_outages_open",
                condition=models.Q(ended_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        end = timestamp(self.ended_at) if self.ended_at else "now"
        return f"{self.endpoint} from {timestamp(self.since)} to {end}"


class Beside(Table):
    """How we live together with certctl, where the database's guard reads it (migration 0016): one row, which
    sweeps write.

    mode   one of conf.BESIDE_CHOICES
    since  when it became that
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    mode = models.CharField(max_length=20)
    since = models.DateTimeField()

    class Meta:
        db_table = "notification_beside"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.mode} since {timestamp(self.since)}"


class Worker(Table):
    """The heartbeat of an always-on worker; one that ends in order takes its row with it."""

    name = models.CharField(max_length=255, primary_key=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    in_flight = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "notification_workers"
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.name}, seen {timestamp(self.seen_at)}"
