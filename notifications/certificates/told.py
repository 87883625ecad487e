"""Were we warned, whom, when, did it arrive: what was raised of a certificate, and what became of each alert.

Said here, once, for the admin, REST, assistants and the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from ..deaths.follow import SOLVED
from ..durations import minute
from ..models import NotificationEvent, Status
from ..models.solving import solves
from ..operations.filters import SEEN, WITHDRAWN
from ..reporting import words
from . import thresholds
from .messages import safe, several, share
from .models import ENDS, Certificate, Raised, Watch
from .thresholds import Threshold
from .verdicts import VERDICTS

MOST = 200  # alerts of one certificate, or one watch
PRUNED = "pruned"
WHAT = {
    "revoked": "revoked",
    "unreadable": "nothing could be read there",
    "stale": "renewed and not reloaded",
    "renewed": "renewed",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One alert to one recipient.

    what    that it was raised of
    event   the notification; None where it was pruned
    solved  the notification that resolved it after a renewal, where one was raised
    """

    row: Raised
    what: str
    event: NotificationEvent | None
    solved: NotificationEvent | None = None

    @property
    def state(self) -> str:
        """The notification's, in the word that all surfaces have for it."""
        return words.kind(self.event) if self.event else PRUNED

    @property
    def status(self) -> str:
        """The same, as people read it."""
        return self.state.replace("_", " ")

    @property
    def delivered_at(self) -> datetime | None:
        return words.sent_at(self.event) if self.event and self.arrived else None

    @property
    def arrived(self) -> bool:
        return self.state in (Status.SENT, SEEN)

    @property
    def error(self) -> str:
        return words.error(self.event) if self.event and not self.arrived else ""

    def fields(self) -> dict[str, Any]:
        """For programs."""
        return {
            "what": self.row.what,
            "text": self.what,
            "channel": self.row.channel,
            "recipient": self.row.recipient,
            "at": self.row.at,
            "notification": self.row.event,
            "status": self.state,
            "delivered_at": self.delivered_at,
            "attempts": (self.event.retry_count + self.arrived) if self.event else None,
            "error": self.error or None,
            "solved": self._solved_fields(),
        }

    def _solved_fields(self) -> dict[str, Any] | None:
        if self.solved is None:
            return None
        told = Told(self.row, "", self.solved)
        return {"notification": self.solved.pk, "status": told.state, "delivered_at": told.delivered_at}


def of(certificates: Collection[int], watch: Watch | None = None) -> list[Told]:
    """The newest alerts about these certificates, or the watch, oldest first."""
    about = Q(certificate__in=list(certificates)) | (Q(watch=watch) if watch else Q(pk=None))
    rows = Raised.objects.filter(about).exclude(event="").order_by("-at", "-id")[: MOST * 2]
    # The most urgent threshold is written last of those that it covers.
    latest: dict[tuple[Any, ...], Raised] = {}
    for row in rows:
        latest.setdefault((row.event, row.certificate_id, row.what.partition(":")[0]), row)
    shown = list(latest.values())[:MOST][::-1]
    events = NotificationEvent.objects.filter(pk__in={row.event for row in shown}).defer("message")
    by_id = {event.pk: event for event in events.with_kind()}
    solving = _solving({row.event for row in shown})
    return [Told(row, what(row.what), by_id.get(row.event), solving.get(row.event)) for row in shown]


def _solving(ids: Collection[str]) -> dict[str, NotificationEvent]:
    """The notifications that resolve these, by the ids of these."""
    keys = [f"{SOLVED}{one}" for one in ids]
    events = NotificationEvent.objects.filter(dedup_key__in=keys).defer("message").with_kind()
    return {solves(event.dedup_key): event for event in events}


def what(raised: str) -> str:
    """What an alert was raised of, in words."""
    kind, _, rest = raised.partition(":")
    if raised.startswith(ENDS):
        return left(thresholds.parse(rest))
    if kind == "wrong":
        return f"refused by clients that verify: {rest.replace('_', ' ').replace(',', ', ')}"
    if kind == "changed":
        return f"another {rest.replace(',', ' and ')}"
    return WHAT.get(kind, kind.replace("_", " "))


