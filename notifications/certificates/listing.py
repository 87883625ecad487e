"""Watches and certificates a page at a time, for programs: REST and assistants are shown the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import Q, QuerySet

from ..database import database_now
from . import shown, told
from .calendar import seen_now
from .models import Certificate, Sighting, Watch

VIEW_CERTIFICATE = "notifications_certificates.view_certificate"
VIEW_WATCH = "notifications_certificates.view_watch"
SEEN = ("now", "gone")

Row = TypeVar("Row", Watch, Certificate)


def certificates(
    *,
    search: str = "",
    seen: str = "",
    days: int | None = None,
    ends_after: datetime | None = None,
    ends_before: datetime | None = None,
) -> QuerySet[Certificate]:
    """What ends first in front.

    seen  now, gone, or "" for both
    days  that end within so many days, or have ended
    """
    rows = Certificate.objects.order_by("not_after", "pk")
    if seen:
        there = seen_now().values("pk")
        rows = rows.filter(pk__in=there) if seen == "now" else rows.exclude(pk__in=there)
    if search:
        part = Q(names__icontains=search) | Q(subject__icontains=search)
        rows = rows.filter(part | Q(serial=search.lower()) | Q(fingerprint=search.lower()))
    if days is not None:
        rows = rows.filter(not_after__lte=database_now() + timedelta(days=days))
    if ends_after:
        rows = rows.filter(not_after__gte=ends_after)
    return rows.filter(not_after__lt=ends_before) if ends_before else rows


def certificate(fingerprint: str) -> Certificate | None:
    return Certificate.objects.filter(fingerprint=fingerprint.lower()).first()


def watches(*, search: str = "", target: str = "") -> QuerySet[Watch]:
    rows: QuerySet[Watch] = Watch.objects.order_by("target")
    if target:
        rows = rows.filter(target=target)
    return rows.filter(target__icontains=search) if search else rows


def page(
    rows: QuerySet[Row],
    number: int,
    per_page: int,
    show: Callable[[Sequence[Row], datetime], list[dict[str, Any]]],
    now: datetime,
) -> dict[str, Any]:
    """One numbered page, as the notifications have it; past the end it is empty."""
    total, start = rows.count(), (number - 1) * per_page
    found = list(rows[start : start + per_page]) if start < total else []
    return {"data": show(found, now), "total": total, "page": number, "per_page": per_page}


def certificate_row(rows: Sequence[Certificate], now: datetime) -> list[dict[str, Any]]:
    places: dict[int, list[str]] = {row.pk: [] for row in rows}
    there = Sighting.objects.filter(certificate__in=list(places), current=True).order_by("place", "pk")
    for certificate, place in there.values_list("certificate", "place")[: shown.MOST_SIGHTINGS * len(rows)]:
        places[certificate].append(place)
    return [{**whole(row), "seen_at": places[row.pk][: shown.MOST_SIGHTINGS]} for row in rows]


def certificate_whole(row: Certificate, now: datetime) -> dict[str, Any]:
    """With where it was seen, and the answer to "were we warned"."""
    sightings = row.sightings.select_related("watch").order_by("-current", "place", "pk")
    found, alerts = list(sightings[: shown.MOST_SIGHTINGS]), told.of([row.pk])
    seeing = {one.watch_id: one.watch for one in found if one.current}
    return {
        **whole(row),
        "seen_at": [one.place for one in found if one.current],
        "sightings": [sighting(one) for one in found],
        "warned": told.answer(row, alerts, seeing.values(), now).text,
        "alerts": [one.fields() for one in alerts],
    }


def whole(row: Certificate) -> dict[str, Any]:
    return {**shown.certificate_fields(row), "first_seen": row.first_seen, "last_seen": row.last_seen}


def sighting(row: Sighting) -> dict[str, Any]:
    names = ("place", "current", "verdicts", "first_seen", "last_seen")
    return {"watch": row.watch.target, **{name: getattr(row, name) for name in names}}


def watch_row(rows: Sequence[Watch], now: datetime) -> list[dict[str, Any]]:
    there = shown.current(rows)
    return [shown.watch_fields(row, there.get(row.pk, ()), now) for row in rows]
