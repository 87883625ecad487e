"""Raising alerts: one, or many at once; each once, where it has a dedup_key."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypedDict

from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError

from .. import database
from ..database import carried, dump, said
from ..deaths.follow import RESERVED
from ..notifiers import tracing
from ..notifiers.usable import Doubts
from .history import Deadline, Trace

logger = logging.getLogger(__name__)

MOST_ROWS, MOST_CHARACTERS = 1_000, 4 * 1024 * 1024  # in one statement
MOST_FAULTS = 100  # that one error names
OUTBOXES: list[list[Any]] = []  # of tests: notifications.testing
Rows = Any  # an EventQuerySet, which knows us


class Needed(TypedDict):
    type: str
    channel: str
    recipient: str
    message: str


class Alert(Needed, total=False):
    """What `notify` takes, as one of many."""

    certificate_id: str | None
    dedup_key: str | None
    not_after: datetime | None
    fingerprints: Sequence[str]


NEEDED = ("type", "channel", "recipient", "message")
FIELDS = (*NEEDED, "certificate_id", "dedup_key")
OF_CERTIFICATES = ("not_after", "fingerprints")  # kept beside the event: Deadline
KNOWN = (*FIELDS, *OF_CERTIFICATES)
MOST_FINGERPRINTS = 1_000  # of the certificates of one alert
COLUMNS = (*((name, "text") for name in ("id", *FIELDS)), ("created_at", "timestamptz"))
NAMES = ", ".join(name for name, _ in COLUMNS)
# As a model's INSERT has it. `WHERE true` is for SQLite, which would take ON for a join's.
RAISE = f"""
    INSERT INTO notification_events ({NAMES}, status, retry_count, ours)
    SELECT {NAMES}, 'pending', 0, true FROM {{}} WHERE true
        ON CONFLICT (dedup_key) WHERE dedup_key IS NOT NULL DO NOTHING
    RETURNING id
"""  # noqa: S608  (constants only)


def made(
    model: Any,
    *,
    type: str,
    channel: str,
    recipient: str,
    message: str,
    certificate_id: str | None = None,
    dedup_key: str | None = None,
    not_after: datetime | None = None,
    fingerprints: Sequence[str] = (),
) -> Any:
    """The event, not written yet, with its Deadline where it has one. Raises ValidationError for what the
    table cannot hold, and for keys of the app's own."""
    if dedup_key and dedup_key.startswith(RESERVED):
        raise ValidationError(
            {"dedup_key": f"Keys that begin with {' or '.join(RESERVED)} are the app's own."}
        )
    event = model(
        type=type,
        channel=channel,
        recipient=recipient,
        message=message,
        certificate_id=certificate_id or None,
        dedup_key=dedup_key or None,
    )
    event.full_clean(exclude=_not_given(model), validate_unique=False, validate_constraints=False)
    event.deadline = _deadline(event, not_after, fingerprints) if not_after is not None else None
    event.not_after = event.deadline and event.deadline.not_after
    return event


def _deadline(event: Any, not_after: datetime, fingerprints: Sequence[str]) -> Deadline:
    """Raises ValidationError for what is no time."""
    try:
        at = not_after.astimezone(UTC) if not_after.tzinfo else None
    except (AttributeError, OverflowError):
        at = None
    if at is None:
        raise ValidationError({"not_after": "This is a time with a time zone, such as 2026-12-24T10:00:00Z."})
    return Deadline(notification=event, not_after=at, fingerprints=sorted(fingerprints)[:MOST_FINGERPRINTS])


@cache
def _not_given(model: Any) -> frozenset[str]:
    """What has its default, which needs no look."""
    return frozenset(field.name for field in model._meta.fields) - frozenset(FIELDS)


def raise_one(rows: Rows, event: Any) -> tuple[Any, bool]:
    """(the event, True), or the one that has its key already, and False."""
    warnings = Doubts().about(event.channel, event.recipient)
    try:
        with database.atomic():
            event.save(using=database.alias(), force_insert=True)
            _keep_deadlines([event])
            _trace([event])
    except IntegrityError:
        first = rows.filter(dedup_key=event.dedup_key).first() if event.dedup_key else None
        if first is None:
            raise
        first.warnings = warnings
        return first, False
    event.warnings = warnings
    _tell([event])
    return event, True


