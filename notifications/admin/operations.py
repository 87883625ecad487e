"""A verb on many notifications, a bounded batch at a time, with one record of the whole.

Whoever watches the progress page drives it: every step is one short transaction, which moves the cursor
and changes the rows together, so that it can be left and gone on with at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest
from django.utils import timezone

from ..database import database_now
from ..models import BulkOperation, NotificationEvent, NotificationQuerySet
from ..models.fields import UNDELIVERED
from ..models.queryset import free
from .narrowing import COUNTED, many
from .verbs import Verb, verb_of
from .walking import Walk

STEP = 500  # notifications that one step changes
RUNNING, MEANWHILE = "attempt running", "changed in the meantime"


def start(
    request: HttpRequest,
    verb: Verb,
    *,
    ids: Sequence[str] | None,
    requested: int,
    at_least: bool,
    refused: dict[str, int],
) -> BulkOperation:
    """Put the decision on record; nothing is changed yet. ids None: all that the list's filters mean."""
    operation: BulkOperation = BulkOperation.objects.create(
        kind=verb.kind,
        filters="" if ids is not None else request.META.get("QUERY_STRING", ""),
        ids=None if ids is None else list(ids),
        reason=request.POST.get("reason", "").replace("\x00", "").strip(),
        by=request.user.get_username(),
        via="admin",
        requested=requested,
        at_least=at_least,
        skips={why: count for why, count in refused.items() if why != RUNNING},
        started_at=timezone.now(),
    )
    return operation


def step(operation_id: int) -> BulkOperation:
    """Do the next batch, if there is one. Two browsers that drive one operation take turns."""
    with transaction.atomic():
        found = BulkOperation.objects.all()
        if connections[found.db].features.has_select_for_update:
            found = found.select_for_update()
        operation: BulkOperation = found.get(pk=operation_id)
        if operation.ended_at is None:
            _change(operation, verb_of(operation.kind), _next(operation))
            operation.save()
    return operation


def stop(operation_id: int, by: str) -> None:
    """Leave the rest as it is."""
    BulkOperation.objects.filter(pk=operation_id, ended_at__isnull=True).update(
        ended_at=timezone.now(), stopped_by=by
    )


def _change(operation: BulkOperation, verb: Verb, ids: Sequence[str]) -> None:
    if not ids:
        return
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=ids)
    busy = rows.filter(status__in=UNDELIVERED).exclude(free(database_now())).count()
    changed, skipped = verb.on_rows(rows, operation)
    operation.changed += changed
    for why, count in ((RUNNING, min(busy, skipped)), (MEANWHILE, max(0, skipped - busy))):
        if count:
            operation.skips[why] = operation.skips.get(why, 0) + count


def _next(operation: BulkOperation) -> list[str]:
    """The ids of the next batch; moves the cursor past them, and ends the operation after the last."""
    verb = verb_of(operation.kind)
    if operation.ids is not None:
        operation.ended_at = timezone.now()
        rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=operation.ids)
        return list(rows.filter(status__in=verb.statuses).values_list("pk", flat=True))
    walk = Walk(verb, operation.filters, operation.started_at)
    found, operation.cursor = walk.batch(operation.cursor, STEP)
    if operation.cursor is None:
        operation.ended_at = timezone.now()
    return [row.pk for row in found]


# In words


def counted(count: int) -> str:
    return "1 notification" if count == 1 else f"{count:,} notifications"


def skipped(operation: BulkOperation) -> int:
    return sum(operation.skips.values())


def because(skips: dict[str, int]) -> str:
    """Why how many were left as they are: `1 attempt running, 10,000+ sent`."""
    return ", ".join(f"{many(count, COUNTED)} {why}" for why, count in sorted(skips.items()))


def rule(verb: Verb) -> str:
    return f"{verb.label.lower()} takes {' and '.join(verb.statuses)} notifications only"


def told(operation: BulkOperation) -> str:
    """What was done, in one honest sentence or two."""
    verb = verb_of(operation.kind)
    text = f"{verb.done}: {counted(operation.changed)}."
    if operation.skips:
        text += f" Skipped {many(skipped(operation))} ({because(operation.skips)}): {rule(verb)}."
    if operation.stopped_by:
        text += f" Stopped by {operation.stopped_by}."
    return text


def scope(operation: BulkOperation) -> str:
    if operation.ids is not None:
        return "selected rows"
    return f"all that match “{operation.filters}”" if operation.filters else "all notifications"


def progress(operation: BulkOperation) -> dict[str, Any]:
    """For the progress page and its script."""
    done = operation.changed + sum(operation.skips.get(why, 0) for why in (RUNNING, MEANWHILE))
    finished = operation.ended_at is not None and not operation.stopped_by
    return {
        "ended": operation.ended_at is not None,
        "changed": operation.changed,
        "done": done,
        "most": done if finished else max(operation.requested, done, 1),
        "at_least": operation.at_least,
        "told": told(operation),
    }
