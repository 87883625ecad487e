"""Write down what was seen, and raise what follows from it, in one transaction."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import OperationalError
from django.db.models import Q

from .. import database
from ..database import (
    LOCK_PATIENCE,
    carried,
    dump,
    free_slot,
    is_postgresql,
    kind_of,
    no_long_wait,
    persistently,
    said,
    unlocked,
)
from ..notifiers.wording import clean
from ..text import cut, one_line
from . import alerts, reloads, sightings
from .facts import LONGEST_NAME, Facts
from .models import Certificate, Raised, Sighting, Watch
from .readings import LONGEST_PROBLEM, Reading
from .schedule import next_check
from .settling import settle, tell_again
from .sightings import Looked, Place

logger = logging.getLogger(__name__)

MOST_SEEN = 2000  # certificates at places in one transaction, or one target's
REFUSED = "the database cannot hold what was read there"
KEPT = timedelta(days=400)  # what was not seen for so long is forgotten: an expired certificate comes no more
FORGOTTEN_AT_ONCE = 1000
PATIENCE = "800ms"  # with a lock, in each try: others record, too


class Recorded(NamedTuple):
    """raised: the notifications' ids."""

    watches: int
    certificates: int
    problems: int
    raised: tuple[str, ...]


def record(looked: Sequence[Looked], now: datetime, chance: Callable[[], float] = random.random) -> Recorded:
    """Write down what was seen at `now`. One target's fault is its own: what the database refuses of it is
    said of it, what another program keeps locked for long is written in a later round, and the others are
    written. Raises django.db's errors where the database is away."""
    raised = [event for part in _parts(looked) for event in _persistently(part, now, chance)]
    seen = {one.facts.fingerprint for _, reading in looked for one in reading.seen}
    problems = sum(bool(reading.problem) for _, reading in looked)
    return Recorded(len(looked), len(seen), problems, tuple(raised))


def _parts(looked: Sequence[Looked]) -> Iterator[list[Looked]]:
    part, size = list[Looked](), 0
    for one in looked:
        more = len(one[1].seen) + 1
        if part and size + more > MOST_SEEN:
            yield part
            part, size = [], 0
        part.append(one)
        size += more
    if part:
        yield part


def _persistently(
    part: Sequence[Looked], now: datetime, chance: Callable[[], float], *, passing: bool = False
) -> list[str]:
    """passing: nobody waits for a lock any more, and what can be left undone is."""
    try:
        if passing:
            return _record(part, now, chance, passing=True)
        return persistently(lambda: _record(part, now, chance), "recording certificates")
    except Exception as error:
        locked = (kind := kind_of(error)) == "contended" and is_postgresql()
        if not locked and kind not in ("refused", "other"):
            raise
        if locked and not passing:
            return _persistently(part, now, chance, passing=True)
        if len(part) > 1:
            middle = len(part) // 2
            halves = part[:middle], part[middle:]
            return [one for half in halves for one in _persistently(half, now, chance, passing=passing)]
        [(watch, reading)] = part
        if locked:
            logger.warning("what was read at %s is not recorded yet: %s", one_line(watch.target), said(error))
            return []
        logger.error("what was read at %s is not recorded: %s", one_line(watch.target), said(error))
        refused = Reading(problem=REFUSED)
        return [] if reading == refused else _persistently([(watch, refused)], now, chance)


def _record(
    looked: Sequence[Looked], now: datetime, chance: Callable[[], float], *, passing: bool = False
) -> list[str]:
    with database.atomic(), no_long_wait(patience=LOCK_PATIENCE if passing else PATIENCE):
        ours = _still_ours([watch for watch, _ in looked], passing)
        # Copies: what is written into them is gone with a transaction that fails, and the claim is not.
        looked = [(copy(watch), reading) for watch, reading in looked if watch.pk in ours]
        before = sightings.before(looked, now)
        certificates = _certificates(looked, before, now)
        asked = {watch.pk: watch.checked_at for watch, _ in looked}
        seen, over = sightings.write(looked, certificates, before, now)
        _watches(looked, now, chance)
        with _left_undone(passing):
            _count(looked)
        behind = reloads.behind(looked, seen, before, asked)
        with _left_undone(passing):
            reloads.look_soon(behind, now)
        with _left_undone(passing):
            settle(_replaced(seen, before, now).union(row.certificate_id for row in over), now)
        with _left_undone(passing):
            tell_again(over, now)
        raised = alerts.raise_all(_findings(looked, seen, before, behind, now), now)
        database.check_now()
        return raised