def raise_many(rows: Rows, alerts: Iterable[Alert]) -> list[tuple[Any, bool]]:
    """(event, whether it is new) of each, in their order; all of them in one transaction, or none."""
    events = _made(rows.model, alerts)
    doubts = Doubts()
    once = {event.dedup_key or event.pk: event for event in reversed(events)}  # the first of each key
    with database.atomic():
        # Two that raise the same at once wait for each other in this order, so neither waits for ever.
        for batch in _batches(sorted(once.values(), key=lambda event: event.dedup_key or "")):
            once |= _written(rows, batch)
        answered = [once[event.dedup_key or event.pk] for event in events]
        new = [event for event, there in zip(events, answered, strict=True) if event is there]
        _keep_deadlines(new)
        _trace(new)
    for event, there in zip(events, answered, strict=True):
        there.warnings = doubts.about(event.channel, event.recipient)
    _tell(new)
    return [(there, event is there) for event, there in zip(events, answered, strict=True)]


def _made(model: Any, alerts: Iterable[Alert]) -> list[Any]:
    """Raises ValidationError, which names place and field: "3.recipient" is the fourth alert's."""
    events, faults = list[Any](), dict[str, list[str]]()
    for place, alert in enumerate(alerts):
        try:
            events.append(made(model, **_named(place, alert)))
        except ValidationError as error:
            faults |= {f"{place}.{field}": texts for field, texts in error.message_dict.items()}
            if len(faults) >= MOST_FAULTS:
                break
    if faults:
        raise ValidationError(faults)
    return events


def _named(place: int, alert: Mapping[str, Any]) -> Any:
    """Raises TypeError, as a call of `notify` would, for what is missing and what is not known."""
    if fault := names_fault(alert):
        raise TypeError(f"alert {place} {fault}")
    return alert


def names_fault(alert: Mapping[str, Any]) -> str:
    """What is missing or not known among its names, in words that follow its own; "" for nothing."""
    if missing := [name for name in NEEDED if name not in alert]:
        return f"has no {', '.join(missing)}"
    odd = [repr(name) for name in alert if name not in KNOWN]
    return f"has {', '.join(odd)}, which is none of {', '.join(KNOWN)}" if odd else ""


def _batches(events: Iterable[Any]) -> Iterator[list[Any]]:
    batch, size = list[Any](), 0
    for event in events:
        size += len(event.message)
        if batch and (len(batch) >= MOST_ROWS or size > MOST_CHARACTERS):
            yield batch
            batch, size = [], len(event.message)
        batch.append(event)
    if batch:
        yield batch


def _written(rows: Rows, batch: Sequence[Any]) -> dict[str, Any]:
    """What was in the table before us, by its key."""
    new = _inserted(batch)
    for event in batch:
        event._state.adding, event._state.db = False, database.alias()
    left = {event.dedup_key: event for event in batch if event.pk not in new}
    before = {event.dedup_key: event for event in rows.filter(dedup_key__in=list(left))} if left else {}
    if gone := [event for key, event in left.items() if key not in before]:
        before |= _written(rows, gone)  # what had their keys was deleted meanwhile
    return before


def _inserted(batch: Sequence[Any]) -> set[str]:
    """The ids of those whose keys were free. A bulk_create takes three times as long."""
    connection = database.connection()
    adapt = connection.ops.adapt_datetimefield_value
    carry = dump(
        {name: getattr(event, name) for name in FIELDS}
        | {"id": event.pk, "created_at": adapt(event.created_at)}
        for event in batch
    )
    with connection.cursor() as cursor:
        cursor.execute(RAISE.format(carried(*COLUMNS)), [carry])
        return {pk for (pk,) in cursor.fetchall()}


def _keep_deadlines(events: Sequence[Any]) -> None:
    if deadlines := [event.deadline for event in events if event.deadline]:
        Deadline.objects.bulk_create(deadlines, batch_size=MOST_ROWS)


def _trace(events: Sequence[Any]) -> None:
    """In which span they are raised. Whatever is wrong with that, they are raised."""
    context = tracing.here()
    if not (context and events):
        return
    try:
        with database.atomic():
            Trace.objects.bulk_create(Trace(notification=event, context=context) for event in events)
    except DatabaseError as error:
        logger.warning(
            "the span in which %d notifications are raised is not kept: %s", len(events), said(error)
        )


def _tell(events: Sequence[Any]) -> None:
    """The log, of what may not be delivered: a line for each reason; and a test's outbox."""
    warned = defaultdict[str, list[str]](list)
    for event in events:
        for warning in event.warnings:
            warned[warning].append(event.pk)
    for warning, ids in warned.items():
        which = f"notification {ids[0]} is" if len(ids) == 1 else f"{len(ids)} notifications are"
        logger.warning("%s raised, but %s", which, warning)
    for outbox in OUTBOXES:
        outbox.extend(events)
