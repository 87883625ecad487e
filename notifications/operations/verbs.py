"""The QuerySet's verbs as an operator meets them: their names, who may use them, what to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db.models import Q

from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, OperationKind, Status
from ..models.conditions import WITH_AN_ERROR, dismissed, readable, requeueable
from ..models.fields import READABLE, REQUEUEABLE
from ..models.queryset import Changed
from .filters import DISMISSED, NOT_DELIVERED, STORED


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the QuerySet.

    name       of the QuerySet's method
    done       at the head of a report; counted: behind a number
    statuses   from which the rules allow it, some kinds of a status among them
    allows     the same of rows; whether an attempt is running is not asked
    effect     what it does, for the page that asks first
    grave      it ends something that nobody may come back to: it needs a reason, and its button is red
    """

    name: str
    kind: OperationKind
    permission: str
    label: str
    done: str
    counted: str
    statuses: tuple[str, ...]
    allows: Callable[[], Q]
    effect: str
    grave: bool = False

    @property
    def spoken(self) -> str:
        """As the rules call it when they refuse."""
        return self.name.replace("_", " ")

    @property
    def action(self) -> str:
        """The name of the list's action."""
        return f"{self.name}_selected"

    @property
    def stored(self) -> set[str]:
        """The stored statuses of what it may take."""
        return {STORED.get(status, status) for status in self.statuses}

    def allowed_to(self, user: AbstractBaseUser | AnonymousUser | PermissionsMixin) -> bool:
        return user.has_perm(f"notifications.{self.permission}")  # type: ignore[union-attr]

    def may_take(self, event: NotificationEvent) -> bool:
        return (
            event.status in self.statuses
            or (NOT_DELIVERED in self.statuses and event.not_delivered)
            or (DISMISSED in self.statuses and event.dismissed)
        )

    def allows_of(self, status: str) -> Q:
        """`allows`, of rows that are known to have this status ("" means any). Of a whole one it asks nothing
        more, so that an index gives them in order."""
        return Q() if status in self.statuses and status not in PARTS else self.allows()

    def parts(self, rows: NotificationQuerySet, status: str) -> dict[str, NotificationQuerySet]:
        """Of the rows all that it may take, and some more (see `allows`): a part for each index.

        status  the stored one that is meant; "" means any
        """
        found = {s: PARTS[s]() if s in PARTS else Q(status=s) for s in self.statuses}
        stored = {s: STORED.get(s, s) for s in self.statuses}
        return {s: rows.filter(q) for s, q in found.items() if status in ("", stored[s])}

    def on_rows(
        self, rows: NotificationQuerySet, *, by: str, via: str, reason: str = "", renewed: bool = False
    ) -> Changed:
        """renewed: of a requeue, also those whose certificates were renewed since."""
        more = {"renewed": True} if renewed else {}
        changed: Changed = getattr(rows, self.name)(by=by, via=via, reason=reason, **more)
        return changed

    def on_batch(self, rows: NotificationQuerySet, operation: BulkOperation, now: datetime | None) -> Changed:
        """A part of the operation; `now` is a sweep's, which requeues only."""
        record = {"by": operation.by, "via": operation.via, "reason": operation.reason}
        more: dict[str, Any] = {"now": now} if now else {}
        if self.kind == OperationKind.REQUEUE:
            more["renewed"] = operation.renewed
        changed: Changed = getattr(rows, self.name)(**record, operation=operation, **more)
        return changed

    def on_event(self, event: NotificationEvent, by: str) -> None:
        """Raises what the event's own verb raises."""
        getattr(event, self.name)(by=by, via="admin")


# Where an index knows less than a whole status.
PARTS: dict[str, Callable[[], Q]] = {NOT_DELIVERED: lambda: WITH_AN_ERROR, DISMISSED: dismissed}

REQUEUE = Verb(
    name="requeue",
    kind=OperationKind.REQUEUE,
    permission="requeue_notificationevent",
    label="Requeue",
    done="Requeued",
    counted="requeued",
    statuses=(*REQUEUEABLE, NOT_DELIVERED),
    allows=requeueable,
    effect="Each becomes pending with a fresh budget of attempts, and goes out with the next delivery."
    " Its retry count and last error stay on record in its timeline.",
)
DISMISS = Verb(
    name="dismiss",
    kind=OperationKind.DISMISS,
    permission="change_notificationevent",
    label="Dismiss",
    done="Dismissed",
    counted="dismissed",
    statuses=(Status.DEAD,),
    allows=lambda: Q(status=Status.DEAD),
    effect="For good: nobody is told of these alerts any more, and nothing sends them."
    " Only a person who restores them brings them back.",
    grave=True,
)
SEE = Verb(
    name="mark_seen",
    kind=OperationKind.SEE,
    permission="change_notificationevent",
    label="Mark as seen",
    done="Marked as seen",
    counted="seen",
    statuses=(Status.SENT,),
    allows=lambda: Q(status=Status.SENT),
    effect="Each was delivered, and is marked as seen by you. There is no way back from that.",
)
RESTORE = Verb(
    name="restore",
    kind=OperationKind.RESTORE,
    permission="change_notificationevent",
    label="Restore",
    done="Restored",
    counted="restored",
    statuses=(DISMISSED,),
    allows=dismissed,
    effect="Each is a dead letter again, with its error and its retry count; nothing is sent.",
)
# What people see on a page; the command line's `read` is both, as the notification comes.
VERBS = (REQUEUE, DISMISS, SEE, RESTORE)
MARK_READ = Verb(
    name="mark_read",
    kind=OperationKind.READ,
    permission="change_notificationevent",
    label="Mark as read",
    done="Marked as read",
    counted="read",
    statuses=READABLE,
    allows=readable,
    effect="Each is done with: a sent one has been seen, a dead one is dismissed.",
)
UNDO = Verb(
    name="undo_requeue",
    kind=OperationKind.UNDO,
    permission="requeue_notificationevent",
    label="Undo the requeue",
    done="Undone",
    counted="undone",
    statuses=(Status.PENDING,),
    allows=lambda: Q(status=Status.PENDING),
    effect="Each that nobody has attempted since is what it was before: dead, failed or not delivered.",
)
# Who takes an operation back, and with what.
TAKEN_BACK = {REQUEUE.kind: UNDO, DISMISS.kind: RESTORE, MARK_READ.kind: RESTORE}


def verb_of(kind: str) -> Verb:
    return next(verb for verb in (*VERBS, MARK_READ, UNDO) if verb.kind == kind)