@contextmanager
def _left_undone(passing: bool) -> Iterator[None]:
    """What is done inside is, where others are in its way and nobody waits for them any more."""
    if not passing:
        yield
        return
    try:
        with database.atomic():
            yield
    except OperationalError as error:
        if kind_of(error) != "contended":
            raise
        logger.warning("recording certificates: something is left undone: %s", said(error))


def _still_ours(watches: Sequence[Watch], passing: bool) -> set[int]:
    """Those whose claim stands, and stay so until the transaction ends: neither removed nor taken over."""
    rows = Watch.objects.all()
    if is_postgresql():
        rows = rows.select_for_update(of=("self",), skip_locked=passing)
    found = rows.filter(pk__in=[watch.pk for watch in watches]).order_by("pk")
    tokens = dict(found.values_list("pk", "next_check_at"))
    return {watch.pk for watch in watches if tokens.get(watch.pk) == watch.next_check_at}


# Certificates


def _certificates(
    looked: Sequence[Looked], before: dict[Place, list[Sighting]], now: datetime
) -> dict[str, Certificate]:
    """Those that were seen, by fingerprint, on record with when."""
    facts = {one.facts.fingerprint: one.facts for _, reading in looked for one in reading.seen}
    there = {row.certificate.fingerprint: row.certificate for rows in before.values() for row in rows}
    found = {fingerprint: there[fingerprint] for fingerprint in facts.keys() & there.keys()}
    found |= _known(facts.keys() - found.keys())
    there_now = unlocked(Certificate.objects.filter(pk__in=[one.pk for one in found.values()]))
    Certificate.objects.filter(pk__in=list(there_now.values_list("pk", flat=True))).update(last_seen=now)
    missing = [_row(facts[fingerprint], now) for fingerprint in sorted(facts.keys() - found.keys())]
    if missing:
        Certificate.objects.bulk_create(missing, ignore_conflicts=True)
        found |= _known([row.fingerprint for row in missing])
    return found


def _known(fingerprints: Collection[str]) -> dict[str, Certificate]:
    if not fingerprints:
        return {}
    rows = Certificate.objects.filter(fingerprint__in=list(fingerprints)).order_by()
    return {row.fingerprint: row for row in rows}


def _row(facts: Facts, now: datetime) -> Certificate:
    return Certificate(
        fingerprint=facts.fingerprint,
        names=[_safe(name) for name in facts.names],
        subject=_safe(facts.subject),
        issuer=_safe(facts.issuer),
        serial=facts.serial,
        key=facts.key,
        algorithm=_safe(facts.algorithm)[:100],
        not_before=facts.not_before,
        not_after=facts.not_after,
        all_names=facts.all_names,
        first_seen=now,
        last_seen=now,
    )


def _safe(text: str) -> str:
    """What any database holds, and nothing that leaves its line."""
    return cut(one_line(clean(text)), LONGEST_NAME)


# Watches


TIMES = ("failing_since", "checked_at", "next_check_at")
COLUMNS = (("id", "bigint"), ("problem", "text"), *((name, "timestamptz") for name in TIMES))


def _watches(looked: Sequence[Looked], now: datetime, chance: Callable[[], float]) -> None:
    if not looked:
        return
    for watch, reading in looked:
        _now_stands(watch, reading, now, chance)
    statement = f"""
        UPDATE notification_watches SET problem = o.problem, failing_since = o.failing_since,
               checked_at = o.checked_at, next_check_at = o.next_check_at
          FROM {carried(*COLUMNS)} WHERE notification_watches.id = o.id
    """  # noqa: S608  (constants and a placeholder only)
    with database.connection().cursor() as cursor:
        cursor.execute(statement, [dump(_columns(watch) for watch, _ in looked)])


