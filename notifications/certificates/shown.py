"""What people and programs are shown of watches and certificates: the same on all surfaces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, Min, Q, QuerySet

from ..durations import duration
from .messages import safe, several
from .models import Certificate, Sighting, Watch
from .thresholds import DEFAULT
from .verdicts import TOLD_BY_THRESHOLDS, WORDS, Verdict

FINE = "fine"
MOST_SIGHTINGS = 200  # of one watch, in one place


def soonest_first(watches: QuerySet[Watch]) -> QuerySet[Watch]:
    """By what ends first there; what has none at the end."""
    ends = Min("sightings__certificate__not_after", filter=Q(sightings__current=True))
    return watches.annotate(ends=ends).order_by(F("ends").asc(nulls_last=True), "target")


def current(watches: Iterable[Watch]) -> Mapping[int, list[Sighting]]:
    """What was seen at each of them last, what ends first in front."""
    rows = Sighting.objects.filter(watch__in=[watch.pk for watch in watches], current=True)
    found: dict[int, list[Sighting]] = defaultdict(list)
    for row in rows.select_related("certificate").order_by("certificate__not_after", "pk"):
        found[row.watch_id].append(row)
    return found


def state(watch: Watch, sightings: Sequence[Sighting], now: datetime) -> str:
    """One phrase: what is wrong there now, or that nothing is."""
    if watch.checked_at is None:
        return "not looked at yet"
    if watch.problem:
        return safe(watch.problem, 300)
    verdicts = {verdict for row in sightings for verdict in row.verdicts} - TOLD_BY_THRESHOLDS
    expired = sum(row.certificate.not_after <= now for row in sightings)
    said = ["has expired" if len(sightings) == 1 else f"{expired} have expired"] if expired else []
    said += [WORDS[Verdict(one)] for one in sorted(verdicts) if one in set(Verdict)]
    return " and ".join(said) or FINE


def tone(watch: Watch, said: str) -> str:
    """How grave a state is, as the console's colours are called."""
    if watch.checked_at is None:
        return "pending"
    return "sent" if said == FINE else "failed" if watch.problem else "dead"


def ending(watch: Watch, sightings: Sequence[Sighting], now: datetime) -> str:
    """How much is left of what ends first, once somebody is to be told of it; "" before."""
    first = min((row.certificate for row in sightings), key=lambda one: one.not_after, default=None)
    if first is None:
        return ""
    passed = any(one.moment(first.not_before, first.not_after) <= now for one in watch.thresholds)
    return left(first, now) if passed else ""


def left(certificate: Certificate, now: datetime) -> str:
    """`12 days`, `expired 3 h ago`."""
    seconds = (certificate.not_after - now).total_seconds()
    return duration(int(seconds)) if seconds > 0 else f"expired {duration(int(-seconds))} ago"


def thresholds_of(watch: Watch) -> Sequence[str]:
    return watch.at or DEFAULT


def unwatched(watches: Iterable[Watch], *, whole: bool = False) -> str:
    """Which endpoints serve files of these and are not watched; "" where all are. whole: nothing else is."""
    watches = list(watches)
    named = dict.fromkeys(target for watch in watches for target in watch.endpoints)
    there = {watch.target for watch in watches}
    if named and not whole:
        there.update(Watch.objects.filter(target__in=list(named)).values_list("target", flat=True))
    missing = [target for target in named if target not in there]
    if len(missing) == 1:
        return f"{safe(missing[0])} is not watched: nobody sees what it serves"
    return f"{several(missing, 5)} are not watched: nobody sees what they serve" if missing else ""


def watch_fields(watch: Watch, sightings: Sequence[Sighting], now: datetime) -> dict[str, Any]:
    """For programs."""
    return {
        "target": watch.target,
        "notify": watch.tells,
        "at": list(thresholds_of(watch)),
        "every_seconds": int(watch.interval.total_seconds()),
        "host": watch.host,
        "password_file": watch.password_file,
        "ca_file": watch.ca_file,
        "served_by": watch.endpoints,
        "on_change": watch.on_change,
        "on_renewal": watch.on_renewal,
        "checked_at": watch.checked_at,
        "next_check_at": watch.next_check_at,
        "failing_since": watch.failing_since,
        "problem": watch.problem,
        "state": state(watch, sightings, now),
        "certificates": [sighting_fields(row) for row in sightings[:MOST_SIGHTINGS]],
    }


def sighting_fields(row: Sighting) -> dict[str, Any]:
    return {
        "place": row.place,
        "current": row.current,
        "verdicts": row.verdicts,
        "first_seen": row.first_seen,
        "last_seen": row.last_seen,
        **certificate_fields(row.certificate),
    }


def certificate_fields(certificate: Certificate) -> dict[str, Any]:
    names = ("fingerprint", "names", "subject", "issuer", "serial", "algorithm", "not_before", "not_after")
    return {name: getattr(certificate, name) for name in names}
