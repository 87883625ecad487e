"""Endpoints that nobody sends to for now, shared by all workers through notification_holds.

Rows of a held endpoint wait without spending attempts. When a hold runs out, one worker takes the
probe: one attempt, which costs its row nothing when it fails, that decides whether the endpoint is open
again or held for longer. Once open, its backlog flows at a bounded rate for a while. An endpoint that has
been held for longer than HOLD_LIMIT is worn: its rows spend their attempts again, because an alert must
reach the dead-letter queue while it still matters. A pause is an operator's hold: it just ends.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Case, F, Q, When

from ..database import database_now, wake_workers
from ..models import Hold, NotificationEvent, Outage
from ..models.fields import UNDELIVERED
from ..models.queryset import rows_of
from ..notifiers.base import Endpoint
from ..text import tidy
from . import outages
from .lanes import HoldChange, Standing

logger = logging.getLogger(__name__)

FORGOTTEN = timedelta(days=1)  # a hold whose end is this long past had nothing to send since
RECOVERY = timedelta(minutes=10)  # that an endpoint's backlog flows at a bounded rate
PAUSED = "paused"  # the reason of an operator's hold


def survey(*, now: datetime, probe_for: timedelta, limit: timedelta) -> list[Standing]:
    """All holds. Those that have run out are taken for a probe of at most `probe_for`, by one worker each."""
    rows = Hold.objects
    simply_end = Q(reason=PAUSED) | Q(reopened_at__isnull=False)
    rows.filter(Q(until__lt=now - FORGOTTEN) | simply_end & Q(until__lte=now)).delete()
    return [_standing(hold, now, now + probe_for, limit) for hold in rows.all()]


def _standing(hold: Hold, now: datetime, probe_ends: datetime, limit: timedelta) -> Standing:
    # Compare and set: of two workers that see the same end, one moves it.
    over = hold.until <= now
    ours = over and bool(Hold.objects.filter(pk=hold.pk, until=hold.until).update(until=probe_ends))
    return Standing(
        endpoint_of(hold),
        failures=hold.failures,
        worn=now - hold.since > limit,
        ours=ours,
        paused=hold.reason == PAUSED,
        recovering=hold.reopened_at is not None,
        until=probe_ends if ours else hold.until,
    )


def endpoint_of(hold: Hold) -> Endpoint:
    return Endpoint(hold.endpoint, hold.channel, hold.recipient_prefix or None, hold.exact)


def apply(changes: Iterable[HoldChange], *, now: datetime) -> None:
    """Write what a sweep learned: endpoints that fail, that are held or deliver again, unused probes."""
    for change in changes:
        error = change.error
        if change.delivers:
            reopen(Q(endpoint=change.endpoint.key), now=now)
        elif error is None:
            rows = Hold.objects.filter(endpoint=change.endpoint.key, reopened_at__isnull=True)
            rows.update(until=now)
        else:
            outages.note(change.endpoint, change, error, now=now)
            if change.holds:
                _hold(change, {"reason": error.reason, "error": tidy(str(error))}, now)


def _hold(change: HoldChange, why: dict[str, object], now: datetime) -> None:
    endpoint, rows = change.endpoint, Hold.objects
    which = {
        "endpoint": endpoint.key,
        "channel": endpoint.channel,
        "recipient_prefix": endpoint.recipient_prefix or "",
    }
    # One that had delivered meanwhile is held anew.
    rows.filter(**which, reopened_at__isnull=False).update(since=now, reopened_at=None)
    values = why | {
        "until": now + timedelta(seconds=change.seconds),
        "failures": change.holds,
        "exact": endpoint.exact,
    }
    rows.update_or_create(**which, defaults=values, create_defaults=values | {"since": now})


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
    span: timedelta,
    limit: timedelta,
    by: str,
    why: str = "",
) -> Hold:
    """Send nothing to a channel, or to one recipient of it, for a time of at most `limit`.

    exact  just this recipient; else all that begin with it: a host
    A second pause of the same moves the end, but never past `limit` from the first one's start.
    Raises ValueError for a span that is none or too long.
    """
    if not timedelta(0) < span <= limit:
        raise ValueError(f"a pause is at most HOLD_LIMIT long ({limit}), not {span}")
    if len(recipient) > 255:
        raise ValueError("a recipient is at most 255 characters long")
    now, rows = database_now(), Hold.objects
    rows.filter(reason=PAUSED, until__lte=now).delete()
    digest = hashlib.sha256(f"{exact} {recipient}".encode()).hexdigest()[:12]
    values = {"reason": PAUSED, "error": tidy(why) or "", "until": now + span, "by": by, "failures": 0}
    hold: Hold
    hold, made = rows.update_or_create(
        endpoint=f"{channel.casefold()} paused{f' {digest}' if recipient else ''}",
        channel=channel,
        recipient_prefix=recipient,
        defaults=values,
        create_defaults=values | {"since": now, "exact": exact and bool(recipient)},
    )
    if not made:
        latest = F("since") + limit
        rows.filter(pk=hold.pk).update(until=Case(When(until__gt=latest, then=latest), default=F("until")))
        hold.refresh_from_db()
    logger.info("%s paused by %s until %s", scope(hold), by, hold.until)
    wake_workers()
    return hold


def lift(hold: Hold, *, by: str) -> bool:
    """End a hold now, unless it has ended: a pause is over, and a held endpoint gets its probe at once."""
    now, mine = database_now(), Hold.objects.filter(pk=hold.pk, reason=hold.reason)
    if hold.reason == PAUSED or hold.reopened_at:
        done = bool(mine.filter(reopened_at=hold.reopened_at).delete()[0])
    else:
        done = bool(mine.filter(reopened_at__isnull=True).update(until=now))
    if done:
        logger.info("%s lifted by %s", scope(hold), by)
        wake_workers()
    return done


def scope(hold: Hold | Outage) -> str:
    """Which rows, in words."""
    if not hold.recipient_prefix:
        return hold.channel
    return f"{hold.channel} to {hold.recipient_prefix}{'' if hold.exact else '…'}"


def waiting(hold: Hold, most: int) -> int:
    """How many notifications wait behind it; most + 1 when there are more."""
    rows = NotificationEvent.objects.filter(rows_of(hold), status__in=UNDELIVERED)
    return int(rows.order_by().values("pk")[: most + 1].count())
