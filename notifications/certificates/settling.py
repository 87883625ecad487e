"""What a renewal means for the alerts that were raised before it, and what it means that it was none."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Concat

from .. import database
from ..deaths.follow import SOLVED
from ..models import Escalation, NotificationEvent, Withdrawal, relevance
from .models import ENDS, Raised, Sighting, Watch

BY, VIA = "system", "watch"
AGAIN = timedelta(days=1)


def settle(certificates: Collection[int]) -> None:
    """Withdraw and solve the alerts about these, where they were renewed. They are known by what was raised,
    and by what was raised in the place of these."""
    if not certificates:
        return
    raised = Raised.objects.filter(certificate__in=certificates).exclude(event="")
    more = events = set(raised.values_list("event", flat=True))
    while more:
        links = Escalation.objects.filter(notification__in=more).values_list("raised", flat=True)
        more = set(links) - events
        events |= more
    rows = NotificationEvent.objects.filter(pk__in=events)
    rows.withdraw(by=BY, via=VIA)
    rows.solve()


def settle_again(now: datetime) -> None:
    """The same of all that were renewed within a day: what a worker had in hand when the renewal was seen was
    neither withdrawn nor solved then, and has been sent since, or died."""
    new = Sighting.objects.filter(watch=OuterRef("watch"), place=OuterRef("place"), current=True)
    new = new.filter(first_seen__gte=now - AGAIN, first_seen__gt=OuterRef("last_seen"))
    old = Sighting.objects.filter(Exists(new), current=False, watch__in=_renewed_lately(now))
    settle(set(old.values_list("certificate", flat=True)))


def _renewed_lately(now: datetime) -> list[int]:
    """An index knows: which watches saw something new."""
    lately = Sighting.objects.filter(current=True, first_seen__gte=now - AGAIN)
    return list(lately.order_by().values_list("watch", flat=True).distinct())


def unsettle(certificates: Collection[int], now: datetime) -> None:
    """Of these, which are shown now, the alerts that were withdrawn or solved, although nobody is certain any
    more that they were renewed: that they were raised counts no more, so that they are raised anew.

    A server that shows two certificates in turn looks like one that was renewed, until it shows the old one
    again.
    """
    withdrawn = Withdrawal.objects.filter(notification=OuterRef("event"))
    solved = NotificationEvent.objects.filter(dedup_key=Concat(Value(SOLVED), OuterRef("event")))
    rows = Raised.objects.filter(certificate__in=certificates, undone_at=None, what__startswith=ENDS)
    ended = list(rows.filter(Exists(withdrawn) | Exists(solved))) if certificates else []
    if not ended:
        return
    events = NotificationEvent.objects.filter(pk__in={row.event for row in ended})
    over = relevance.renewed(events.only("type", "certificate_id", "created_at"))
    undone = [row for row in ended if row.event not in over]
    for row in undone:
        row.key = hashlib.sha256(f"{row.key}\0{row.event}".encode()).hexdigest()
        row.undone_at = now
    Raised.objects.bulk_update(undone, ["key", "undone_at"], batch_size=200)


def remove(watches: Collection[int]) -> None:
    """Watch these no more. What only they still showed may be renewed everywhere else."""
    with database.atomic():
        shown = Sighting.objects.filter(watch__in=watches, current=True)
        certificates = set(shown.values_list("certificate", flat=True))
        Watch.objects.filter(pk__in=watches).delete()
        settle(certificates)
