"""What became of what an operation changed, and who else changed many a moment ago."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Q

from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, Reading, Requeue, Status
from .filters import DISMISSED, SEEN, WITHDRAWN, changed_by, decisions_of, of_status
from .survey import COUNTED, capped

KINDS = (Status.SENT, Status.PENDING, Status.FAILED, Status.DEAD, DISMISSED, SEEN, WITHDRAWN)
OTHERS = 5


def became(operation: BulkOperation) -> dict[str, int]:
    """How many of what it changed are in which state now, each counted up to survey.COUNTED; the empty ones
    left out."""
    mine: NotificationQuerySet = NotificationEvent.objects.filter(changed_by(operation))
    counts = {str(kind): capped(of_status(mine, kind)) for kind in KINDS}
    return {kind: count for kind, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did to `count` notifications. these: they are among those that were asked about."""

    by: str
    kind: str
    count: int
    at: datetime
    operation: int | None = None
    these: bool = False


def undone(operation: BulkOperation) -> list[Deed]:
    """Who took back how many of what it changed, the newest first; COUNTED + 1 together when there are more.

    Nothing of one that takes back itself.
    """
    if operation.undoes_id is not None:
        return []
    records = decisions_of(operation).filter(undone_at__isnull=False)
    some = records.model.objects.filter(pk__in=records.order_by("pk").values("pk")[: COUNTED + 1])
    found = (
        some.order_by().values_list("undone_by", "undo").annotate(count=Count("pk"), last=Max("undone_at"))
    )
    deeds = [Deed(by, operation.kind, count, at, number) for by, number, count, at in found]
    return sorted(deeds, key=lambda deed: deed.at, reverse=True)


def undone_apart(operations: Iterable[BulkOperation], but: Collection[int]) -> dict[int, int]:
    """By operation, how much of what it changed was taken back: row by row, or by any other than `but`."""
    found, mine = Counter[int](), [operation.pk for operation in operations]
    for model in (Requeue, Reading):
        rows: Any = model.objects.filter(operation__in=mine, undone_at__isnull=False)
        kinds = rows.order_by().values_list("operation", "undo").annotate(count=Count("pk"))
        for operation, undo, count in kinds:
            found[operation] += 0 if undo in but else count
    return dict(found)


def done_since(
    since: datetime, *, ids: Sequence[str] | None, but: int | None, until: datetime | None = None
) -> list[Deed]:
    """What was done to many since then, the newest first; where ids are known, to just these.

    but    an operation that is left out
    until  what was begun later is left out, too
    """
    if ids is not None:
        return _done_to(ids, since, but, until)
    begun = Q(started_at__lte=until) if until else Q()
    recent = BulkOperation.objects.filter(begun, changed__gt=0).exclude(pk=but or 0)
    recent = recent.filter(Q(ended_at__gte=since) | Q(stepped_at__gte=since) | Q(started_at__gte=since))
    found: list[BulkOperation] = list(recent.defer("ids").order_by("-pk")[:OTHERS])
    return [Deed(o.by, o.kind, o.changed, o.stepped_at or o.started_at, o.pk) for o in found]


def _done_to(ids: Sequence[str], since: datetime, but: int | None, until: datetime | None) -> list[Deed]:
    within = Q(at__gte=since) & (Q(at__lte=until) if until else Q())
    found: Counter[tuple[str, str, int | None]] = Counter()
    last: dict[tuple[str, str, int | None], datetime] = {}
    for model in (Requeue, Reading):
        rows: Any = model.objects.filter(within, notification__in=ids)
        for by, status, operation, at in rows.values_list("by", "status", "operation", "at"):
            if but is not None and operation == but:
                continue
            key = (by, _kind(model, status), operation)
            found[key] += 1
            last[key] = max(at, last.get(key, at))
    newest = sorted(found, key=lambda key: last[key], reverse=True)[:OTHERS]
    return [Deed(by, kind, found[k], last[k], number, True) for k in newest for by, kind, number in [k]]


def _kind(model: Any, status: str) -> str:
    if model is Requeue:
        return "requeue"
    return "dismiss" if status == Status.DEAD else "see"
