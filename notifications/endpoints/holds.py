"""Endpoints that nobody sends to for now, shared by all workers through notification_holds.

Rows of a held endpoint wait without spending attempts. When a hold runs out, one worker takes the
probe: one attempt, which costs its row nothing when it fails, that decides whether the endpoint is open
again or held for longer. Once open, its backlog flows at a bounded rate for a while. An endpoint that has
been held for longer than HOLD_LIMIT is past its limit: its rows spend their attempts again. A pause is an
operator's hold: it just ends. What the states mean, and what leads from one to another: breaker.py.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from django.db.models import Case, F, Q, When

from .. import database, signals
from ..conf import Conf
from ..database import carried, database_now, dump, said, wake_workers
from ..durations import SHORTEST, bounded, exact_duration
from ..exceptions import TransientError
from ..models import Hold, NotificationEvent, Outage
from ..models.conditions import ends
from ..models.fields import UNDELIVERED
from ..notifiers.endpoint import going_to
from ..queue.batch import in_parts
from ..text import fold, isolated, one_line, tidy
from . import outages
from .breaker import Change, Learned, OnRecord, Records, State
from .outages import endpoint_of

logger = logging.getLogger(__name__)

FORGOTTEN = timedelta(days=1)  # a hold whose end is this long past had nothing to send since
RECOVERY = timedelta(minutes=10)  # that an endpoint's backlog flows at a bounded rate
LONGEST = 255  # a recipient
TOO_LONG = f"a recipient is at most {LONGEST} characters long"
PAUSED = "paused"  # the reason of an operator's hold
MOST_HURRIED = 1_000  # holds and notifications that a sweep looks at, to end the ones for the others
MOST_PROBES = 200  # that one sweep takes, so that others have some and each is made in time
TAKE_PROBES = """
    UPDATE notification_holds SET until = %s
     WHERE id IN (SELECT id FROM notification_holds
                   WHERE until <= %s AND reason <> %s AND reopened_at IS NULL ORDER BY until LIMIT %s)
       AND until <= %s
    RETURNING id
"""
COLUMNS = (
    *outages.ENDPOINT_AND_ERROR,
    ("until", "timestamptz"),
    ("failures", "integer"),
)
HOLD = """
    INSERT INTO notification_holds AS known (since, {names}, "by")
    SELECT %s, {names}, '' FROM {rows} WHERE endpoint IS NOT NULL
        ON CONFLICT (endpoint, channel, recipient_prefix)
        DO UPDATE SET reason = excluded.reason, error = excluded.error, exact = excluded.exact,
                      until = excluded.until, failures = excluded.failures, reopened_at = NULL,
                      since = CASE WHEN known.reopened_at IS NULL THEN known.since ELSE excluded.since END
"""
FAILED = {Learned.HELD: Learned.FAILS}  # both are written in one go


def read(*, now: datetime, probe_for: timedelta | None, limit: timedelta) -> Records:
    """All holds, and all endpoints that fail. Holds that have run out are taken for a probe of at most
    `probe_for`, by one worker each; where that is None they count as over, and whoever gets the rows takes
    the probe."""
    rows = Hold.objects.all()
    simply_end = Q(reason=PAUSED) | Q(reopened_at__isnull=False)
    rows.filter(Q(until__lt=now - FORGOTTEN) | simply_end & Q(until__lte=now)).delete()
    taken = _take_probes(now, now + probe_for) if probe_for else set()
    if probe_for is None:
        rows = rows.exclude(until__lte=now)
    held = [_on_record(hold, now, limit, hold.pk in taken) for hold in rows]
    return Records(held, outages.ongoing(now=now))


def read_endpoints(settings: Conf, now: datetime, probes: bool = True) -> Records:
    """probes: whether the reader makes the probes itself."""
    return read(now=now, probe_for=settings.lease if probes else None, limit=settings.hold_limit)


def hurry(now: datetime) -> None:
    """Let holds end sooner behind which something waits that has little time left: the probe comes sooner,
    and nothing passes the hold. A pause is an operator's, and stands."""
    long = Hold.objects.filter(until__gt=now + SHORTEST, reopened_at__isnull=True).exclude(reason=PAUSED)
    if not (holds := list(long.order_by("pk")[:MOST_HURRIED])):
        return
    waiting = NotificationEvent.objects.filter(status__in=UNDELIVERED).urgent(now)
    rows = list(waiting.values_list("channel", "recipient", ends())[:MOST_HURRIED])
    for hold in holds:
        covers = endpoint_of(hold).covers
        waits = [bounded(hold.until - now, at, now) for *to, at in rows if covers(*to)]
        if waits and (until := now + min(waits)) < hold.until:
            Hold.objects.filter(pk=hold.pk, until=hold.until).update(until=until)


