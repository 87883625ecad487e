"""What dies on one channel is raised on another: once for each notification, and never in a circle."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from .. import database
from ..conf import Addressee, Conf
from ..database import carried, dump
from ..durations import expires
from ..notifiers.loading import secrets_of
from ..text import cut, fold, one_line, redact

PREFIX = "escalation:"  # of the dedup_key; what follows is the id of the notification that died
LONGEST_CAUSE = 300
LONGEST_CHAIN = 100
RAISE = """
    INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, dedup_key,
                                     status, retry_count, created_at, ours)
    SELECT o.raised, dead.type, dead.certificate_id, o.channel, o.recipient, o.head || dead.message,
           %s || dead.id, 'pending', 0, %s, true
      FROM {} JOIN notification_events AS dead ON dead.id = o.id
"""
# What is raised ends when the other does, and is withdrawn with it.
DEADLINE = """
    INSERT INTO notification_deadlines (notification_id, not_after, fingerprints, waiting, insisted, settled)
    SELECT o.raised, known.not_after, known.fingerprints, true, known.insisted, false
      FROM {} JOIN notification_deadlines AS known ON known.notification_id = o.id
"""
LINK = """
    INSERT INTO notification_escalations (notification_id, raised_id, at) SELECT id, raised, %s FROM {}
"""
LINKED = "SELECT notification_id FROM notification_escalations WHERE notification_id IN (SELECT id FROM {})"
ORIGINS = """
    SELECT link.raised_id, origin.id, origin.channel, origin.dedup_key
      FROM notification_escalations AS link
      JOIN notification_events AS origin ON origin.id = link.notification_id
     WHERE link.raised_id IN (SELECT id FROM {})
"""
Rows = Any  # a NotificationQuerySet: the models know us, so we do not know them
URL = re.compile(r"([a-z][a-z0-9+.-]*)://[^\s\"'<>]*", re.IGNORECASE)


class DeadLetter(Protocol):
    """What is asked of a notification that died."""

    pk: str
    type: str
    channel: str
    recipient: str
    error: str | None
    last_error: str | None
    dedup_key: str | None

    @property
    def not_after(self) -> datetime | None: ...


def escalate(rows: Rows, dead: Collection[DeadLetter], settings: Conf, *, now: datetime) -> list[str]:
    """Raise each one's alert on the fallback of its channel; answers the ids of those whose chain ends here.

    The caller's transaction has just made them dead and holds them, so nobody else is at this.
    """
    fallen = [(event, to) for event in dead if (to := settings.fallback(event.channel))]
    fresh = _not_yet_escalated(rows, [event for event, _ in fallen])
    fallen = [(event, to) for event, to in fallen if event.pk in fresh]
    been = _channels_before([event for event, _ in fallen], settings)
    onward = [(event, to) for event, to in fallen if fold(to.channel) not in been[event.pk]]
    new_id = rows.model._meta.pk.get_default
    _insert([_row(new_id(), event, to, settings, now) for event, to in onward], now)
    return [event.pk for event, to in fallen if fold(to.channel) in been[event.pk]]


def _not_yet_escalated(rows: Rows, events: Sequence[DeadLetter]) -> set[str]:
    """By the link, which outlives what was raised, and by the dedup_key, which outlives the link's table."""
    ids = {event.pk for event in events}
    if not ids:
        return ids
    keys = rows.filter(dedup_key__in=[PREFIX + pk for pk in ids])
    keyed = {str(key).removeprefix(PREFIX) for (key,) in keys.values_list("dedup_key")}
    return ids - keyed - {pk for (pk,) in _selected(LINKED, ids)}


def _channels_before(events: Sequence[DeadLetter], settings: Conf) -> dict[str, set[str]]:
    """The channels, folded, on which each one's alert has died: its own and its origins'."""
    been = {event.pk: {fold(event.channel)} for event in events}
    oldest = {event.pk: (event.pk, event.channel, event.dedup_key) for event in events}
    for _ in range(LONGEST_CHAIN):
        climbing = {pk for pk, (_, _, key) in oldest.items() if (key or "").startswith(PREFIX)}
        if not climbing:
            break
        here = {at for pk, (at, _, _) in oldest.items() if pk in climbing}
        origins = {raised: origin for raised, *origin in _selected(ORIGINS, here)}
        for pk, (at, channel, _) in list(oldest.items()):
            if origin := origins.get(at):
                been[pk].add(fold(origin[1]))
                oldest[pk] = (origin[0], origin[1], origin[2])
            else:
                # Its origin was deleted: it may have been on any channel that leads to this one.
                been[pk] |= _circle(channel, settings) if pk in climbing else set()
                del oldest[pk]
    return been


def _selected(statement: str, ids: Collection[str]) -> list[Any]:
    with database.connection().cursor() as cursor:
        cursor.execute(statement.format(carried(("id", "text"))), [dump({"id": pk} for pk in sorted(ids))])
        found: list[Any] = cursor.fetchall()
        return found


def _circle(channel: str, settings: Conf) -> set[str]:
    """The channels, folded, from which the settings lead back to this one by way of its own fallback."""
    start, passed = fold(channel), list[str]()
    here = settings.fallback(channel)
    while here and fold(here.channel) not in passed:
        passed.append(fold(here.channel))
        here = settings.fallback(here.channel)
    return set(passed) if start in passed else set()


def _row(raised: str, event: DeadLetter, to: Addressee, settings: Conf, now: datetime) -> dict[str, str]:
    failed = settings.channel(event.channel) or event.channel
    heading = f"Not delivered on {failed} to {bare(event.recipient)} (notification {event.pk})"
    return {
        "id": event.pk,
        "raised": raised,
        "channel": settings.channel(to.channel) or to.channel,
        "recipient": to.recipient,
        "head": f"{heading}: {cause(event, settings)}{time_left(event, now)}\n\n",
    }


def _insert(rows: Sequence[dict[str, str]], now: datetime) -> None:
    """Three statements for any number; the alerts' own texts need not travel."""
    if not rows:
        return
    batch, at = dump(rows), database.connection().ops.adapt_datetimefield_value(now)
    columns = [(name, "text") for name in ("id", "raised", "channel", "recipient", "head")]
    table = carried(*columns)
    with database.connection().cursor() as cursor:
        cursor.execute(RAISE.format(table), [PREFIX, at, batch])
        cursor.execute(DEADLINE.format(table), [batch])
        cursor.execute(LINK.format(table), [at, batch])


def cause(event: DeadLetter, settings: Conf) -> str:
    """Why it died, in one short line without secrets: other programs quote whole URLs."""
    options = settings.channels.get(settings.channel(event.channel) or "", {})
    text = redact(event.last_error or event.error or "no error is on record", secrets_of(options))
    return cut(bare(text), LONGEST_CAUSE)


def time_left(event: DeadLetter, now: datetime) -> str:
    """`; its certificate expires in 3 h`; "" where that is not known."""
    return f"; its certificate {expires(event.not_after, now)}" if event.not_after else ""


def bare(text: str) -> str:
    """In one line, and of URLs only where they lead: the rest can be a secret."""
    return URL.sub(_origin, one_line(text))


def _origin(url: re.Match[str]) -> str:
    try:
        host = urlsplit(url[0]).hostname if url[1].lower() in ("http", "https") else None
    except ValueError:
        host = None
    return f"{url[1]}://{host}/…" if host else f"{url[1]}://…"
