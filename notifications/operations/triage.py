"""What people say of dead letters that failed alike: not now, mine, what it is. A snoozed group is folded
away, never left out of a count.

A snooze ends by itself: at its time, or when so many more of the group have died. Nobody has to wake it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F

from .. import database
from ..deaths.fingerprints import fingerprint
from ..models import AttemptOutcome, DeliveryAttempt, GroupNote, NotificationEvent
from ..models.fields import Folded
from ..text import fold
from .filters import with_problem
from .walk import NEWEST

LOOKED_AT = 5_000  # failed attempts, and young dead letters, in which the growth of groups is counted


@dataclass(frozen=True, slots=True)
class Standing:
    """What was said of a group. snoozed: now.

    grown  how many died since it was snoozed; None where that is not asked, or more failed since than are
           looked at
    """

    note: GroupNote
    snoozed: bool
    grown: int | None = None


class Overtaken(Exception):
    """Somebody else has changed what is said of the group since it was looked at. by, at: who, when."""

    def __init__(self, note: GroupNote) -> None:
        found = ((note.snoozed_at, note.snoozed_by), (note.assigned_at, note.assigned_by))
        known = [(at, by) for at, by in (*found, (note.noted_at, note.noted_by)) if at]
        self.at: datetime | None
        self.at, self.by = max(known) if known else (None, "")
        super().__init__(f"{self.by or 'somebody'} has changed it")


def standings(groups: Iterable[tuple[str, str]], now: datetime) -> dict[str, Standing]:
    """Of (channel, error) those of which something was said, by GroupNote.key_of."""
    keys = {GroupNote.key_of(*group) for group in groups}
    notes: list[GroupNote] = list(GroupNote.objects.filter(key__in=keys)) if keys else []
    open_ = [note for note in notes if note.snoozed_growth and not _over(note, now)]
    grown = _grown(open_) if open_ else {}
    return {note.key: _standing(note, now, grown) for note in notes}


def _over(note: GroupNote, now: datetime) -> bool:
    return note.snoozed_until is not None and note.snoozed_until <= now


def _standing(note: GroupNote, now: datetime, grown: dict[str, int | None]) -> Standing:
    if note.key not in grown:
        return Standing(note, note.snoozed_until is not None and not _over(note, now))
    number = grown[note.key]
    return Standing(note, number is not None and number < (note.snoozed_growth or 0), number)


def _grown(notes: Sequence[GroupNote]) -> dict[str, int | None]:
    """How many of each group died since it was snoozed. None of all: more failed than are looked at, so that
    nobody can say that it is still to be left alone."""
    since = min(note.snoozed_at for note in notes if note.snoozed_at)
    failures = DeliveryAttempt.objects.filter(started_at__gte=since).exclude(outcome=AttemptOutcome.SENT)
    newest = list(failures.order_by("-started_at").values_list("notification", "started_at")[: LOOKED_AT + 1])
    dead: Any = with_problem(NotificationEvent.objects.dead()).annotate(folded=Folded("channel"))
    dead = dead.filter(folded__in={fold(note.channel) for note in notes})
    facts = ("pk", "folded", "problem", "created_at")
    young = list(dead.filter(created_at__gte=since).order_by(*NEWEST).values_list(*facts)[: LOOKED_AT + 1])
    if max(len(newest), len(young)) > LOOKED_AT:
        return dict.fromkeys((note.key for note in notes), None)
    last: dict[str, datetime] = {}
    for pk, at in newest:
        last.setdefault(pk, at)
    older = dead.filter(created_at__lt=since, pk__in=list(last)).values_list(*facts)
    died = [
        (GroupNote.key_of(channel, fingerprint(problem)), last.get(pk, raised))
        for pk, channel, problem, raised in (*young, *older)
    ]
    wanted = {note.key: note.snoozed_at for note in notes}
    counts = Counter(key for key, at in died if key in wanted and at >= wanted[key])
    return {key: counts[key] for key in wanted}


# Decisions


def snooze(
    channel: str,
    error: str,
    *,
    version: int,
    by: str,
    now: datetime,
    until: datetime | None = None,
    growth: int | None = None,
) -> GroupNote:
    """Fold the group away until then, or until so many more have died; neither ends a snooze.

    version  of what was looked at, 0 where nothing was said yet. Raises Overtaken
    """
    when = {"snoozed_at": now, "snoozed_by": by}
    return _decide(channel, error, version, **when, snoozed_until=until, snoozed_growth=growth)


def assign(channel: str, error: str, *, version: int, by: str, now: datetime, to: str) -> GroupNote:
    """to: "" makes it nobody's. Raises Overtaken."""
    return _decide(channel, error, version, assigned_to=to, assigned_by=by, assigned_at=now)


def take_note(channel: str, error: str, *, version: int, by: str, now: datetime, text: str) -> GroupNote:
    """text: in place of the last one. Raises Overtaken."""
    return _decide(channel, error, version, note=text, noted_by=by, noted_at=now)


def _decide(channel: str, error: str, version: int, **said: Any) -> GroupNote:
    known = {"channel": fold(channel), "error": error}
    with database.atomic():
        note: GroupNote
        note, _ = GroupNote.objects.get_or_create(key=GroupNote.key_of(channel, error), defaults=known)
        rows = GroupNote.objects.filter(pk=note.pk, version=version)
        done = rows.update(version=F("version") + 1, **said)
    note.refresh_from_db()
    if not done:
        raise Overtaken(note)
    return note
