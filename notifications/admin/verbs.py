"""The QuerySet's verbs as an operator meets them: their names, who may use them, what to say."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, OperationKind, Status
from ..models.fields import READABLE, REQUEUEABLE
from ..models.queryset import Changed


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the QuerySet.

    short      on the button of a dead one, or of a group of them
    statuses   from which the rules allow it
    effect     what it does to a notification, for the page that asks first
    """

    name: str
    kind: OperationKind
    permission: str
    label: str
    short: str
    done: str
    statuses: tuple[str, ...]
    effect: str

    @property
    def action(self) -> str:
        """The name of the list's action."""
        return f"{self.name}_selected"

    def label_for(self, status: str) -> str:
        """On the page of a notification: reading a dead one is dismissing it."""
        return self.short if status == Status.DEAD else self.label

    def allowed_to(self, user: AbstractBaseUser | AnonymousUser | PermissionsMixin) -> bool:
        return user.has_perm(f"notifications.{self.permission}")  # type: ignore[union-attr]

    def on_rows(self, rows: NotificationQuerySet, operation: BulkOperation) -> Changed:
        """A batch of an operation."""
        record = {"by": operation.by, "via": operation.via, "reason": operation.reason}
        changed: Changed = getattr(rows, self.name)(**record, operation=operation)
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
    statuses=REQUEUEABLE,
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
    statuses=READABLE,
    effect="is done with: a sent one has been seen, a dead one is dismissed for good and cannot be requeued.",
)
VERBS = (REQUEUE, MARK_READ)


def verb_of(kind: str) -> Verb:
    return next(verb for verb in VERBS if verb.kind == kind)
