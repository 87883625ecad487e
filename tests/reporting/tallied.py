"""Tallies as workers leave them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from notifications.models import Tally
from notifications.models.tallies import COUNTS, EPOCH


def tally(channel: str, outcome: str, hour: datetime = EPOCH, **counts: Any) -> Tally:
    """A row of notification_tallies; what is not given is 0."""
    values = dict.fromkeys(COUNTS, 0) | {"attempts": 1} | counts
    made: Tally = Tally.objects.create(hour=hour, channel=channel, outcome=outcome, **values)
    return made
