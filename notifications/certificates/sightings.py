"""What was seen where: as it stands on record, look by look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Case, DateTimeField, F, Value, When

from .models import LONGEST_PLACE, MISSED, Certificate, Sighting, Watch
from .readings import Reading, Seen
from .renewals import renews

Place = tuple[int, str]  # a watch, and where within it
Looked = tuple[Watch, Reading]
CHANGED = ["verdicts", "verdicts_since", "current", "returned", "missed", "since", "last_seen"]
TIMES = ["verdicts_since", "since", "first_seen", "last_seen"]
INSTANT = timedelta(microseconds=1)


class Written(NamedTuple):
    """seen: what is there now; over: what is at its place no more for certain, since now."""

    seen: list[tuple[Watch, Sighting]]
    over: list[Sighting]


def before(looked: Sequence[Looked], now: datetime) -> dict[Place, list[Sighting]]:
    """What each place held, the last to end first. What the database's clock wrote while it was ahead is put
    right: it was so until `now`, in the order in which it was."""
    rows = Sighting.objects.filter(watch__in=[watch.pk for watch, _ in looked])
    found: dict[Place, list[Sighting]] = defaultdict(list)
    for row in rows.select_related("certificate").order_by("-certificate__not_after", "-id"):
        found[row.watch_id, row.place].append(row)
    ahead = [row for rows in found.values() for row in rows if _is_ahead(row, now)]
    for row in ahead:
        since = row.verdicts_since.items()
        row.verdicts_since = {verdict: min(at, now.isoformat()) for verdict, at in since}
        row.first_seen, row.last_seen = (
            min(row.first_seen, now - INSTANT),
            min(row.last_seen, now - 2 * INSTANT),
        )
        row.since = row.since and min(row.since, now - INSTANT)
    Sighting.objects.bulk_update(ahead, TIMES, batch_size=200)
    return found


def _is_ahead(row: Sighting, now: datetime) -> bool:
    since = row.verdicts_since.values()
    latest = max(row.first_seen, row.last_seen, row.since or row.last_seen)
    return latest > now or any(at > now.isoformat() for at in since)


def write(
    looked: Sequence[Looked],
    certificates: Mapping[str, Certificate],
    held: Mapping[Place, Sequence[Sighting]],
    now: datetime,
) -> Written:
    """held: what each place held before."""
    old = {(row.watch_id, row.certificate_id, row.place): row for rows in held.values() for row in rows}
    seen, new, changed, same = list[tuple[Watch, Sighting]](), [], [], []
    for watch, reading in looked:
        for one in reading.seen:
            certificate = certificates[one.facts.fingerprint]
            row = old.get((watch.pk, certificate.pk, one.place))
            if row is None:
                row = Sighting(watch=watch, place=one.place[:LONGEST_PLACE], first_seen=now, since=now)
                new.append(row)
            elif row.current and row.verdicts == list(one.verdicts):
                same.append(row.pk)
            else:
                row.since = row.since if row.current else now
                changed.append(row)
            row.certificate = certificate
            _is_there(row, one, held.get((watch.pk, row.place), ()), now)
            seen.append((watch, row))
    Sighting.objects.filter(pk__in=same).update(last_seen=now)
    Sighting.objects.bulk_update(changed, CHANGED, batch_size=200)
    Sighting.objects.bulk_create(new)
    return Written(seen, _gone(looked, held, {row.pk for _, row in seen}, now))


def _is_there(row: Sighting, one: Seen, others: Sequence[Sighting], now: datetime) -> None:
    """Each fault has its own time: two servers behind one name can have different ones."""
    verdicts, since = [str(verdict) for verdict in one.verdicts], row.verdicts_since if row.current else {}
    if not row.current:
        row.returned |= any(each.current and renews(each.certificate, row.certificate) for each in others)
    row.verdicts_since = {verdict: since.get(verdict, now.isoformat()) for verdict in verdicts}
    row.verdicts, row.current, row.missed, row.last_seen = verdicts, True, 0, now


def _gone(
    looked: Sequence[Looked], held: Mapping[Place, Sequence[Sighting]], there: set[int], now: datetime
) -> list[Sighting]:
    """Write down what was not seen where all was read."""
    readings = {watch.pk: reading for watch, reading in looked}
    absent = [
        row
        for (watch, place), rows in held.items()
        if readings[watch].tells_of(place)
        for row in rows
        if row.pk not in there and row.missed < MISSED
    ]
    rows = Sighting.objects.filter(pk__in=[row.pk for row in absent])
    since = Case(When(current=True, then=Value(now)), default=F("since"), output_field=DateTimeField())
    rows.update(current=False, missed=F("missed") + 1, since=since)
    return [row for row in absent if row.missed + 1 == MISSED]