def _take_probes(now: datetime, ends: datetime) -> set[int]:
    """Of two workers that see the same hold run out, one moves its end, and the probe is its own."""
    adapt = database.connection().ops.adapt_datetimefield_value
    with database.connection().cursor() as cursor:
        cursor.execute(TAKE_PROBES, [adapt(ends), adapt(now), PAUSED, MOST_PROBES, adapt(now)])
        return {pk for (pk,) in cursor.fetchall()}


def _on_record(hold: Hold, now: datetime, limit: timedelta, taken: bool) -> OnRecord:
    state = state_of(hold, now, limit)
    return OnRecord(
        endpoint_of(hold),
        state,
        times=hold.times,
        ours=taken and state == State.HELD,
        paused=hold.reason == PAUSED,
        until=hold.until,
        error=hold.error,
    )


def state_of(hold: Hold, now: datetime, limit: timedelta) -> State:
    """What the table says of the endpoint; that somebody probes it is for the prober to know."""
    if hold.reopened_at is not None:
        return State.RECOVERING
    if hold.reason != PAUSED and now - hold.since > limit:
        return State.PAST_LIMIT
    return State.HELD


def write(changes: Sequence[Change], *, now: datetime) -> None:
    """Write what a sweep learned: endpoints that fail, that are held or deliver again, unused probes.

    All of it or nothing, so that no death is counted twice; but for what the database refuses of one.
    """
    in_parts(changes, partial(_write, now=now), partial(_write_plainly, now=now), "writing holds")


def _write(changes: Sequence[Change], *, now: datetime) -> None:
    with database.atomic():
        for what, group in groupby(changes, lambda change: FAILED.get(change.what, change.what)):
            alike = list(group)
            keys = [change.endpoint.key for change in alike]
            if what == Learned.DELIVERS:
                reopen(Q(endpoint__in=keys), now=now)
            elif what == Learned.PROBE_UNUSED:
                Hold.objects.filter(endpoint__in=keys, reopened_at__isnull=True).update(until=now)
            else:
                outages.note(alike, now=now)
                _hold([change for change in alike if change.what == Learned.HELD], now)


def _write_plainly(change: Change, error: Exception, *, now: datetime) -> None:
    """The provider's words in what every database keeps: its encoding can be another than UTF-8."""
    key = one_line(change.endpoint.key)
    if change.error is not None and not str(change.error).isascii():
        words = str(change.error).encode("ascii", "replace").decode()
        plain = replace(change, error=TransientError(words, reason=change.error.reason))
        in_parts([plain], partial(_write, now=now), partial(_write_plainly, now=now), "writing holds")
    else:
        logger.error("not on record, of the endpoint %s: %s: %s", key, change.what, said(error))


def _hold(changes: Sequence[Change], now: datetime) -> None:
    """One that had delivered meanwhile is held anew."""
    adapt = database.connection().ops.adapt_datetimefield_value
    rows = {
        outages.name(change.endpoint): outages.which(change.endpoint)
        | outages.said(change.error)
        | {"until": adapt(now + timedelta(seconds=change.seconds)), "failures": change.times}
        for change in changes
        if change.error is not None
    }
    _tell(changes, now)
    names, at = ", ".join(name for name, _ in COLUMNS), adapt(now)
    with database.connection().cursor() as cursor:
        cursor.execute(HOLD.format(names=names, rows=carried(*COLUMNS)), [at, dump(rows.values())])


