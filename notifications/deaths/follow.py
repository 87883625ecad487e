"""What deaths bring about, in the transaction that records them: escalations, a count for the digest, and,
once it is committed, a line in the log and a signal.

The record comes first. Whatever fails here is undone to a savepoint and said in the log, and the
notifications are dead all the same.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from .. import conf, database, signals
from ..database import database_now, free_slot, no_long_wait, said
from ..durations import bounded, is_urgent
from ..text import one_line
from .escalation import PREFIX, DeadLetter, Rows, cause, escalate, time_left
from .fingerprints import fingerprint

logger = logging.getLogger(__name__)
deaths = logging.getLogger("notifications.deaths")  # for those who want them elsewhere

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIGEST_TYPE = "DeadLetterDigest"
DIGEST = "digest:"  # of the dedup_key; what follows is the start of the interval that it is raised in
SOLVED = "solved:"  # what follows is the id of the alert that it ends
RESERVED = (PREFIX, DIGEST, SOLVED)  # what dedup_keys of the app's own begin with
LONGEST_ERROR = 200
LATEST = datetime.max.replace(tzinfo=UTC)
Kind = tuple[str, str]  # channel, error
PATIENCE = 0.5  # seconds that may be lost in trying one by one what failed together
STATEMENT = """
    INSERT INTO notification_deaths AS known (since, channel, error, notifications, tell_by, slot)
    VALUES (%s, %s, %s, %s, %s, {slot})
    ON CONFLICT (since, channel, error, slot) DO UPDATE
        SET notifications = known.notifications + excluded.notifications,
            tell_by = CASE WHEN known.tell_by < excluded.tell_by THEN known.tell_by
                           ELSE COALESCE(excluded.tell_by, known.tell_by) END
"""


def follow(rows: Rows, ids: Collection[str], *, now: datetime | None = None) -> None:
    """What the settings want of the deaths of these notifications, which are among `rows`.

    Call it in their transaction, after they are written.

    Raises nothing but what has ended the transaction anyway.
    """
    if not ids:
        return
    signals.tell_of(signals.died, rows, ids)
    try:
        settings = conf.current()
    except ImproperlyConfigured as error:
        logger.error("notifications %s died, and nothing follows: %s", ", ".join(sorted(ids)), error)
        return
    if deaths.isEnabledFor(logging.ERROR) and (fault := _attempted(partial(_name, rows, ids, settings, now))):
        logger.error("%d deaths are not named in the log: %s", len(ids), said(fault))
    if settings.escalation:
        _escalate(rows, sorted(ids), settings, now)
    if settings.digest:
        work = partial(_count, rows, ids, settings, settings.digest.interval, now)
        if (fault := _attempted(work)) is not None:
            logger.error("%d deaths will be missing in the digest: %s", len(ids), said(fault))


def _name(rows: Rows, ids: Collection[str], settings: conf.Conf, now: datetime | None) -> None:
    """One line for each, of what is certain: what is undone died of nothing."""
    now = now or database_now()
    named = [(_facts(event, settings), time_left(event, now)) for event in _dead(rows, ids)]

    def name() -> None:
        for facts, left in named:
            pk, channel, error = (one_line(facts[each]) for each in ("notification", "channel", "error"))
            deaths.error("notification %s died on %s: %s", pk, channel, error + left, extra=facts)

    transaction.on_commit(name, using=database.alias(), robust=True)


def _facts(event: DeadLetter, settings: conf.Conf) -> dict[str, Any]:
    """For log records, whose readers tell by the fingerprint what died alike."""
    channel, error = settings.channel(event.channel) or event.channel, cause(event, settings)
    return {
        "notification": event.pk,
        "channel": channel,
        "type": event.type,
        "error": error,
        "fingerprint": ["notification died", channel, fingerprint(error)[:LONGEST_ERROR]],
    }


def interval_start(at: datetime, interval: timedelta) -> datetime:
    """The beginning of the interval that this time is in: all hosts agree on it."""
    return EPOCH + (at - EPOCH) // interval * interval


def _escalate(rows: Rows, ids: Sequence[str], settings: conf.Conf, now: datetime | None) -> None:
    """All together, or, where one of them is at fault, each by itself."""
    error = _attempted(partial(_escalate_batch, rows, ids, settings, now))
    if error is None:
        return
    wasted = 0.0
    for pk in ids:
        fault: Exception | None = error
        if len(ids) > 1 and wasted < PATIENCE:
            start = time.monotonic()
            fault = _attempted(partial(_escalate_batch, rows, [pk], settings, now))
            wasted += time.monotonic() - start if fault else 0.0
        if fault is not None:
            logger.error("notification %s died, and it was not escalated: %s", pk, said(fault))


def _escalate_batch(rows: Rows, ids: Sequence[str], settings: conf.Conf, now: datetime | None) -> None:
    with no_long_wait():
        ended = escalate(rows, _dead(rows, ids), settings, now=now or database_now())
    for pk in ended:
        logger.warning("notification %s died, and its alert has died on its fallback before", pk)


def _count(
    rows: Rows, ids: Collection[str], settings: conf.Conf, interval: timedelta, now: datetime | None
) -> None:
    now, counted, tell_by = now or database_now(), Counter[Kind](), dict[Kind, datetime]()
    for event in _dead(rows, ids):
        if event.type == DIGEST_TYPE:  # one that dies, escalated or not, must not make the next one
            continue
        error = fingerprint(cause(event, settings))[:LONGEST_ERROR]
        kind = (settings.channel(event.channel) or event.channel, error)
        counted[kind] += 1
        if event.not_after:
            tell_by[kind] = min(tell_by.get(kind, LATEST), _told_by(event.not_after, interval, now))
    connection = database.connection()
    adapt = connection.ops.adapt_datetimefield_value
    since, statement = adapt(interval_start(now, interval)), STATEMENT.format(slot=free_slot())
    with connection.cursor() as cursor:
        for (channel, error), number in sorted(counted.items()):
            by = adapt(tell_by[channel, error]) if (channel, error) in tell_by else None
            cursor.execute(statement, [since, channel, error, number, by])


def _told_by(ends: datetime, interval: timedelta, now: datetime) -> datetime:
    """Of a certificate that ends soon at once, of the others within a share of the time that is left."""
    return now if is_urgent(ends, now) else now + bounded(interval, ends, now)


def _dead(rows: Rows, ids: Collection[str]) -> list[DeadLetter]:
    return list(rows.dead().filter(pk__in=ids).with_ends().defer("message").order_by("pk"))


def _attempted(work: Callable[[], object]) -> Exception | None:
    """Do it in a savepoint; what went wrong, if it did and the transaction is as it was before."""
    try:
        with database.atomic():
            work()
    except Exception as error:
        if database.connection().needs_rollback:
            raise  # else the commit would be a rollback that nobody hears of
        return error
    return None
