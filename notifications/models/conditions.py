"""Which notifications: the conditions that more than one query asks for."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, GreaterThan, LessThanOrEqual

from . import relevance
from .fields import READABLE, REQUEUEABLE, UNDELIVERED, Status
from .history import DISMISSAL, AttemptOutcome, Deadline, DeliveryAttempt, Reading, Withdrawal

# Since when a pending notification is due.
DUE = Coalesce("requeued_at", "created_at", output_field=models.DateTimeField())


# certctl's channel whose mailer reports an error also after the server has taken the mail; folded.
MAILED = "email"
PROBABLY_DELIVERED = Q(last_error__isnull=True, channel__iexact=MAILED)  # of the stranded


def free(now: datetime) -> Q:
    """Not in the hands of a worker."""
    return Q(leased_until__isnull=True) | Q(leased_until__lte=now)


def past(now: datetime, grace: timedelta) -> Q:
    """Waiting for that long, or since a time that has yet to come: no clock is so far ahead."""
    return Q(LessThanOrEqual(DUE, now - grace)) | Q(GreaterThan(DUE, now + grace))


def last_outcome() -> Coalesce:
    """How a notification's last attempt ended; "" without one on record."""
    newest = DeliveryAttempt.objects.filter(notification=OuterRef("pk")).order_by("-started_at", "-id")
    return Coalesce(Subquery(newest.values("outcome")[:1]), Value(""))


def ends() -> Subquery:
    """When the certificate ends that a notification is about; null where that is not known."""
    return Subquery(Deadline.objects.filter(notification=OuterRef("pk")).values("not_after")[:1])


# What may be `sent` without having been delivered: an index knows these. certctl leaves no error on what it
# sent.
WITH_AN_ERROR = Q(status=Status.SENT, error__gt="")


def not_delivered() -> Q:
    """Sent by the rules, although its channel had no notifier."""
    return WITH_AN_ERROR & Q(Exact(last_outcome(), Value(AttemptOutcome.NO_NOTIFIER.value)))


def requeueable() -> Q:
    """What a requeue is allowed from, where no attempt is running."""
    return Q(status__in=REQUEUEABLE) | not_delivered()


def readable() -> Q:
    return Q(status__in=READABLE)


def dismissed() -> Q:
    """Read, and it was dead when somebody marked it so: nobody was ever told. An index knows these.

    What another program marked read has no record, and counts as seen.
    """
    return Q(status=Status.READ, pk__in=Reading.objects.filter(DISMISSAL).values("notification"))


def withdrawn() -> Q:
    """Read, because its certificate was renewed before it had arrived."""
    return Q(status=Status.READ, pk__in=Withdrawal.objects.values("notification")) & ~Q(was_dismissed())


def seen() -> Q:
    """Read in every other way: delivered, and acknowledged."""
    return Q(status=Status.READ) & ~Q(was_dismissed()) & ~Q(was_withdrawn())


def was_dismissed() -> Exists:
    return Exists(Reading.objects.filter(DISMISSAL, notification=OuterRef("pk")))


def was_withdrawn() -> Exists:
    return Exists(Withdrawal.objects.filter(notification=OuterRef("pk")))


def may_have_arrived() -> models.QuerySet[DeliveryAttempt]:
    """The attempts of a notification after which nobody knows whether it arrived."""
    unsure = (AttemptOutcome.UNKNOWN, AttemptOutcome.INTERRUPTED)
    attempts: models.QuerySet[DeliveryAttempt] = DeliveryAttempt.objects.filter(
        notification=OuterRef("pk"), outcome__in=unsure
    )
    return attempts


WITHDRAWABLE = (*UNDELIVERED, Status.DEAD)


def withdrawable(now: datetime, lease: datetime | None = None) -> Q:
    """What may be withdrawn, where its certificate was renewed.

    lease  of a worker: what it holds itself is no obstacle to it
    """
    free_or_ours = free(now) if lease is None else free(now) | Q(leased_until=lease)
    return Q(status__in=WITHDRAWABLE, type__in=relevance.EXPIRY) & free_or_ours
