"""What some notifications have in common, for whoever is about to change them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.db.models import Count
from django.utils.module_loading import import_string

from .. import conf
from ..models import AttemptOutcome, DeliveryAttempt
from .errors import Group, merged
from .walking import Found

UNSURE = (AttemptOutcome.UNKNOWN, AttemptOutcome.INTERRUPTED)


@dataclass
class Survey:
    """found: newest first."""

    found: Sequence[Found]

    @cached_property
    def channels(self) -> list[tuple[str, int]]:
        """Old rows say `email`, new ones `Email`: one channel."""
        names = {row.channel.casefold(): row.channel for row in reversed(self.found)}
        counts = Counter(row.channel.casefold() for row in self.found)
        return [(names[folded], count) for folded, count in counts.most_common()]

    @cached_property
    def groups(self) -> list[Group]:
        return merged((row.channel, row.problem, 1, row.created_at, row.created_at) for row in self.found)

    @property
    def oldest(self) -> datetime | None:
        return min((row.created_at for row in self.found), default=None)

    @cached_property
    def arrived(self) -> int:
        """How many may have arrived already, where a repeat would be seen twice."""
        repeats = {channel.casefold() for channel in repeating()}
        ids = [row.pk for row in self.found if row.channel.casefold() in repeats]
        attempts = DeliveryAttempt.objects.filter(notification_id__in=ids, outcome__in=UNSURE)
        found = attempts.aggregate(count=Count("notification_id", distinct=True)) if ids else {"count": 0}
        return int(found["count"])


def repeating() -> list[str]:
    """The channels whose provider shows a repeated message again."""
    found = []
    for name, options in conf.current().channels.items():
        notifier = import_string(str(options["NOTIFIER"]))
        if not getattr(notifier, "folds_repeats", False):
            found.append(name)
    return found
