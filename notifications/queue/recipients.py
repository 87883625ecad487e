"""Which addresses of a recipient have answered: what reached three of four is not sent to the three again.

Of a notification with one recipient nothing is written or read: its status says it all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from ..models import RecipientAnswer
from ..text import tidy
from .claim import Claimed

Row = tuple[str, str, str, datetime]


def recall(claimed: list[Claimed]) -> None:
    """Give each notification that has several addresses what they answered in earlier attempts."""
    places = {event.id: n for n, event in enumerate(claimed) if event.recipient.count("@") > 1}
    if not places:
        return
    found: dict[str, dict[str, str]] = defaultdict(dict)
    rows: list[Row] = list(
        RecipientAnswer.objects.filter(notification__in=list(places))
        .order_by("at", "id")
        .values_list("notification", "recipient", "refusal", "at")
    )
    for pk, recipient, refusal, at in rows:
        if not refusal or at >= claimed[places[pk]].due_at:
            found[pk][recipient] = refusal
    for pk, answered in found.items():
        claimed[places[pk]] = claimed[places[pk]]._replace(answered=answered)


def remember(answers: Mapping[str, Mapping[str, str]], *, now: datetime) -> None:
    """Write what single addresses answered, by notification, in the transaction that records the attempts."""
    RecipientAnswer.objects.bulk_create(
        RecipientAnswer(notification_id=pk, recipient=recipient, refusal=tidy(refusal) or "", at=now)
        for pk, answered in answers.items()
        for recipient, refusal in answered.items()
    )
