"""What a success ends: the alerts that its failures opened, for providers that keep alerts open.

Only a renewal's success: that of a deployment may have been to another place than its failure.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from ..models import NotificationEvent, Status
from ..models.solving import SOLVED_TYPE, solves
from ..notifiers.base import NOT_KNOWN
from ..text import fold
from .claim import Claimed

logger = logging.getLogger(__name__)

SUCCESSES = ("RenewalSuccess", "renewal_success")
FAILURES = ("RenewalFailure", "renewal_failure")
DELIVERED = (Status.SENT, Status.READ)
MOST_OPENED = 20  # of one certificate on one channel, the newest

Place = tuple[str, str | None]


def told(claimed: list[Claimed], channels: Collection[str]) -> None:
    """Tell the successes among the claimed which delivered failures they end: `opened`, the newest first.

    channels  by their folded names, those whose provider can be told; without such a success the database is
              not asked. Without its answer the successes go out all the same: they are claimed already.
    """
    _tell_what_is_solved(claimed, channels)
    ending = {
        n: event
        for n, event in enumerate(claimed)
        if event.type in SUCCESSES and event.certificate_id and fold(event.channel) in channels
    }
    try:
        failures = _failures(list(ending.values())) if ending else {}
    except Exception as error:
        logger.warning("which open alerts the renewals end is not known: %s", error)
        return
    for n, event in ending.items():
        before = [pk for raised, pk in failures.get(_place(event), ()) if raised <= event.created_at]
        claimed[n] = event._replace(opened=tuple(before))


def _tell_what_is_solved(claimed: list[Claimed], channels: Collection[str]) -> None:
    """A notification that an alert is solved ends just that one. Where it is not known which, it waits."""
    solved = {
        event.id: n
        for n, event in enumerate(claimed)
        if event.type == SOLVED_TYPE and fold(event.channel) in channels
    }
    if not solved:
        return
    try:
        rows = NotificationEvent.objects.filter(pk__in=list(solved))
        ends = {pk: solves(key) for pk, key in rows.values_list("pk", "dedup_key")}
    except Exception as error:
        logger.warning("which alerts are solved is not known yet: %s", error)
        ends = dict.fromkeys(solved, NOT_KNOWN)
    for pk, n in solved.items():
        if opened := ends.get(pk, NOT_KNOWN):
            claimed[n] = claimed[n]._replace(opened=(opened,))


def _failures(successes: Sequence[Claimed]) -> dict[Place, list[tuple[datetime, str]]]:
    newest = Window(
        RowNumber(),
        partition_by=[F("certificate_id"), F("channel")],
        order_by=[F("created_at").desc(), F("id").desc()],
    )
    rows = NotificationEvent.objects.filter(
        certificate_id__in={event.certificate_id for event in successes},
        type__in=FAILURES,
        status__in=DELIVERED,
    )
    found = defaultdict[Place, list[tuple[datetime, str]]](list)
    for row in (
        rows.defer("message")
        .annotate(place=newest)
        .filter(place__lte=MOST_OPENED)
        .order_by("-created_at", "-id")
    ):
        found[_place(row)].append((row.created_at, row.pk))
    return found


def _place(event: NotificationEvent | Claimed) -> Place:
    return fold(event.channel), event.certificate_id
