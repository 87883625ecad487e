"""A verb on many notifications, a bounded batch at a time, with one record of the whole.

Whoever began it drives it: the progress page, a command, a call, a sweep. Every step is one short
transaction, which moves the cursor and changes the rows together, so that it can be left and gone on with
at any time, by anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from .. import database
from ..database import database_now, said
from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, OperationKind, Reading, Status
from ..models.conditions import free, requeueable
from ..models.fields import UNDELIVERED
from ..models.history import DISMISSAL
from ..models.queryset import Changed, locked, undoable_requeues
from ..queue.batch import in_parts
from .filters import STORED, Filters, matching, of_query, raised_within, with_problem
from .survey import renewed_among
from .verbs import TAKEN_BACK, Verb, verb_of
from .walk import Walk

UNKNOWN_SINCE = datetime(9000, 1, 1, tzinfo=UTC)  # PostgreSQL's infinity, say
logger = logging.getLogger(__name__)

STEP = 500  # notifications that one step changes
RUNNING, RENEWED, MEANWHILE = "attempt running", "renewed since", "changed in the meantime"


def start(
    verb: Verb,
    *,
    filters: str = "",
    ids: Sequence[str] | None = None,
    requested: int,
    at_least: bool = False,
    refused: Mapping[str, int] | None = None,
    undoes: BulkOperation | None = None,
    by: str,
    via: str,
    reason: str = "",
    now: datetime | None = None,
    renewed: bool = False,
) -> BulkOperation:
    """Put the decision on record; nothing is changed yet.

    filters    a query string (filters.of_query); ids instead, where rows were selected
    requested  how many are to be changed; at_least: there are more than were counted
    refused    how many the rules will refuse, by why
    undoes     the operation whose rows are meant, instead of filters and ids
    renewed    of a requeue: also those whose certificates were renewed since
    """
    operation: BulkOperation = BulkOperation.objects.create(
        kind=verb.kind,
        filters="" if ids is not None else filters,
        ids=None if ids is None else list(ids),
        reason=reason,
        by=by,
        via=via,
        requested=requested,
        at_least=at_least,
        skips={why: count for why, count in (refused or {}).items() if why != RUNNING},
        started_at=now or timezone.now(),
        undoes=undoes,
        driven_by=by,
        renewed=renewed,
    )
    return operation


def step(operation_id: int, *, now: datetime | None = None, looks_at: int | None = None) -> BulkOperation:
    """Do the next batch, if there is one. Two that drive one operation take turns.

    now       a sweep's clock; the machine's unless given
    looks_at  how many notifications it reads to find its own (walk.LOOKED_AT)
    """
    with database.atomic():
        rows: Any = BulkOperation.objects.all()
        operation: BulkOperation = locked(rows).get(pk=operation_id)
        if operation.ended_at is None:
            _change(operation, _next(operation, now or timezone.now(), looks_at), now)
            operation.stepped_at = timezone.now()
            operation.save()
    return operation


def finish(operation: BulkOperation, tell: Callable[[BulkOperation], None] = lambda _: None) -> BulkOperation:
    """Do all that is left, and tell how it stands after each batch."""
    while operation.ended_at is None:
        operation = step(operation.pk)
        tell(operation)
    return operation


def take_over(operation_id: int, by: str) -> BulkOperation:
    """Go on with it: from now on `by` carries it out, and whoever did before stops; it is on record."""
    with database.atomic():
        rows: Any = BulkOperation.objects.all()
        operation: BulkOperation = locked(rows).get(pk=operation_id)
        if operation.ended_at is None:
            known = operation.taken_over or []
            operation.taken_over = [*known, {"by": by, "at": timezone.now().isoformat()}]
            operation.driven_by = by
            operation.save(update_fields=["taken_over", "driven_by"])
    return operation


def undo(operation: BulkOperation, *, by: str, via: str, reason: str = "") -> BulkOperation:
    """Put on record that the operation is taken back: what of its rows still can be. Stops it, where it goes
    on. Raises KeyError for one of a kind that cannot be taken back."""
    verb = TAKEN_BACK[OperationKind(operation.kind)]
    stop(operation.pk, by)
    requested = undoable(operation).count()
    return start(verb, undoes=operation, requested=requested, by=by, via=via, reason=reason)


def undoable(operation: BulkOperation) -> QuerySet[Any]:
    """The records of what it changed that can still be taken back; none of one that nothing takes back."""
    if operation.kind == OperationKind.REQUEUE:
        waiting = NotificationEvent.objects.pending().filter(
            pk=OuterRef("notification"), leased_until__isnull=True, requeued_at=OuterRef("at")
        )
        return undoable_requeues(None).filter(Exists(waiting), operation=operation.pk)
    if operation.kind not in TAKEN_BACK:
        return Reading.objects.none()
    closed = NotificationEvent.objects.filter(pk=OuterRef("notification"), status=Status.READ)
    return Reading.objects.filter(DISMISSAL, Exists(closed), operation=operation.pk)


def stop(operation_id: int, by: str) -> None:
    """Leave the rest as it is."""
    BulkOperation.objects.filter(pk=operation_id, ended_at__isnull=True).update(
        ended_at=timezone.now(), stopped_by=by
    )


def walk(
    verb: Verb,
    filters: Filters,
    began: datetime,
    *,
    where: Q | None = None,
    fields: Sequence[str] = (),
    looks_at: int | None = None,
) -> Walk:
    """All that the verb takes and the filters mean, one status after the other, newest first.

    began  what was raised later is not looked at, but for what has no time that could be known
    where  a condition more
    fields may name `problem` (filters.with_problem)
    """
    known = Q(created_at__lte=began) | Q(created_at__gte=UNKNOWN_SINCE)
    rows = raised_within(filters, NotificationEvent.objects.filter(known))
    parts = verb.parts(rows, STORED.get(filters.status, filters.status))

    def mine(some: NotificationQuerySet) -> NotificationQuerySet:
        found = matching(filters, some.filter(where or Q(), verb.allows()))
        return with_problem(found) if fields else found

    return Walk(parts, mine, fields, looks_at=looks_at)


def _change(operation: BulkOperation, ids: Sequence[str], now: datetime | None) -> None:
    if not ids:
        return
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids)
    change = partial(_change_these, operation=operation, now=now)
    parts = in_parts(ids, change, _refused, operation.kind, pauses=())
    operation.changed += sum(part.changed for part in parts)
    skipped = sum(part.skipped for part in parts)
    if not skipped:
        return
    busy = min(skipped, rows.filter(status__in=UNDELIVERED).exclude(free(database_now())).count())
    asked = operation.kind == OperationKind.REQUEUE and not operation.renewed
    over = min(skipped - busy, renewed_among(rows.filter(requeueable())) if asked else 0)
    for why, count in ((RUNNING, busy), (RENEWED, over), (MEANWHILE, skipped - busy - over)):
        if count:
            operation.skips[why] = operation.skips.get(why, 0) + count


def _change_these(ids: Sequence[str], *, operation: BulkOperation, now: datetime | None) -> Changed:
    """One transaction within the step's, as that of the verb is: what is refused undoes no more."""
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids)
    return verb_of(operation.kind).on_batch(rows, operation, now)


