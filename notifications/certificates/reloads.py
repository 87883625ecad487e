"""Which servers show what is older than the file that they serve: it was renewed, and is not reloaded.

That an endpoint serves a file is known where the file held what the endpoint shows, until it was renewed; and
where the file's watch names the endpoint. What a look saw is true of its own time: that the two differ is
known where the file was seen between two looks at the endpoint, or together with the last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import QuerySet

from .claims import LEASE
from .models import MISSED, Certificate, Sighting, Watch, is_of_files, served_by
from .renewals import is_newer
from .sightings import Looked, Place

TO_RELOAD = timedelta(hours=1)
LITTLE = timedelta(minutes=1)


class Behind(NamedTuple):
    """What an endpoint shows, and what a file holds that it serves: a newer one, for a name of the same.

    over   when the hour is over that there is for reloading
    since  what the file held before that is no evidence: the endpoint may have been reloaded, and both been
           rolled back
    """

    watch: Watch
    shown: Sighting
    held: Sighting
    over: datetime
    since: datetime

    def is_late(self, now: datetime) -> bool:
        """It is seen now, and so was the file lately, an hour after it was renewed or later."""
        return self.shown.last_seen == now and self._is_proven

    @property
    def _is_proven(self) -> bool:
        return self.held.last_seen >= max(self.over, self.since)

    def to_look_at(self, now: datetime) -> Iterator[int]:
        """The file, where it was not lately; the endpoint, where the file's look can be waited for."""
        file = self.held.watch
        if not self._is_proven:
            yield file.pk
        is_read = file.checked_at is None or self.held.last_seen >= file.checked_at
        if self.over > now or (is_read and file.next_check_at > now - TO_RELOAD):
            yield self.watch.pk

    @property
    def likeness(self) -> tuple[int, datetime]:
        """The more names in common, the likelier it is what the endpoint should show; then what ends last."""
        old, new = self.shown.certificate, self.held.certificate
        return len(set(old.names).intersection(new.names)), new.not_after


def renews(certificate: Certificate, before: Certificate) -> bool:
    """It is newer, and has a name in common."""
    return is_newer(certificate, before) and not set(before.names).isdisjoint(certificate.names)


def behind(
    looked: Sequence[Looked],
    seen: Sequence[tuple[Watch, Sighting]],
    before: Mapping[Place, Sequence[Sighting]],
    asked: Mapping[int, datetime | None],
) -> list[Behind]:
    """Of the endpoints that were looked at now, and of those that serve the files that were.

    seen    what is there now, as it is on record
    before  what each place held before
    asked   when each watch was looked at before
    """
    served = [(watch, row) for watch, row in seen if not is_of_files(watch.target)]
    ours = {watch.pk for watch, _ in looked}
    replaced = _replaced(seen, before)
    for rows in _that_serve([watch for watch, _ in looked], replaced):
        served += [(row.watch, row) for row in rows if row.watch_id not in ours]
    return list(_behind(served, asked)) if served else []


def _replaced(seen: Iterable[tuple[Watch, Sighting]], before: Mapping[Place, Sequence[Sighting]]) -> set[int]:
    """The certificates in whose files there is another one instead, lately."""
    there = {(watch.pk, row.place, row.certificate_id) for watch, row in seen if is_of_files(watch.target)}
    return {
        old.certificate_id
        for place in {(watch, place) for watch, place, _ in there}
        for old in before.get(place, ())
        if (*place, old.certificate_id) not in there and old.missed < MISSED
    }


def _that_serve(watches: Iterable[Watch], replaced: Collection[int]) -> Iterable[QuerySet[Sighting]]:
    """What the endpoints show that these watches name, and those that show what was replaced."""
    rows = Sighting.objects.filter(current=True).exclude(watch__target__startswith="/")
    rows = rows.select_related("watch", "certificate")
    if named := {target for watch in watches for target in watch.endpoints}:
        yield rows.filter(watch__target__in=named)
    if replaced:
        yield rows.filter(certificate__in=replaced)


def _behind(
    served: Sequence[tuple[Watch, Sighting]], asked: Mapping[int, datetime | None]
) -> Iterable[Behind]:
    in_files = _in_files({row.certificate_id for _, row in served})
    named = _named({watch.target for watch, _ in served})
    gone_from = {row.watch_id for rows in in_files.values() for row in rows if not row.current}
    by_watch, by_place = _holding(gone_from, named)
    for watch, shown in served:
        since = max(asked.get(watch.pk) or shown.so_since, shown.so_since)
        names_it = named[watch.target]
        gone = _gone(in_files[shown.certificate_id], names_it)
        if gone is None:
            continue
        files = [
            (row, max(row.so_since, old.so_since))
            for old in gone
            for row in by_place[old.watch_id, old.place]
        ]
        # Where one that names the endpoint held it, that one is what it is compared with.
        if names_it.isdisjoint(row.watch_id for row, _ in files):
            files += [(row, row.so_since) for one in names_it for row in by_watch[one]]
        for held, renewed in files:
            if renews(held.certificate, shown.certificate):
                yield Behind(watch, shown, held, renewed + TO_RELOAD, since)


def _gone(rows: Sequence[Sighting], named: Collection[int]) -> list[Sighting] | None:
    """Of the files where a certificate is or was those where it was, first those that name the endpoint. None
    where it is served as it should be: one of these still holds it, whatever the others hold (RSA beside EC,
    another node's); or there are none, and any file holds it."""
    holding = {row.watch_id for row in rows if row.current}
    if holding and (not named or holding.intersection(named)):
        return None
    gone = [row for row in rows if not row.current]
    return [row for row in gone if row.watch_id in named] or ([] if holding else gone)


def _in_files(certificates: Collection[int]) -> Mapping[int, list[Sighting]]:
    """The files where these are, and were."""
    found: dict[int, list[Sighting]] = defaultdict(list)
    rows = Sighting.objects.filter(certificate__in=certificates, watch__target__startswith="/")
    for row in rows.defer("verdicts", "verdicts_since"):
        found[row.certificate_id].append(row)
    return found


def _named(targets: Collection[str]) -> Mapping[str, set[int]]:
    """Which watches name these endpoints."""
    found: dict[str, set[int]] = defaultdict(set)
    for watch in served_by(targets):
        for target in watch.endpoints:
            found[target].add(watch.pk)
    return found


def _holding(
    watches: Collection[int], named: Mapping[str, Collection[int]]
) -> tuple[Mapping[int, list[Sighting]], Mapping[Place, list[Sighting]]]:
    """What is at them now, by watch and by place."""
    by_watch: dict[int, list[Sighting]] = defaultdict(list)
    by_place: dict[Place, list[Sighting]] = defaultdict(list)
    ids = {*watches, *(one for ones in named.values() for one in ones)}
    rows = Sighting.objects.filter(watch__in=ids, current=True).select_related("watch", "certificate")
    for row in rows.defer("verdicts", "verdicts_since", "watch__served_by") if ids else ():
        by_watch[row.watch_id].append(row)
        by_place[row.watch_id, row.place].append(row)
    return by_watch, by_place


def look_soon(found: Iterable[Behind], now: datetime) -> None:
    """At the endpoints of which it is not known yet that they are late, and at their files: once the hour is
    over. No sooner than a claim lasts, so that nobody's look is thrown away."""
    early = [one for one in found if not one.is_late(now)]
    if early:
        at = max(min(one.over for one in early), now + LEASE) + LITTLE
        rows = Watch.objects.filter(pk__in={pk for one in early for pk in one.to_look_at(now)})
        rows.filter(next_check_at__gt=at).update(next_check_at=at)
