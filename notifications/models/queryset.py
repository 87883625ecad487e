"""The vocabulary of the table: which notifications, and what may be done with them.

Every change of status here and in the package queue is a guarded UPDATE that says whether it happened;
nothing else in the project writes status.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, Self, TypeVar, Unpack, cast

from asgiref.sync import sync_to_async
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Subquery, When
from django.db.models.functions import Coalesce, Left
from django.db.models.lookups import GreaterThan, GreaterThanOrEqual, LessThanOrEqual

from .. import database
from ..database import database_now, wake_workers
from ..durations import URGENT
from ..exceptions import TransitionRefused
from ..text import cut
from . import relevance, tallies
from .conditions import (
    DUE,
    PROBABLY_DELIVERED,
    WITH_AN_ERROR,
    WITHDRAWABLE,
    dismissed,
    ends,
    free,
    last_outcome,
    may_have_arrived,
    not_delivered,
    past,
    requeueable,
    seen,
    was_dismissed,
    was_withdrawn,
    withdrawable,
    withdrawn,
)
from .fields import READABLE, REQUEUEABLE, UNDELIVERED, Status, Text, is_channel
from .history import (
    DISMISSAL,
    BulkOperation,
    Deadline,
    DeliveryAttempt,
    Reading,
    Refusal,
    Requeue,
    Withdrawal,
)
from .raising import Alert, made, raise_many, raise_one
from .solving import raise_solved

Row = TypeVar("Row", bound=models.Model)

BATCH = 1000
PAGE_CHARACTERS = 2 * 1024 * 1024  # of the messages in one page of a list, together


class Changed(NamedTuple):
    """What a verb over many notifications did: how many it changed, how many the rules refused."""

    changed: int
    skipped: int


class EventQuerySet(models.QuerySet[Row]):
    # Which notifications

    def pending(self) -> Self:
        return self.filter(status=Status.PENDING)

    def failed(self) -> Self:
        return self.filter(status=Status.FAILED)

    def dead(self) -> Self:
        """The dead-letter queue."""
        return self.filter(status=Status.DEAD)

    def stranded(self) -> Self:
        """Failed without a next retry, so no sweep sees them: certctl leaves such rows, we never do."""
        return self.failed().filter(next_retry_at__isnull=True)

    def probably_delivered(self) -> Self:
        """Of the stranded the e-mails that certctl left without a word why: most likely they were taken."""
        return self.stranded().filter(PROBABLY_DELIVERED)

    def lost(self) -> Self:
        """The other stranded ones."""
        return self.stranded().exclude(PROBABLY_DELIVERED)

    def to_adopt(self, since: datetime, now: datetime, grace: timedelta) -> Self:
        """Of these the ones that wait for so long, and not since before `since`."""
        return self.lost().filter(past(now, grace), GreaterThanOrEqual(DUE, since))

    def in_grace(self, now: datetime, grace: timedelta) -> Self:
        """The pending that another program raised, or requeued, lately: it is sending them itself."""
        theirs = self.pending().filter(ours__isnull=True, leased_until__isnull=True)
        return theirs.filter(GreaterThan(DUE, now - grace), LessThanOrEqual(DUE, now + grace))

    def out_of_grace(self, now: datetime, grace: timedelta) -> Self:
        """Of the pending the others."""
        return self.filter(Q(ours=True) | past(now, grace))

    def not_delivered(self, *, among: int | None = None) -> Self:
        """Sent by the rules, although nothing was delivered: the channel had no notifier.

        among  look only at the newest so many of those that an index holds: sent ones with an error
        """
        if among is None:
            return self.filter(not_delivered())
        newest = self._everything().filter(WITH_AN_ERROR).order_by("-created_at").values("pk")[:among]
        return self.filter(not_delivered(), pk__in=newest)

    def dismissed(self) -> Self:
        """The dead letters that a person closed."""
        return self.filter(dismissed())

    def seen(self) -> Self:
        """The deliveries that a person acknowledged."""
        return self.filter(seen())

    def withdrawn(self) -> Self:
        """The alerts whose certificates were renewed before they had arrived."""
        return self.filter(withdrawn())

    def with_kind(self) -> Self:
        """What tells of each whether it was delivered, how it came to be read, and when its certificate ends,
        in the one query."""
        return self.annotate(
            last_outcome=last_outcome(),
            was_dismissed=was_dismissed(),
            was_withdrawn=was_withdrawn(),
            not_after=ends(),
        )

    def with_ends(self) -> Self:
        """When the certificate of each ends, in the one query."""
        return self.annotate(not_after=ends())

    def soonest_first(self) -> Self:
        """What ends first in front; then those of which that is not known, the newest first."""
        return self.order_by(ends().asc(nulls_last=True), "-created_at", "-pk")

    def retry_eligible(self, now: datetime | None = None, max_attempts: int = 5) -> Self:
        """What a retry sweep takes at `now` (the database's, unless given), oldest first."""
        now = now or database_now()
        return self._due(now).filter(retry_count__lt=max_attempts).order_by("next_retry_at")

    def spent(self, now: datetime | None = None, max_attempts: int = 5) -> Self:
        """Due, but with no attempt left: imported so, or the budget was lowered."""
        now = now or database_now()
        return self._due(now).filter(retry_count__gte=max_attempts)

    def urgent(self, now: datetime) -> Self:
        """Of those that wait the ones with less than a day left, what ends first in front; an index knows
        them."""
        soon = Deadline.objects.filter(waiting=True, not_after__lt=now + URGENT)
        return self.filter(pk__in=soon.values("notification")).order_by(ends())

    def _due(self, now: datetime) -> Self:
        return self.failed().filter(free(now), next_retry_at__isnull=False, next_retry_at__lte=now)

    def refused(self) -> Self:
        """Undelivered, and the database takes no change of them: workers try again after a while, or
        after a requeue."""
        return self.filter(status__in=UNDELIVERED, pk__in=Refusal.objects.values("notification"))

    def on_channel(self, channel: str) -> Self:
        """Old rows say `email`, new ones `Email`: case does not matter."""
        return self.filter(is_channel(channel))

    def in_page(self, rows: int, start: int = 0) -> list[Row]:
        """So many of them, for a list: long messages are cut, so that a page is bounded whatever it holds."""
        most = PAGE_CHARACTERS // max(1, rows)
        cut_short = self.defer("message").annotate(
            message_start=Left("message", most + 1, output_field=Text())
        )
        found: list[Any] = list(cut_short[start : start + rows])
        for event in found:
            event.message = cut(event.message_start or "", most)
        return found

    def count_by_status(self, status: str) -> int:
        return self.filter(status=status).count()

    # What producers do

    def notify(
        self,
        *,
        type: str,
        channel: str,
        recipient: str,
        message: str,
        certificate_id: str | None = None,
        dedup_key: str | None = None,
        not_after: datetime | None = None,
        fingerprints: Sequence[str] = (),
    ) -> tuple[Row, bool]:
        """Raise one alert: (the event, whether this call made it).

        not_after     when the certificate ends that it is about: what ends sooner goes sooner
        fingerprints  SHA-256 of the certificates that end then or later, in hexadecimal: where these are
                      watched, it is withdrawn when they are renewed. Says nothing without not_after

        A second call with the same dedup_key makes nothing and answers the first event, also when
        both run at once. Raises ValidationError, which names the field, for what the table cannot hold.
        That nothing may be delivered is no error, for another process may have what it takes: the log warns,
        and the event's `warnings` say why, a phrase each.
        """
        event = made(
            self.model,
            type=type,
            channel=channel,
            recipient=recipient,
            message=message,
            certificate_id=certificate_id,
            dedup_key=dedup_key,
            not_after=not_after,
            fingerprints=fingerprints,
        )
        return raise_one(self._everything(), event)

    def notify_many(self, alerts: Iterable[Alert]) -> list[tuple[Row, bool]]:
        """Raise many alerts, each as `notify` takes it: (event, whether this call made it), in their order.

        One transaction, and one wake-up call for the workers. Raises ValidationError, with nothing written,
        whose keys name place and field: "3.recipient" is the fourth alert's.
        """
        return raise_many(self._everything(), alerts)

    async def anotify(self, **alert: Unpack[Alert]) -> tuple[Row, bool]:
        """`notify`, for async code."""
        return await sync_to_async(self.notify)(**alert)

    async def anotify_many(self, alerts: Iterable[Alert]) -> list[tuple[Row, bool]]:
        """`notify_many`, for async code."""
        return await sync_to_async(self.notify_many)(alerts)

    def notify_once(self, **fields: str | None) -> tuple[Row, bool]:
        """`notify` with any key, for the app itself."""
        event: Any = self.model(**fields)
        event.full_clean(validate_unique=False, validate_constraints=False)
        return raise_one(self._everything(), event)

    # What operators do

    def requeue(
        self,
        *,
        by: str,
        via: str = "python",
        now: datetime | None = None,
        reason: str = "",
        operation: BulkOperation | None = None,
        renewed: bool = False,
    ) -> Changed:
        """Give what is dead, failed or not delivered here a fresh budget; the rules skip the others.

        by, via    who, through which surface; both are put on record with what the requeue wiped
        operation  the operator's decision about many notifications that this is a part of
        renewed    also those whose certificates were renewed since: they are sent all the same
        """
        record = {"by": by, "via": via, "reason": reason, "operation": operation}
        return self._in_batches(lambda batch: batch._requeue_batch(now, record, renewed))

    def mark_read(
        self,
        *,
        by: str = "",
        via: str = "python",
        reason: str = "",
        operation: BulkOperation | None = None,
    ) -> Changed:
        """Sent: seen. Dead: dismissed. What is not delivered yet is skipped, never cancelled."""
        record = {"by": by, "via": via, "reason": reason, "operation": operation}
        return self._in_batches(lambda batch: batch._mark_read_batch(record, READABLE))

    def dismiss(
        self, *, by: str, via: str = "python", reason: str = "", operation: BulkOperation | None = None
    ) -> Changed:
        """Of the same the dead ones only."""
        record = {"by": by, "via": via, "reason": reason, "operation": operation}
        return self._in_batches(lambda batch: batch._mark_read_batch(record, [Status.DEAD]))

    def mark_seen(
        self, *, by: str, via: str = "python", reason: str = "", operation: BulkOperation | None = None
    ) -> Changed:
        """Of the same the sent ones only."""
        record = {"by": by, "via": via, "reason": reason, "operation": operation}
        return self._in_batches(lambda batch: batch._mark_read_batch(record, [Status.SENT]))

    def withdraw(self, *, by: str, via: str = "python", now: datetime | None = None) -> Changed:
        """Take back the expiry warnings whose certificates were renewed since: read, with the reason on
        record; the rules skip the others, and what nobody is certain of."""
        record = {"by": by, "via": via}
        return self._in_batches(lambda batch: len(batch.withdraw_batch(record, now or database_now())))

    def solve(self) -> int:
        """Tell of the delivered expiry warnings whose certificates were renewed since that they are solved:
        whose provider keeps them open, and whose channel wants it. How many notifications that raises."""
        return self._in_batches(lambda batch: batch._solve_batch()).changed

    def restore(
        self, *, by: str, via: str = "python", reason: str = "", operation: BulkOperation | None = None
    ) -> Changed:
        """Take dismissals back: dead letters again, with all their evidence; the rules skip the others."""
        record = _undoing(by, via, reason, operation)
        return self._in_batches(lambda batch: batch._restore_batch(record))

    def undo_requeue(
        self, *, by: str, via: str = "python", reason: str = "", operation: BulkOperation | None = None
    ) -> Changed:
        """Take back what was requeued and nobody has attempted since: it is again what it was before.

        operation  where that undoes another one: only what that requeued. What had failed without a next
                   retry stays pending, for nothing of ours is left where no sweep sees it
        """
        record = _undoing(by, via, reason, operation)
        return self._in_batches(lambda batch: batch._undo_requeue_batch(record))

    def _everything(self) -> Self:
        return cast(Self, self.model._default_manager.all())

    def _in_batches(self, verb: Callable[[Self], int]) -> Changed:
        """Run the verb over what the QuerySet matches now, a bounded number of rows a transaction."""
        ids = list(self.values_list("pk", flat=True))
        everything = self._everything()
        changed = sum(verb(everything.filter(pk__in=batch)) for batch in batched(ids, BATCH))
        return Changed(changed, len(ids) - changed)

    def _requeue_batch(self, now: datetime | None, record: dict[str, Any], renewed: bool) -> int:
        with database.atomic():
            now = now or database_now()
            mine = self.filter(free(now), requeueable()).defer("message", "dedup_key")
            rows = list(locked(mine.order_by("pk")))
            over = relevance.renewed(rows)
            rows = [row for row in rows if renewed or row.pk not in over]
            _wait_again([row.pk for row in rows], over if renewed else {})
            changed = self.filter(free(now), requeueable(), pk__in=[row.pk for row in rows]).update(
                status=Status.PENDING,
                retry_count=0,
                next_retry_at=None,
                last_error=None,
                leased_until=None,
                requeued_at=now,
                ours=True,
                **NOT_SENT_AFTER_ALL,
            )
            tallies.interrupted((row for row in rows if row.leased_until), now=now)
            Requeue.objects.bulk_create(Requeue.of(row, at=now, **record) for row in rows)
            Refusal.objects.filter(notification__in=[row.pk for row in rows]).delete()
            wake_workers()
        return changed

    def withdraw_batch(
        self, record: dict[str, Any], now: datetime, lease: datetime | None = None
    ) -> dict[str, str]:
        """Answers why, by the ids of those that were withdrawn; see `withdrawable`. A worker passes over what
        others hold locked."""
        with database.our_word():
            mine = self.filter(withdrawable(now, lease)).defer("message", "dedup_key").order_by("pk")
            rows = {row.pk: row for row in locked(mine, skip=lease is not None)}
            why = relevance.renewed(rows.values())
            over = [rows[pk] for pk in why]
            self.filter(withdrawable(now, lease), pk__in=list(why)).update(
                status=Status.READ, next_retry_at=None, leased_until=None
            )
            tallies.interrupted(
                (row for row in over if row.leased_until and row.leased_until != lease), now=now
            )
            tallies.withdrawn((row.channel for row in over), now=now)
            Withdrawal.objects.bulk_create(
                Withdrawal(
                    notification_id=row.pk, at=now, status=row.status, reason=str(why[row.pk]), **record
                )
                for row in over
            )
            Deadline.objects.filter(notification__in=list(why)).update(waiting=False, settled=True)
            doubtful = self.filter(Exists(may_have_arrived()), pk__in=list(why))
            raise_solved(self._everything(), doubtful, why)
        return {pk: str(renewal) for pk, renewal in why.items()}

    def _solve_batch(self) -> int:
        with database.atomic():
            delivered = Q(status=Status.SENT) | seen()
            mine = self.filter(delivered, type__in=relevance.EXPIRY).exclude(not_delivered())
            rows = list(
                locked(mine.exclude(pk__in=Deadline.objects.filter(settled=True).values("notification")))
            )
            over = relevance.renewed(rows)
            raised = raise_solved(self._everything(), [row for row in rows if row.pk in over], over)
            Deadline.objects.filter(notification__in=list(over)).update(settled=True)
        return raised

    def _restore_batch(self, record: dict[str, Any]) -> int:
        with database.our_word():
            ids = [row.pk for row in locked(self.filter(dismissed()).only("pk").order_by("pk"))]
            changed = self.filter(pk__in=ids, status=Status.READ).update(status=Status.DEAD)
            taken_back = Reading.objects.filter(DISMISSAL, notification__in=ids)
            taken_back.update(undone_at=database_now(), **record)
        return changed

    def _undo_requeue_batch(self, record: dict[str, Any]) -> int:
        """One UPDATE, of the values that each row's own record has."""
        with database.our_word():
            mine = self.filter(status=Status.PENDING, leased_until__isnull=True, requeued_at__isnull=False)
            rows = list(locked(mine.only("requeued_at").order_by("pk")))
            requeues = undoable_requeues(record["undo"]).filter(notification__in=[row.pk for row in rows])
            when = {row.pk: row.requeued_at for row in rows}
            found = {r.notification_id: r.pk for r in requeues if when.get(r.notification_id) == r.at}
            before = Requeue.objects.filter(notification=OuterRef("pk"), pk__in=found.values())
            was = {name: Subquery(before.values(name)[:1]) for name in ("status", "retry_count")}
            was |= {name: Subquery(before.values(name)[:1]) for name in ("next_retry_at", "sent_at")}
            not_sent = Subquery(before.exclude(status=Status.SENT).values("last_error")[:1])
            sent = Subquery(before.filter(status=Status.SENT).values("last_error")[:1])
            changed = self.filter(
                pk__in=list(found), status=Status.PENDING, leased_until__isnull=True
            ).update(**was, last_error=not_sent, error=Coalesce(sent, F("error")), requeued_at=None)
            Requeue.objects.filter(pk__in=found.values()).update(undone_at=database_now(), **record)
        return changed

    def _mark_read_batch(self, record: dict[str, Any], allowed: Collection[str]) -> int:
        with database.atomic():
            now = database_now()
            rows = list(locked(self.filter(status__in=allowed).only("status").order_by("pk")))
            marked = self.filter(pk__in=[row.pk for row in rows], status__in=allowed)
            changed = marked.update(status=Status.READ)
            Reading.objects.bulk_create(
                Reading(notification_id=row.pk, at=now, status=row.status, **record) for row in rows
            )
        return changed

    # What an event's own verbs are made of

    def transition(self, verb: str, event: Any, allowed: Iterable[str], **changes: Any) -> None:
        """One guarded UPDATE of one undelivered event; it also ends the event's lease.

        The lease that `event` itself carries is no obstacle: its holder is the one who records.
        Raises DoesNotExist when the row is gone, TransitionRefused when the guard held.
        """
        unleased = free(database_now()) | Q(leased_until=event.leased_until)
        row = self.filter(pk=event.pk)
        with database.our_word():
            changed = row.filter(unleased, status__in=allowed).update(leased_until=None, **changes)
        if not changed:
            raise self.refusal(verb, event.pk)
        event.refresh_from_db(using=database.alias())

    def refusal(self, verb: str, event_id: str) -> TransitionRefused:
        """Why a guard held, read after the fact. Raises DoesNotExist when the row is gone."""
        event: Any = self._everything().get(pk=event_id)
        now = database_now()
        if event.leased_until and event.leased_until > now:
            return TransitionRefused(verb, event_id, "an attempt is running; try again when it has ended")
        if verb == "restore" and event.withdrawn:
            return TransitionRefused(verb, event_id, "it is read: it was withdrawn, not dismissed")
        if verb == "withdraw" and event.status in WITHDRAWABLE:
            return TransitionRefused(verb, event_id, NOT_RENEWED[event.type in relevance.EXPIRY])
        if verb == "requeue" and event.status in REQUEUEABLE and (over := relevance.renewed([event])):
            return TransitionRefused(verb, event_id, f"its certificate is {over[event.pk]}")
        return TransitionRefused(verb, event_id, WHY_NOT.get((verb, event.status), f"it is {event.status}"))


NOT_RENEWED = {
    True: "that its certificate was renewed is not certain",
    False: "only expiry warnings are withdrawn",
}
WHY_NOT: dict[tuple[str, str], str] = {
    ("requeue", Status.SENT): "it is sent: it was delivered",
    ("requeue", Status.READ): "it is read: a person has seen or dismissed it",
    ("requeue", Status.PENDING): "it is pending: the next sweep sends it",
    ("mark read", Status.PENDING): "it is pending: what is not delivered yet cannot be read",
    ("mark read", Status.FAILED): "it is failed: what is not delivered yet cannot be read",
    ("mark read", Status.READ): "it is read already",
    ("dismiss", Status.SENT): "it is sent: it was delivered, and can be marked as seen",
    ("dismiss", Status.PENDING): "it is pending: what is not delivered yet cannot be dismissed",
    ("dismiss", Status.FAILED): "it is failed: what is not delivered yet cannot be dismissed",
    ("dismiss", Status.READ): "it is read already",
    ("mark seen", Status.DEAD): "it is dead: nobody was told, so it can only be dismissed",
    ("restore", Status.READ): "it is read: it was seen, not dismissed",
    ("withdraw", Status.SENT): "it is sent: it was delivered",
    ("withdraw", Status.READ): "it is read already",
}


def _wait_again(ids: Sequence[str], insisted: Mapping[str, relevance.Renewal]) -> None:
    """Requeued ones: what ends soon passes backlogs again, and what is wanted all the same is sent."""
    Deadline.objects.filter(notification__in=ids, waiting=False).update(waiting=True)
    if insisted:
        ends = [Deadline(notification_id=pk, not_after=new.not_after) for pk, new in insisted.items()]
        Deadline.objects.bulk_create(ends, ignore_conflicts=True)
        Deadline.objects.filter(notification__in=list(insisted)).update(insisted=True)


def undoable_requeues(undo: BulkOperation | None) -> models.QuerySet[Requeue]:
    """What can be taken back: no attempt has begun since, and what it was is known.

    undo  the operation that does it; where that undoes another, only what that one requeued
    """
    began = DeliveryAttempt.objects.filter(
        notification=OuterRef("notification"), started_at__gte=OuterRef("at")
    )
    found = Requeue.objects.filter(undone_at__isnull=True).exclude(Exists(began))
    if undo is not None and undo.undoes_id:
        found = found.filter(operation=undo.undoes_id)
    # Failed without a next retry is stranded.
    mine: models.QuerySet[Requeue] = found.exclude(status=Status.FAILED, next_retry_at__isnull=True)
    return mine


def _undoing(by: str, via: str, reason: str, operation: BulkOperation | None) -> dict[str, Any]:
    """What a decision's record says of its being taken back."""
    return {"undone_by": by, "undone_via": via, "undone_reason": reason, "undo": operation}


# What said of a sent one that nothing was delivered is the requeue's to keep, as is the last error of others.
NOT_SENT_AFTER_ALL = {
    name: Case(When(status=Status.SENT, then=None), default=F(name)) for name in ("sent_at", "error")
}


def locked(rows: EventQuerySet[Any], *, skip: bool = False) -> EventQuerySet[Any]:
    """Hold the rows until the transaction ends; SQLite, with its one writer, ignores it. skip: pass over what
    others hold."""
    return rows.select_for_update(skip_locked=skip)


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
