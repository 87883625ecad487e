"""Which certificates were renewed, as far as what was seen makes it certain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from ..models.relevance import About, Renewal
from .facts import MOST_NAMES
from .models import MISSED, Certificate, Sighting

Place = tuple[int, str]  # a watch, and where within it
MOST_PLACES = 1000  # that one question names; beyond these, all of their watches are read


def renewed(about: Sequence[About]) -> dict[str, Renewal]:
    """Of the alerts that name the certificates which they are about those whose certificates are all renewed;
    with the one that ends first of what came in their places."""
    found = successors({fingerprint for one in about for fingerprint in one.fingerprints})
    over: dict[str, Renewal] = {}
    for one in about:
        if one.fingerprints and all(each in found for each in one.fingerprints):
            new = min((found[each] for each in one.fingerprints), key=lambda each: each.not_after)
            over[one.id] = Renewal(new.serial, new.not_after)
    return over


def successors(fingerprints: Collection[str]) -> dict[str, Certificate]:
    """Of the certificates those that were renewed, by fingerprint: at every place where one was seen there is
    now a newer one for the same names. Of several successors the one that ends first."""
    seen: dict[Certificate, list[Sighting]] = defaultdict(list)
    rows = Sighting.objects.filter(certificate__fingerprint__in=list(fingerprints)) if fingerprints else ()
    for row in rows.select_related("certificate") if rows else ():
        seen[row.certificate].append(row)
    now_there = _current({(row.watch_id, row.place) for rows in seen.values() for row in rows})
    found = {}
    for certificate, sightings in seen.items():
        new = [
            _successor(certificate, row, now_there.get((row.watch_id, row.place), ())) for row in sightings
        ]
        certain = [each for each in new if each is not None]
        if len(certain) == len(new):
            found[certificate.fingerprint] = min(certain, key=lambda each: each.not_after)
    return found


def _current(places: Collection[Place]) -> Mapping[Place, list[Sighting]]:
    found: dict[Place, list[Sighting]] = defaultdict(list)
    watches, names = {watch for watch, _ in places}, {name for _, name in places}
    there = Sighting.objects.filter(watch__in=watches, current=True)
    if len(names) <= MOST_PLACES:
        there = there.filter(place__in=names)
    for row in there.select_related("certificate") if places else ():
        found[row.watch_id, row.place].append(row)
    return found


def _successor(old: Certificate, place: Sighting, now_there: Sequence[Sighting]) -> Certificate | None:
    """What came in its place after it was seen there last. Of two that are shown in turn neither renews the
    other, until one of them was not seen for long."""
    if place.current:
        return None
    new = [
        row.certificate
        for row in now_there
        if renews(row.certificate, old) and (place.missed >= MISSED or _came_after(row, place))
    ]
    return max(new, key=_ends, default=None)


def _came_after(new: Sighting, old: Sighting) -> bool:
    return new.first_seen > old.last_seen and not old.returned


def renews(new: Certificate, old: Certificate) -> bool:
    """Newer, and for all its names."""
    return is_newer(new, old) and bool(old.names) and _is_for_all(new, old)


def is_newer(new: Certificate, old: Certificate) -> bool:
    """Issued later, and valid for longer."""
    return new.not_before > old.not_before and new.not_after > old.not_after


def _is_for_all(new: Certificate, old: Certificate) -> bool:
    """Where not all names are kept, nothing but the same ones is certain."""
    if new.all_names and new.all_names == old.all_names:
        return True
    return len(old.names) < MOST_NAMES and set(old.names) <= set(new.names)


def _ends(certificate: Certificate) -> datetime:
    return certificate.not_after
