"""What deaths bring about, in the transaction that records them: escalations, a count for the digest, and,
once it is committed, a line in the log and a signal.

The record comes first. Whatever fails here is undone to a savepoint and said in the log, and the
notifications are dead all the same.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from .. import conf, database, signals
from ..database import database_now, free_slot, said
from ..text import one_line
from .escalation import PREFIX, DeadLetter, Rows, cause, escalate
from .fingerprints import fingerprint

logger = logging.getLogger(__name__)
deaths = logging.getLogger("notifications.deaths")  # for those who want them elsewhere

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIGEST_TYPE = "DeadLetterDigest"
DIGEST = "digest:"  # of the dedup_key; what follows is the start of the interval that it is raised in
RESERVED = (PREFIX, DIGEST)  # what dedup_keys of the app's own begin with
LONGEST_ERROR = 200
PATIENCE = 0.5  # seconds that may be lost in trying one by one what failed together
LOCK_PATIENCE = "100ms"
STATEMENT = """
    INSERT INTO notification_deaths (since, channel, error, notifications, slot)
    VALUES (%s, %s, %s, %s, {slot})
    ON CONFLICT (since, channel, error, slot) DO UPDATE
        SET notifications = notification_deaths.notifications + excluded.notifications
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
    if deaths.isEnabledFor(logging.ERROR) and (fault := _attempted(partial(_name, rows, ids, settings))):
        logger.error("%d deaths are not named in the log: %s", len(ids), said(fault))
    if settings.escalation:
        _escalate(rows, sorted(ids), settings, now)
    if settings.digest:
        work = partial(_count, rows, ids, settings, settings.digest.interval, now)
        if (fault := _attempted(work)) is not None:
            logger.error("%d deaths will be missing in the digest: %s", len(ids), said(fault))


def _name(rows: Rows, ids: Collection[str], settings: conf.Conf) -> None:
    """One line for each, of what is certain: what is undone died of nothing."""
    named = [_facts(event, settings) for event in _dead(rows, ids)]

    def name() -> None:
        for facts in named:
            what = (one_line(facts[each]) for each in ("notification", "channel", "error"))
            deaths.error("notification %s died on %s: %s", *what, extra=facts)

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
    with _no_long_wait():
        ended = escalate(rows, _dead(rows, ids), settings, now=now or database_now())
    for pk in ended:
        logger.warning("notification %s died, and its alert has died on its fallback before", pk)


@contextmanager
def _no_long_wait() -> Iterator[None]:
    """Who deletes a certificate waits for the notification that we hold, and we would wait for the
    certificate: we give up before PostgreSQL, after a second, ends one of us."""
    if not database.is_postgresql():
        yield
        return
    with database.connection().cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        [before] = cursor.fetchone()
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_PATIENCE])
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _count(
    rows: Rows, ids: Collection[str], settings: conf.Conf, interval: timedelta, now: datetime | None
) -> None:
    counted = Counter(
        (
            settings.channel(event.channel) or event.channel,
            fingerprint(cause(event, settings))[:LONGEST_ERROR],
        )
        for event in _dead(rows, ids)
        if event.type != DIGEST_TYPE  # a digest that dies, escalated or not, must not make the next one
    )
    connection = database.connection()
    since = interval_start(now or database_now(), interval)
    at = connection.ops.adapt_datetimefield_value(since)
    statement = STATEMENT.format(slot=free_slot())
    with connection.cursor() as cursor:
        for (channel, error), number in sorted(counted.items()):
            cursor.execute(statement, [at, channel, error, number])


def _dead(rows: Rows, ids: Collection[str]) -> list[DeadLetter]:
    return list(rows.dead().filter(pk__in=ids).defer("message").order_by("pk"))


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