def _refused(pk: str, error: Exception) -> Changed:
    """One row's fault is its own, and keeps no operation from going on."""
    logger.error("notification %s is left as it is: %s", pk, said(error))
    return Changed(0, 1)


def _next(operation: BulkOperation, now: datetime, looks_at: int | None) -> list[str]:
    """The ids of the next batch; moves the cursor past them, and ends the operation after the last."""
    verb = verb_of(operation.kind)
    if operation.undoes_id is not None:
        return _next_undone(operation, now)
    if operation.ids is not None:
        operation.ended_at = now
        rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=operation.ids)
        return list(rows.filter(verb.allows()).values_list("pk", flat=True))
    filters = of_query(operation.filters, operation.started_at)
    found, operation.cursor = walk(verb, filters, operation.started_at, looks_at=looks_at).batch(
        operation.cursor, STEP
    )
    if operation.cursor is None:
        operation.ended_at = now
    return [pk for _, pk, *_ in found]


def _next_undone(operation: BulkOperation, now: datetime) -> list[str]:
    """The same along the records of what the other operation changed."""
    undone = BulkOperation.objects.filter(pk=operation.undoes_id).first()
    [last] = operation.cursor or [0]
    records = undoable(undone).filter(pk__gt=last) if undone else Reading.objects.none()
    found = list(records.order_by("pk").values_list("pk", "notification_id")[:STEP])
    operation.cursor = [found[-1][0]] if len(found) == STEP else None
    if operation.cursor is None:
        operation.ended_at = now
    return [pk for _, pk in found]
