"""Which targets one looks at oneself: each is looked at by one at a time.

The claim is `next_check_at` moved to the end of a lease, by a compare-and-set; that value is the token, too:
what was seen is recorded only where it still stands. Who dies loses nothing, for the target is due again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from random import randrange

from django.db.models import Q

from .. import database
from .models import Watch, due, is_due

LEASE = timedelta(minutes=15)
BATCH = 500


def claim(now: datetime, host: str, count: int = BATCH) -> list[Watch]:
    """Up to `count` of those that are due at `now`, the longest due first. What another program holds is
    passed over."""
    with database.atomic():
        ids = list(database.unlocked(due(now, host)).values_list("pk", flat=True)[:count])
        return _take(ids, now, is_due(now))


def claim_these(ids: Collection[int], now: datetime) -> list[Watch]:
    """Those of them that nobody is looking at, whenever they are due. Of what a claim has moved nothing tells
    it from what is due soon: either is looked at twice at worst."""
    with database.atomic():
        free = database.unlocked(Watch.objects.filter(pk__in=ids))
        return _take(list(free.values_list("pk", flat=True)), now)


def release(claimed: Iterable[Watch]) -> None:
    """Give back what was claimed and not looked at: it is due now; what another program holds, when the claim
    ends."""
    by_token: dict[datetime, list[int]] = defaultdict(list)
    for watch in claimed:
        by_token[watch.next_check_at].append(watch.pk)
    for token, ids in by_token.items():
        now = database.database_now()
        with database.atomic():
            ours = database.unlocked(Watch.objects.filter(pk__in=ids, next_check_at=token))
            Watch.objects.filter(pk__in=list(ours.values_list("pk", flat=True))).update(next_check_at=now)


def _take(ids: list[int], now: datetime, *guard: Q) -> list[Watch]:
    """The token is the claim's own: no two have the same microsecond by chance but once in a million."""
    token = now + LEASE + timedelta(microseconds=randrange(1_000_000))  # noqa: S311  (nobody's secret)
    mine = Watch.objects.filter(*guard, pk__in=ids)
    if not ids or not mine.update(next_check_at=token):
        return []
    return list(Watch.objects.filter(pk__in=ids, next_check_at=token))