def left(threshold: Threshold) -> str:
    """`a third left`, `5 % left`, `30 days left`, `the end`."""
    if threshold.share:
        return f"{share(threshold)} left"
    seconds = threshold.left.total_seconds()
    return f"{words.duration(seconds)} left" if seconds else "the end"


@dataclass(frozen=True, slots=True)
class Answer:
    """tone: sent, failed or dead, as the console's colours are called."""

    text: str
    tone: str = "sent"


def answer(certificate: Certificate, told: Sequence[Told], watches: Iterable[Watch], now: datetime) -> Answer:
    """One sentence to the question of this page."""
    watches = list(watches)
    said = _of_those(told) if told else _of_none(certificate, watches, now)
    if not (watches and certificate.not_after <= now):
        return said
    over = f"It expired {words.ago(certificate.not_after, now)}, and is still shown."
    return Answer(f"{over} {said.text}", "dead")


def _of_none(certificate: Certificate, watches: Sequence[Watch], now: datetime) -> Answer:
    if not watches:
        return Answer("Nobody was warned. It is not seen at any place now, so nobody will be.")
    if not any(watch.tells for watch in watches):
        return Answer(
            "Nobody was warned, and nobody will be: no watch that sees it says whom to tell.", "dead"
        )
    ahead = [moment for moment in moments(certificate, watches) if moment[1] > now]
    if ahead:
        threshold, at = ahead[0]
        return Answer(
            f"Nobody needed to be warned yet. The first alert is due on {minute(at)}: {left(threshold)}."
        )
    return Answer("Nobody was warned yet. The next look does it.", "failed")


def _of_those(told: Sequence[Told]) -> Answer:
    arrived = [one for one in told if one.arrived]
    lost = [one for one in told if one.state == Status.DEAD or one.state == "not_delivered"]
    waiting = [one for one in told if one.state in (Status.PENDING, Status.FAILED)]
    number = f"{len(told)} {'alert was' if len(told) == 1 else 'alerts were'} raised"
    parts = [f"{len(arrived)} arrived"] if arrived else []
    parts += [f"{len(lost)} could not be delivered"] if lost else []
    parts += [f"{len(waiting)} on the way"] if waiting else []
    withdrawn = sum(one.state == WITHDRAWN for one in told)
    parts += [f"{withdrawn} withdrawn, as it was renewed before"] if withdrawn else []
    rest = len(told) - len(arrived) - len(lost) - len(waiting) - withdrawn
    parts += [f"{rest} dismissed or pruned since"] if rest else []
    said = f"{number}: {', '.join(parts)}."
    if arrived:
        last = arrived[-1]
        to = f"{safe(last.row.recipient)} on {safe(last.row.channel)}"
        when = f" on {minute(last.delivered_at)}" if last.delivered_at else ""
        said += f" The last reached {to}{when}."
    if lost and not arrived:
        return Answer(said, "dead")
    return Answer(said, "failed" if lost or (waiting and not arrived) else "sent")


def moments(certificate: Certificate, watches: Iterable[Watch]) -> list[tuple[Threshold, datetime]]:
    """When it passes which threshold: of those that see it, or the default ones; in order."""
    told = [threshold for watch in watches if watch.tells for threshold in watch.thresholds]
    each = {threshold.text: threshold for threshold in told or thresholds.parse_all([])}
    dates = certificate.not_before, certificate.not_after
    return sorted(((one, one.moment(*dates)) for one in each.values()), key=lambda pair: pair[1])


def verdicts_in_words(found: Iterable[str]) -> str:
    """What a client that verifies says against it; "" for nothing."""
    return " and ".join(VERDICTS[one] for one in sorted(found) if one in VERDICTS)


def recipients(watches: Iterable[Watch]) -> str:
    return several([text for watch in watches for text in watch.tells], 5)
