"""What deaths bring about, in the transaction that records them: escalations, and a count for the digest.

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

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from . import conf
from .escalation import cause, escalate
from .fingerprints import fingerprint
from .models import NotificationEvent, Status
from .queryset import database_now

logger = logging.getLogger(__name__)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIGEST_TYPE = "DeadLetterDigest"
LONGEST_ERROR = 200
PATIENCE = 0.5  # seconds that may be lost in trying one by one what failed together
LOCK_PATIENCE = "100ms"
STATEMENT = """
    INSERT INTO notification_deaths (since, channel, error, notifications) VALUES (%s, %s, %s, %s)
    ON CONFLICT (since, channel, error) DO UPDATE
        SET notifications = notification_deaths.notifications + excluded.notifications
"""


def follow(ids: Collection[str], *, using: str, now: datetime | None = None) -> None:
    """What the settings want of these deaths. Call it in their transaction, after they are written.

    Raises nothing but what has ended the transaction anyway.
    """
    if not ids:
        return
    try:
        settings = conf.current()
    except ImproperlyConfigured as error:
        logger.error("notifications %s died, and nothing follows: %s", ", ".join(sorted(ids)), error)
        return
    if settings.escalation:
        _escalate(sorted(ids), settings, now, using)
    if settings.digest:
        work = partial(_count, ids, settings, settings.digest.interval, now, using)
        if (fault := _attempted(work, using)) is not None:
            logger.error("%d deaths will be missing in the digest: %s", len(ids), _first_line(fault))


def interval_start(at: datetime, interval: timedelta) -> datetime:
    """The beginning of the interval that this time is in: all hosts agree on it."""
    return EPOCH + (at - EPOCH) // interval * interval


def _escalate(ids: Sequence[str], settings: conf.Conf, now: datetime | None, using: str) -> None:
    """All together, or, where one of them is at fault, each by itself."""
    error = _attempted(partial(_escalate_batch, ids, settings, now, using), using)
    if error is None:
        return
    wasted = 0.0
    for pk in ids:
        fault: Exception | None = error
        if len(ids) > 1 and wasted < PATIENCE:
            start = time.monotonic()
            fault = _attempted(partial(_escalate_batch, [pk], settings, now, using), using)
            wasted += time.monotonic() - start if fault else 0.0
        if fault is not None:
            logger.error("notification %s died, and it was not escalated: %s", pk, _first_line(fault))


def _escalate_batch(ids: Sequence[str], settings: conf.Conf, now: datetime | None, using: str) -> None:
    with _no_long_wait(using):
        ended = escalate(_dead(ids, using), settings, now=now or database_now(using), using=using)
    for pk in ended:
        logger.warning("notification %s died, and its alert has died on its fallback before", pk)


@contextmanager
def _no_long_wait(using: str) -> Iterator[None]:
    """Who deletes a certificate waits for the notification that we hold, and we would wait for the
    certificate: we give up before PostgreSQL, after a second, ends one of us."""
    if connections[using].vendor != "postgresql":
        yield
        return
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        [before] = cursor.fetchone()
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_PATIENCE])
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def _count(
    ids: Collection[str], settings: conf.Conf, interval: timedelta, now: datetime | None, using: str
) -> None:
    """The last in the transaction but for the tallies: all workers meet at these rows, in one order."""
    counted = Counter(
        (
            settings.channel(event.channel) or event.channel,
            fingerprint(cause(event, settings))[:LONGEST_ERROR],
        )
        for event in _dead(ids, using)
        if event.type != DIGEST_TYPE  # a digest that dies, escalated or not, must not make the next one
    )
    connection = connections[using]
    since = interval_start(now or database_now(using), interval)
    at = connection.ops.adapt_datetimefield_value(since)
    with connection.cursor() as cursor:
        for (channel, error), number in sorted(counted.items()):
            cursor.execute(STATEMENT, [at, channel, error, number])


def _dead(ids: Collection[str], using: str) -> list[NotificationEvent]:
    rows = NotificationEvent.objects.using(using).filter(pk__in=ids, status=Status.DEAD)
    return list(rows.defer("message").order_by("pk"))


def _attempted(work: Callable[[], object], using: str) -> Exception | None:
    """Do it in a savepoint; what went wrong, if it did and the transaction is as it was before."""
    try:
        with transaction.atomic(using=using):
            work()
    except Exception as error:
        if connections[using].needs_rollback:
            raise  # else the commit would be a rollback that nobody hears of
        return error
    return None


def _first_line(error: Exception) -> str:
    """What follows in a database's error can quote the row."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