def _tell(changes: Sequence[Change], now: datetime) -> None:
    """Of those that were not held before: a probe that failed is no news."""
    if not signals.held.receivers:
        return
    rows = Hold.objects.filter(reopened_at__isnull=True).exclude(reason=PAUSED)
    before = set(rows.values_list("endpoint", "channel", "recipient_prefix"))
    found = {outages.name(change.endpoint): change for change in changes}
    news = [
        {
            "channel": change.endpoint.channel,
            "recipient": change.endpoint.recipient_prefix or "",
            "error": tidy(str(change.error)),
            "until": now + timedelta(seconds=change.seconds),
        }
        for name, change in found.items()
        if name not in before and change.error is not None
    ]
    signals.tell(signals.held, Hold, lambda: news)


def reopen(which: Q, *, now: datetime) -> int:
    """The endpoints deliver: their holds turn into recoveries, their outages end. How many holds ended."""
    held = Hold.objects.filter(which, reopened_at__isnull=True).exclude(reason=PAUSED)
    ended: int = held.update(reopened_at=now, until=now + RECOVERY)
    outages.end(which, now=now)
    return ended


# What operators do


def pause(
    channel: str,
    recipient: str = "",
    *,
    exact: bool = True,
    length: timedelta,
    limit: timedelta,
    by: str,
    why: str = "",
) -> Hold:
    """Send nothing to a channel, or to one recipient of it, for a time of at most `limit`.

    exact  just this recipient; else all that begin with it: a host
    A second pause of the same moves the end, but never past `limit` from the first one's start.
    Raises ValueError for a length that is none or too long, and for a recipient that is too long.
    """
    if len(recipient) > LONGEST:
        raise ValueError(TOO_LONG)
    judged(length, limit)
    now, rows = database_now(), Hold.objects
    rows.filter(reason=PAUSED, until__lte=now).delete()
    digest = hashlib.sha256(f"{exact} {recipient}".encode()).hexdigest()[:12]
    values = {"reason": PAUSED, "error": tidy(why) or "", "until": now + length, "by": by, "times": 0}
    hold: Hold
    hold, made = rows.update_or_create(
        endpoint=f"{fold(channel)} paused{f' {digest}' if recipient else ''}",
        channel=channel,
        recipient_prefix=recipient,
        defaults=values,
        create_defaults=values | {"since": now, "exact": exact and bool(recipient)},
    )
    if not made:
        latest = F("since") + limit
        rows.filter(pk=hold.pk).update(until=Case(When(until__gt=latest, then=latest), default=F("until")))
        hold.refresh_from_db()
    logger.info("%s paused by %s until %s", one_line(scope(hold)), by, hold.until)
    wake_workers()
    return hold


def judged(length: timedelta, limit: timedelta) -> timedelta:
    """The length of a pause. Raises ValueError for one that is none or too long."""
    if not timedelta(0) < length <= limit:
        raise ValueError(f"a pause is at most {exact_duration(limit.total_seconds())} long (HOLD_LIMIT)")
    return length


def lift(hold: Hold, *, by: str) -> bool:
    """End a hold now, unless it has ended: a pause is over, and a held endpoint gets its probe at once."""
    now, mine = database_now(), Hold.objects.filter(pk=hold.pk, reason=hold.reason)
    if hold.reason == PAUSED or hold.reopened_at:
        done = bool(mine.filter(reopened_at=hold.reopened_at).delete()[0])
    else:
        done = bool(mine.filter(reopened_at__isnull=True).update(until=now))
    if done:
        logger.info("%s lifted by %s", one_line(scope(hold)), by)
        wake_workers()
    return done


def scope(hold: Hold | Outage) -> str:
    """Which rows, in words."""
    if not hold.recipient_prefix:
        return isolated(hold.channel)
    return f"{isolated(hold.channel)} to {isolated(hold.recipient_prefix)}{'' if hold.exact else '…'}"


def waiting(hold: Hold, most: int) -> int:
    """How many notifications wait behind it; most + 1 when there are more."""
    rows = NotificationEvent.objects.filter(going_to([endpoint_of(hold)]), status__in=UNDELIVERED)
    return int(rows.order_by().values("pk")[: most + 1].count())
