"""When the certificates end that notifications are about, and what became of them, for the engine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from django.db.models import Exists, OuterRef

from ..database import kind_of, said
from ..durations import URGENT
from ..models import Deadline, NotificationEvent, Status, certctl, relevance
from ..models.fields import UNDELIVERED
from .batch import in_parts, reason_of
from .claim import Claimed

logger = logging.getLogger(__name__)

BY, VIA = "system", "worker"
MOST = 1_000  # that one sweep looks at
FORGOTTEN = timedelta(days=30)  # after its end nobody asks certctl whether a certificate was renewed
LAST_YEAR = 9000  # a certificate of certctl's that ends later has no end


def recall(claimed: list[Claimed], now: datetime, *, beside_certctl: bool) -> None:
    """Give those of certctl's expiry warnings that have no end the one that certctl knows, and keep it: what
    is renewed later ends later. Can do without the database's answer."""
    places = {
        n: event.certificate_id
        for n, event in enumerate(claimed)
        if beside_certctl and event.not_after is None and event.certificate_id and is_expiry(event)
    }
    if not places:
        return
    try:
        known = certctl.certificates(set(places.values()))
        found = {
            n: ends
            for n, pk in places.items()
            if pk in known and (ends := _end_of(known[pk], claimed[n])) is not None
        }
        _keep({claimed[n].id: ends for n, ends in found.items()})
    except Exception as error:
        logger.warning("when certctl's certificates end is not known: %s", said(error))
        return
    for n, ends in found.items():
        claimed[n] = claimed[n]._replace(not_after=ends)


def _end_of(certificate: certctl.Certificate, event: Claimed) -> datetime | None:
    """What was renewed after the alert ends when the alert's certificate did not."""
    ends, renewed_at = certificate.expires_at, certificate.renewed_at
    if ends is None or ends.year > LAST_YEAR or (renewed_at and renewed_at > event.created_at):
        return None
    return ends


def _keep(ends: dict[str, datetime]) -> None:
    rows = [Deadline(notification_id=pk, not_after=at) for pk, at in sorted(ends.items())]
    Deadline.objects.bulk_create(rows, ignore_conflicts=True)


def is_expiry(event: Claimed) -> bool:
    return event.type in relevance.EXPIRY


class Withdrawn(NamedTuple):
    """over: the ids of what was withdrawn; refused: of what the database lets nobody withdraw."""

    over: Set[str] = frozenset()
    refused: Set[str] = frozenset()


def can_be_over(event: Claimed, *, beside_certctl: bool) -> bool:
    """Whether somebody can know that its certificate was renewed."""
    return is_expiry(event) and (event.not_after is not None or bool(beside_certctl and event.certificate_id))


def renewed(events: Sequence[Claimed]) -> Set[str]:
    """The ids of those that are about certificates that were renewed since, as far as that is known. Raises
    django.db's errors where the database is away."""
    try:
        return relevance.renewed(events).keys()
    except Exception as error:
        if kind_of(error) == "away":
            raise
        logger.warning("what was renewed since is not known, and is sent: %s", said(error))
        return frozenset()


def withdraw(events: Iterable[Claimed], now: datetime) -> Withdrawn:
    """Withdraw those of a worker's own that were renewed since. What is left is sent: what the database
    refuses, and where others are in the way. Raises its errors where it is away: it may have done so."""
    over, refused, by_lease = set[str](), set[str](), dict[datetime, list[str]]()
    for event in events:
        by_lease.setdefault(event.leased_until, []).append(event.id)
    try:
        for lease, ids in by_lease.items():
            these, cannot = partial(_withdraw, now=now, lease=lease), partial(_cannot, refused)
            over.update(*in_parts(ids, these, cannot, "withdrawing"))
    except Exception as error:
        if kind_of(error) == "away":
            raise
        logger.warning("what was renewed since cannot be withdrawn now, and is sent: %s", said(error))
    return Withdrawn(over, refused)


def _withdraw(ids: Sequence[str], *, now: datetime, lease: datetime) -> Set[str]:
    rows = NotificationEvent.objects.filter(pk__in=ids)
    why: dict[str, str] = rows.withdraw_batch({"by": BY, "via": VIA}, now, lease=lease)
    for pk, reason in why.items():
        logger.info("notification %s is withdrawn: %s", pk, reason)
    return why.keys()


def _cannot(refused: set[str], pk: str, error: Exception) -> Set[str]:
    logger.warning("notification %s cannot be withdrawn, and is sent: %s", pk, reason_of(error))
    refused.add(pk)
    return frozenset()


def keep_up(now: datetime, *, beside_certctl: bool) -> None:
    """At the beginning of a sweep: what ends soon is known, also of certctl's, and what has ended its way is
    looked through no more. Raises django.db's errors where the database is away, or not as it should be."""
    try:
        if beside_certctl:
            _adopt(now)
            _settle(now)
        _put_right(now)
    except Exception as error:
        if kind_of(error) not in ("contended", "refused"):
            raise
        logger.warning("which alerts are urgent is not known anew: %s", said(error))


def _adopt(now: datetime) -> None:
    """The undelivered alerts about certctl's certificates that end within a day."""
    soon = certctl.ending(now - URGENT, now + URGENT, MOST)
    if not soon:
        return
    rows = NotificationEvent.objects.filter(certificate_id__in=list(soon), status__in=UNDELIVERED)
    unknown = rows.filter(~Exists(Deadline.objects.filter(notification=OuterRef("pk"))))
    found: Sequence[tuple[str, str | None]] = list(unknown.values_list("pk", "certificate_id")[:MOST])
    _keep({pk: soon[name] for pk, name in found if name in soon})


def _settle(now: datetime) -> None:
    """Withdraw the dead letters about certctl's certificates that were renewed since, and solve what was
    delivered."""
    if not relevance.wanted():
        return
    ids = certctl.outlived(relevance.EXPIRY, now - FORGOTTEN, relevance.INEXACT, MOST)
    if not ids:
        return
    rows = NotificationEvent.objects.filter(pk__in=ids)
    rows.withdraw(by=BY, via=VIA, now=now)
    rows.solve()
    over = rows.filter(status__in=(Status.SENT, Status.READ)).values("pk")
    Deadline.objects.filter(notification__in=over).update(settled=True)


def _put_right(now: datetime) -> None:
    waits = NotificationEvent.objects.filter(pk=OuterRef("notification"), status__in=UNDELIVERED)
    urgent = Deadline.objects.filter(waiting=True, not_after__lt=now + URGENT)
    ended = list(urgent.exclude(Exists(waits)).order_by("not_after").values_list("pk", flat=True)[:MOST])
    if ended:
        Deadline.objects.filter(pk__in=ended).update(waiting=False)
