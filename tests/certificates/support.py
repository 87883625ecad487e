"""Watches, and looks at them at given times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from notifications.certificates.claims import claim_these
from notifications.certificates.facts import facts_of
from notifications.certificates.models import Watch
from notifications.certificates.readings import Reading, Seen
from notifications.certificates.record import Recorded, record
from notifications.certificates.round import look_at_all
from notifications.certificates.verdicts import Verdict, of_time
from notifications.models import NotificationEvent
from tests.certificates.authority import Issued

TO = ["Slack:#pki"]


def watch(target: str = "www.example.com:443", **fields: Any) -> Watch:
    made = Watch(**{"target": target, "notify": TO, **fields})
    made.full_clean()
    made.save()
    return made


def seen(
    now: datetime, *issued: Issued, place: str = "www.example.com:443", verdicts: Sequence[Verdict] = ()
) -> Reading:
    found = []
    for one in issued:
        facts = facts_of(one.der)
        found.append(Seen(place, facts, (*of_time(facts, now), *verdicts)))
    return Reading(tuple(found))


def look(now: datetime, *looked: tuple[Watch, Reading]) -> Recorded:
    """These were seen at the time `now`."""
    claimed = {one.pk: one for one in claim_these([one.pk for one, _ in looked], now)}
    return record([(claimed[one.pk], reading) for one, reading in looked], now, chance=lambda: 0.5)


def look_really(now: datetime, *watches: Watch) -> Recorded:
    """What is there now, as if it were the time `now`."""
    claimed = claim_these([one.pk for one in watches], now)
    readings = look_at_all(claimed, now, seconds=20)
    return record(list(zip(claimed, readings, strict=True)), now, chance=lambda: 0.5)


def alerts(**fields: Any) -> list[NotificationEvent]:
    """Those that were raised, in order."""
    return list(NotificationEvent.objects.filter(**fields).order_by("created_at", "pk"))


def texts(**fields: Any) -> list[str]:
    """Their first lines."""
    return [event.message.partition("\n")[0] for event in alerts(**fields)]


def days(number: float) -> timedelta:
    return timedelta(days=number)