def _now_stands(watch: Watch, reading: Reading, now: datetime, chance: Callable[[], float]) -> None:
    failing = bool(reading.problem)
    lifetimes = [(one.facts.not_before, one.facts.not_after) for one in reading.seen]
    watch.problem = cut(one_line(clean(reading.problem)), LONGEST_PROBLEM)
    # A clock that was ahead has written what is still to come.
    watch.failing_since = min(watch.failing_since or now, now) if failing else None
    watch.checked_at = now
    watch.next_check_at = next_check(
        now, watch.interval, chance(), lifetimes, watch.thresholds, failing=failing
    )


def _columns(watch: Watch) -> dict[str, Any]:
    adapt = database.connection().ops.adapt_datetimefield_value
    times = {name: getattr(watch, name) for name in TIMES}
    written = {name: str(adapt(at)) if at else None for name, at in times.items()}
    return {"id": watch.pk, "problem": watch.problem, **written}


def _count(looked: Sequence[Looked]) -> None:
    numbers = Counter("failed" if reading.problem else "read" for _, reading in looked)
    if not numbers:
        return
    row = f"(%s, %s, {free_slot()})"
    statement = f"""
        INSERT INTO notification_certificate_checks (outcome, number, slot)
        VALUES {", ".join([row] * len(numbers))}
        ON CONFLICT (outcome, slot) DO UPDATE
           SET number = notification_certificate_checks.number + excluded.number
    """  # noqa: S608  (constants and placeholders only)
    with database.connection().cursor() as cursor:
        cursor.execute(statement, [value for one in sorted(numbers.items()) for value in one])


# What follows


def _replaced(
    seen: Sequence[tuple[Watch, Sighting]], before: dict[Place, list[Sighting]], now: datetime
) -> set[int]:
    """The certificates in whose places another one was seen for the first time."""
    there = {(watch.pk, row.place, row.certificate_id) for watch, row in seen}
    new = {(watch.pk, row.place) for watch, row in seen if row.first_seen == now}
    return {
        row.certificate_id
        for place in new
        for row in before.get(place, ())
        if (*place, row.certificate_id) not in there
    }


def _findings(
    looked: Sequence[Looked],
    seen: Sequence[tuple[Watch, Sighting]],
    before: dict[Place, list[Sighting]],
    behind: Sequence[reloads.Behind],
    now: datetime,
) -> Iterator[alerts.Finding]:
    told = [(watch, row) for watch, row in seen if watch.tells]
    yield from alerts.ends(told, now)
    yield from alerts.wrongs(told, now)
    yield from alerts.unreadable((watch for watch, _ in looked), now)
    yield from alerts.stale(behind, now)
    for watch, row in told:
        old = _predecessor(row, before.get((watch.pk, row.place), ())) if row.first_seen == now else None
        if old:
            yield from alerts.followed(watch, row, old.certificate)


def _predecessor(new: Sighting, held: Sequence[Sighting]) -> Sighting | None:
    """What the place held at the look before, or last where it held nothing then, and does not any more: of
    several what is likest.

    held  what it held before, as it was then
    """
    anything = any(row.current for row in held)
    gone = [row for row in held if row.last_seen < new.last_seen and row.current == anything]
    return max(gone, key=lambda row: (row.last_seen, *_likeness(row, new)), default=None)


def _likeness(old: Sighting, new: Sighting) -> tuple[bool, int]:
    """Of the same kind of key, and the names in common."""
    one, other = old.certificate, new.certificate
    same_kind = one.algorithm.split(" ")[0] == other.algorithm.split(" ")[0]
    return same_kind, len(set(one.names).intersection(other.names))


# What is forgotten


def forget(now: datetime) -> int:
    """Delete what was not seen for so long that it comes no more, a bounded number: the certificates, with
    their sightings and what was raised of them; and sightings of what is gone from a place."""
    old = Certificate.objects.filter(last_seen__lt=now - KEPT, not_after__lt=now - KEPT)
    old = old.exclude(sightings__current=True)  # its place was not looked at since
    gone = Sighting.objects.filter(current=False, last_seen__lt=now - KEPT)
    settled = Raised.objects.filter(Q(certificate=None), at__lt=now - KEPT)
    count = 0
    for rows in (old, gone, settled):
        with _left_undone(passing=True), no_long_wait():
            ids: list[Any] = list(
                unlocked(rows.order_by("pk")).values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE]
            )
            rows.model._base_manager.filter(pk__in=ids).delete()
            count += len(ids)
    return count
