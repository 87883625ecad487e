"""The QuerySet's verbs as an operator meets them: their names, who may use them, what to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db.models import Q

from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, OperationKind, Status
from ..models.fields import READABLE, REQUEUEABLE
from ..models.queryset import WITH_AN_ERROR, Changed, readable, requeueable
from .filters import NOT_DELIVERED, STORED


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the QuerySet.

    name       of the QuerySet's method
    short      on the button of a dead one, or of a group of them
    done       at the head of a report; counted: behind a number
    statuses   from which the rules allow it, some kinds of a status among them
    allows     the same of rows; whether an attempt is running is not asked
    effect     what it does to a notification, for the page that asks first
    """

    name: str
    kind: OperationKind
    permission: str
    label: str
    short: str
    done: str
    counted: str
    statuses: tuple[str, ...]
    allows: Callable[[], Q]
    effect: str

    @property
    def spoken(self) -> str:
        """As the rules call it when they refuse."""
        return self.name.replace("_", " ")

    @property
    def action(self) -> str:
        """The name of the list's action."""
        return f"{self.name}_selected"

    def label_for(self, status: str) -> str:
        """On the page of a notification: reading a dead one is dismissing it."""
        return self.short if status == Status.DEAD else self.label

    def allowed_to(self, user: AbstractBaseUser | AnonymousUser | PermissionsMixin) -> bool:
        return user.has_perm(f"notifications.{self.permission}")  # type: ignore[union-attr]

    def may_take(self, event: NotificationEvent) -> bool:
        return event.status in self.statuses or (NOT_DELIVERED in self.statuses and event.not_delivered)

    def parts(self, rows: NotificationQuerySet, status: str) -> dict[str, NotificationQuerySet]:
        """Of the rows all that it may take, and some more (see `allows`): a part for each index.

        status  the stored one that is meant; "" means any
        """
        found = {s: WITH_AN_ERROR if s == NOT_DELIVERED else Q(status=s) for s in self.statuses}
        stored = {s: STORED.get(s, s) for s in self.statuses}
        return {s: rows.filter(q) for s, q in found.items() if status in ("", stored[s])}

    def on_rows(self, rows: NotificationQuerySet, *, by: str, via: str, reason: str = "") -> Changed:
        changed: Changed = getattr(rows, self.name)(by=by, via=via, reason=reason)
        return changed

    def on_batch(self, rows: NotificationQuerySet, operation: BulkOperation, now: datetime | None) -> Changed:
        """A part of the operation; `now` is a sweep's, which requeues only."""
        record = {"by": operation.by, "via": operation.via, "reason": operation.reason}
        clock = {"now": now} if now else {}
        changed: Changed = getattr(rows, self.name)(**record, operation=operation, **clock)
        return changed

    def on_event(self, event: NotificationEvent, by: str) -> None:
        """Raises what the event's own verb raises."""
        getattr(event, self.name)(by=by, via="admin")


REQUEUE = Verb(
    name="requeue",
    kind=OperationKind.REQUEUE,
    permission="requeue_notificationevent",
    label="Requeue",
    short="Requeue",
    done="Requeued",
    counted="requeued",
    statuses=(*REQUEUEABLE, NOT_DELIVERED),
    allows=requeueable,
    effect="becomes pending with a fresh budget of attempts, and the next sweep sends it."
    " Its retry count and last error stay on record in its timeline.",
)
MARK_READ = Verb(
    name="mark_read",
    kind=OperationKind.READ,
    permission="change_notificationevent",
    label="Mark as read",
    short="Dismiss",
    done="Marked as read",
    counted="read",
    statuses=READABLE,
    allows=readable,
    effect="is done with: a sent one has been seen, a dead one is dismissed for good and cannot be requeued.",
)
VERBS = (REQUEUE, MARK_READ)


def verb_of(kind: str) -> Verb:
    return next(verb for verb in VERBS if verb.kind == kind)
