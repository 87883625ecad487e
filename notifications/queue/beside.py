"""Beside certctl: which of the two programs sends an alert, and from when on (docs/adopting.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from .. import conf, database
from ..models import Beside, NotificationEvent, NotificationQuerySet, Status

logger = logging.getLogger(__name__)

RESCUE, TAKEOVER, OFF = conf.BESIDE_CHOICES
# What failed at most so long before we began to live so is taken up by itself; what is older, when asked for.
LOOK_BACK = timedelta(days=1)
# What certctl has not sent in the call that raised it is sent by a loop that begins and ends within a minute.
LONGEST_SENDING = timedelta(minutes=2)
GUARD = "notification_events_guard"
FOUND = """
    SELECT to_regclass('managed_certificates') IS NOT NULL,
           EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass('notification_events')
                                              AND tgname = %s AND tgenabled <> 'D'),
           mode, since
      FROM (SELECT 1) AS always LEFT JOIN notification_beside ON true
"""


class Found(NamedTuple):
    """What is in the database. certctl: its certificates; guarded: the trigger; the rest as last written."""

    certctl: bool = False
    guarded: bool = False
    mode: str | None = None
    since: datetime | None = None


class Terms(NamedTuple):
    """How the two programs live together. since: None where no sweep has run like this yet."""

    mode: str = OFF
    grace: timedelta = timedelta(0)
    since: datetime | None = None

    def claimable(self, pending: NotificationQuerySet, now: datetime) -> NotificationQuerySet:
        """Of the pending ones those that are not certctl's to send first."""
        return pending.out_of_grace(now, self.grace) if self.mode == RESCUE else pending

    def in_grace(self, rows: NotificationQuerySet, now: datetime) -> NotificationQuerySet:
        """Those that certctl is sending, or about to."""
        return rows.in_grace(now, self.grace) if self.mode == RESCUE else rows.none()

    def grace_ends(self, event: NotificationEvent, now: datetime) -> datetime | None:
        """When a row that is left to certctl is taken up; None of one that is not left to it, or for good."""
        since = event.requeued_at or event.created_at
        if event.status == Status.PENDING:
            waits = self.mode == RESCUE and event.ours is None
        else:
            lost = event.stranded and not event.probably_delivered
            waits = self.mode != OFF and lost and since >= self._oldest(now)
        return since + self.grace if waits and since <= now + self.grace else None

    def left_failed(
        self, rows: NotificationQuerySet, now: datetime, *, unscheduled: bool, probably_delivered: bool
    ) -> Iterator[NotificationQuerySet]:
        """What a sweep takes up of the rows that certctl left failed, and may be asked for besides."""
        if unscheduled:
            yield rows.lost()
        elif self.mode != OFF:
            yield rows.to_adopt(self._oldest(now), now, self.grace)
        if probably_delivered:
            yield rows.probably_delivered()

    def _oldest(self, now: datetime) -> datetime:
        return (self.since or now) - LOOK_BACK


def terms(settings: conf.Conf) -> Terms:
    """How we live together, as the settings say, or where they say nothing, as the database looks."""
    return _terms(settings, found())


def noted(events: Iterable[NotificationEvent], settings: conf.Conf) -> None:
    """Have the events know the terms, asked once for all: a page of one costs what a page of many does."""
    new = [event for event in events if "terms" not in vars(event)]
    found = terms(settings) if new else None
    for event in new:
        vars(event)["terms"] = found


def settled(settings: conf.Conf, now: datetime) -> Terms:
    """The same, once the database's guard knows it."""
    there = found()
    current, before = _terms(settings, there), there.mode or OFF
    if current.mode == before:
        return current
    Beside.objects.update_or_create(pk=1, defaults={"mode": current.mode, "since": now})
    logger.warning("beside certctl: %s, and %s before", current.mode, before)
    return current._replace(since=now)


def _terms(settings: conf.Conf, there: Found) -> Terms:
    mode = settings.beside or (RESCUE if there.certctl else OFF)
    return Terms(mode, settings.beside_grace, there.since if there.mode == mode else None)


def found() -> Found:
    """certctl works on PostgreSQL, and so does the guard."""
    if not database.is_postgresql():
        written = Beside.objects.first()
        return Found(mode=written.mode, since=written.since) if written else Found()
    with database.connection().cursor() as cursor:
        cursor.execute(FOUND, [GUARD])
        return Found(*cursor.fetchone())
