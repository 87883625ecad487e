"""What a renewal means for the alerts that were raised before it, and what it means that it was none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import OperationalError
from django.db.models import Exists, OuterRef

from .. import database
from ..database import kind_of, no_long_wait, said
from ..deaths.escalation import PREFIX
from ..deaths.follow import SOLVED
from ..models import Deadline, NotificationEvent, Status, Withdrawal
from .models import ENDS, STALE, Raised, Sighting, Watch

logger = logging.getLogger(__name__)

BY, VIA = "system", "watch"
AGAIN = timedelta(days=1)


def settle(certificates: Collection[int], now: datetime) -> None:
    """Withdraw and solve the alerts about these, where they were renewed. They are known by what was raised,
    and by what was raised in the place of these. What another program holds is left to `settle_again`.

    Call it in a transaction.
    """
    rows = _raised(certificates)
    if not rows:
        return
    chains = _chains({row.event for row in rows})
    events = NotificationEvent.objects.filter(pk__in=_free({pk for chain in chains.values() for pk in chain}))
    events.withdraw(by=BY, via=VIA)
    events.solve()
    settled = _settled(chains)
    ids = [row.pk for row in rows if row.event in settled and row.settled_at is None]
    free = database.unlocked(Raised.objects.filter(pk__in=ids))
    Raised.objects.filter(pk__in=list(free.values_list("pk", flat=True))).update(settled_at=now)


def _free(events: Collection[str]) -> set[str]:
    """Those of them that are not settled yet, and of which nobody else holds anything: they are ours now."""
    done = Deadline.objects.filter(settled=True, notification__in=events).values("notification")
    rows = NotificationEvent.objects.filter(pk__in=events).order_by("pk")
    rows = rows.exclude(status__in=(Status.SENT, Status.READ), pk__in=done)
    ours = set(database.unlocked(rows).values_list("pk", flat=True))
    known = Deadline.objects.filter(notification__in=ours).order_by("pk")
    free = set(database.unlocked(known).values_list("notification", flat=True))
    return ours - (set(known.values_list("notification", flat=True)) - free)


def _raised(certificates: Collection[int]) -> list[Raised]:
    """What still counts as raised of their ends."""
    rows = Raised.objects.filter(certificate__in=certificates, undone_at=None, what__startswith=ENDS)
    return list(rows.exclude(event="")) if certificates else []


def _chains(events: Collection[str]) -> dict[str, list[str]]:
    """Each with all that was raised in its place, on one channel after the other. What was deleted of them
    breaks no chain: the keys name the ids."""
    chains = {pk: [pk] for pk in events}
    of = {pk: pk for pk in events}
    while of:
        keys = [PREFIX + pk for pk in of]
        rows = NotificationEvent.objects.filter(dedup_key__in=keys).values_list("dedup_key", "pk")
        of = {pk: of[str(key).removeprefix(PREFIX)] for key, pk in rows}
        for pk, first in of.items():
            chains[first].append(pk)
    return chains


def _settled(chains: Mapping[str, Sequence[str]]) -> set[str]:
    """Those of which something was withdrawn or solved."""
    first = {pk: start for start, chain in chains.items() for pk in chain}
    withdrawn = Withdrawal.objects.filter(notification__in=list(first)).values_list("notification", flat=True)
    solved = NotificationEvent.objects.filter(dedup_key__in=[SOLVED + pk for pk in first])
    keys = [str(key).removeprefix(SOLVED) for key in solved.values_list("dedup_key", flat=True)]
    return {first[pk] for pk in (*withdrawn, *keys)}


def settle_again(now: datetime) -> None:
    """The same of all that were renewed within a day: what a worker had in hand when the renewal was seen was
    neither withdrawn nor solved then, and has been sent since, or died."""
    new = Sighting.objects.filter(watch=OuterRef("watch"), place=OuterRef("place"), current=True)
    new = new.filter(first_seen__gte=now - AGAIN, first_seen__gt=OuterRef("last_seen"))
    old = Sighting.objects.filter(Exists(new), current=False, watch__in=_renewed_lately(now))
    try:
        with database.atomic(), no_long_wait():
            settle(set(old.values_list("certificate", flat=True)), now)
            database.check_now()
    except OperationalError as error:
        if kind_of(error) != "contended":
            raise
        logger.warning("what was renewed is settled in a later round: %s", said(error))


def _renewed_lately(now: datetime) -> list[int]:
    """An index knows: which watches saw something new."""
    lately = Sighting.objects.filter(current=True, first_seen__gte=now - AGAIN)
    return list(lately.order_by().values_list("watch", flat=True).distinct())


def unsettle(certificates: Collection[int], now: datetime) -> None:
    """These are shown now, so they were not renewed: where their alerts were withdrawn or solved, that they
    were raised counts no more, and they are raised anew.

    A server that shows two certificates in turn looks like one that was renewed, until it shows the old one
    again.
    """
    rows = _raised(certificates)
    if not rows:
        return
    settled = _settled(_chains({row.event for row in rows}))
    _undo([row for row in rows if row.settled_at or row.event in settled], now)


def tell_again(over: Collection[Sighting], now: datetime) -> None:
    """That these were renewed and not reloaded, should they be shown there once more."""
    places = {(row.certificate_id, f"{row.watch_id}") for row in over}
    rows = Raised.objects.filter(certificate__in={certificate for certificate, _ in places}, undone_at=None)
    stale = rows.filter(what__startswith=STALE) if over else ()
    _undo([row for row in stale if (row.certificate_id, row.what.rpartition(":")[2]) in places], now)


def _undo(rows: Sequence[Raised], now: datetime) -> None:
    for row in rows:
        row.key = hashlib.sha256(f"{row.key}\0{row.event}".encode()).hexdigest()
        row.undone_at = now
    Raised.objects.bulk_update(rows, ["key", "undone_at"], batch_size=200)


def remove(watches: Collection[int]) -> None:
    """Watch these no more. What only they kept from being settled may be renewed everywhere else."""
    with database.atomic():
        seen = set(Sighting.objects.filter(watch__in=watches).values_list("certificate", flat=True))
        Watch.objects.filter(pk__in=watches).delete()
        settle(seen, database.database_now())
