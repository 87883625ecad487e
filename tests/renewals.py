"""Certificates that were seen somewhere, alerts about them, and renewals."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from notifications.certificates.models import Certificate, Sighting, Watch
from notifications.models import Deadline, NotificationEvent
from tests import factories

NUMBERS = count(1)
HOUR = timedelta(hours=1)


def certificate(
    ends: datetime | None = None,
    *,
    names: tuple[str, ...] = ("www.example.com",),
    places: int = 1,
    **fields: Any,
) -> Certificate:
    """One that ends in two hours unless said otherwise, seen there an hour ago, and still there."""
    number, now = next(NUMBERS), timezone.now()
    ends = ends or now + 2 * HOUR
    values = {"names": list(names), "serial": f"{number:x}", "not_before": ends - timedelta(days=90)}
    values |= {"fingerprint": f"{number:064x}", "not_after": ends, "first_seen": now, "last_seen": now}
    made: Certificate = Certificate.objects.create(**{**values, **fields})
    for place in range(places):
        target = f"host-{number}-{place}.example.com:443"
        watch = Watch.objects.create(target=target, notify=["Webhook:ops@example.com"])
        see(made, watch, now - HOUR)
    return made


def see(one: Certificate, watch: Watch, at: datetime, current: bool = True) -> Sighting:
    sighting: Sighting = Sighting.objects.create(
        certificate=one, watch=watch, place=watch.target, current=current, first_seen=at, last_seen=at
    )
    return sighting


def renew(old: Certificate, *, places: int | None = None, **fields: Any) -> Certificate:
    """Another one, valid for 90 days from then on, is at so many of its places now, or at all of them."""
    ends = old.not_after + timedelta(days=90)
    new = certificate(ends, names=tuple(old.names), places=0, **fields)
    for sighting in list(Sighting.objects.filter(certificate=old).order_by("pk"))[:places]:
        Sighting.objects.filter(pk=sighting.pk).update(current=False)
        see(new, sighting.watch, timezone.now())
    return new


def about(*certificates: Certificate, make: Any = factories.pending, **fields: Any) -> NotificationEvent:
    """An alert about these, in the state that the factory makes."""
    event: NotificationEvent = make(**fields)
    Deadline.objects.create(
        notification=event,
        not_after=min(one.not_after for one in certificates),
        fingerprints=[one.fingerprint for one in certificates],
    )
    return event


def alerts_in_line(count: int) -> tuple[Certificate, list[NotificationEvent]]:
    """(a certificate, alerts about it in the order in which they are due)."""
    old = certificate()
    return old, [about(old, created_at=factories.ago(minutes=2 * count - n)) for n in range(count)]


def wipe() -> None:
    Watch.objects.all().delete()
    Certificate.objects.all().delete()
