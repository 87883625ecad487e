"""What happened to a notification, from raised to what comes next, for the page and the shell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ..models import (
    AttemptOutcome,
    DeliveryAttempt,
    Escalation,
    NotificationEvent,
    Reading,
    Requeue,
    Status,
    Withdrawal,
)
from ..models.fields import UNDELIVERED
from . import held, words

NEWEST = 100  # of each kind, and far more than anybody reads: a page must not grow with the years

WIPED = "Error before: "  # what a requeue's detail begins with

Fact = str | int | NotificationEvent


class Kind(StrEnum):
    RAISED = "raised"
    EARLIER = "earlier"  # entries that are not shown
    ATTEMPT = "attempt"
    REQUEUE = "requeue"
    READING = "reading"
    WITHDRAWAL = "withdrawal"
    UNDO = "undo"  # a requeue or a dismissal was taken back
    ESCALATION = "escalation"
    SENT = "sent"  # by somebody who records no attempts
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, or comes next.

    at       None where it has no time
    what     a few words, such as `Attempt 2: failed, and may succeed later`
    who      whose decision it was: `ada via cli`
    facts    (label, value); a value can be another notification
    detail   long, and from outside: the message, an error
    outcome  an attempt's
    """

    kind: Kind
    at: datetime | None
    what: str
    who: str = ""
    facts: tuple[tuple[str, Fact], ...] = ()
    detail: str = ""
    outcome: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.what} by {self.who}" if self.who else self.what


def plain(value: Fact) -> str:
    """As text; another notification is its id."""
    return str(value.pk if isinstance(value, NotificationEvent) else value)


def timeline(event: NotificationEvent, now: datetime) -> list[Entry]:
    """Oldest first; of attempts, requeues and readings the NEWEST ones."""
    attempts = list(event.deliveryattempts.order_by("-started_at", "-id")[: NEWEST + 1])
    requeues = list(event.requeues.order_by("-at", "-id")[: NEWEST + 1])
    readings = list(event.readings.order_by("-at", "-id")[: NEWEST + 1])
    happened = [_attempt(attempt, event.channel) for attempt in attempts[:NEWEST]]
    happened += map(_requeue, requeues[:NEWEST])
    happened += map(_reading, readings[:NEWEST])
    happened += map(_withdrawal, event.withdrawals.order_by("-at", "-id")[:NEWEST])
    happened += _undone([*requeues[:NEWEST], *readings[:NEWEST]])
    happened += [*_escalations(event), *_sent(event, attempts, readings)]
    happened.sort(key=lambda entry: entry.at or now)
    raised = Entry(Kind.RAISED, event.created_at, "Raised", detail=event.message)
    return [raised, *_earlier(attempts, requeues, readings), *happened, *_next(event, now)]


def _attempt(attempt: DeliveryAttempt, channel: str) -> Entry:
    return Entry(
        Kind.ATTEMPT,
        attempt.started_at,
        f"Attempt {attempt.number}: {words.outcome(attempt.outcome)}",
        facts=_given(
            ("Duration", words.duration(attempt.duration_ms / 1000)),
            ("Provider status", attempt.status_code),
            ("Reason", attempt.reason),
            ("Channel", attempt.channel if attempt.channel != channel else None),
            ("Worker", attempt.worker),
        ),
        detail=attempt.error or "",
        outcome=attempt.outcome,
    )


def _undone(decisions: Iterable[Requeue | Reading]) -> Iterator[Entry]:
    for decision in decisions:
        if decision.undone_at:
            what = "Requeue undone" if isinstance(decision, Requeue) else "Restored"
            facts = _given(("Reason", decision.undone_reason), ("Operation", decision.undo_id))
            who = words.decided(decision.undone_by, decision.undone_via)
            yield Entry(Kind.UNDO, decision.undone_at, what, who, facts)


def _requeue(requeue: Requeue) -> Entry:
    return Entry(
        Kind.REQUEUE,
        requeue.at,
        "Requeued",
        words.decided(requeue.by, requeue.via),
        _given(
            ("Status before", requeue.status),
            ("Retry count before", requeue.retry_count),
            ("Reason", requeue.reason),
            ("Operation", requeue.operation_id),
        ),
        f"{WIPED}{requeue.last_error}" if requeue.last_error else "",
    )


def _reading(reading: Reading) -> Entry:
    return Entry(
        Kind.READING,
        reading.at,
        "Dismissed" if reading.status == Status.DEAD else "Seen",
        words.decided(reading.by, reading.via),
        _given(("Reason", reading.reason), ("Operation", reading.operation_id)),
    )


def _withdrawal(withdrawal: Withdrawal) -> Entry:
    facts = (("Status before", withdrawal.status), ("Reason", withdrawal.reason))
    return Entry(
        Kind.WITHDRAWAL,
        withdrawal.at,
        "Withdrawn",
        words.decided(withdrawal.by, withdrawal.via),
        facts,
    )


def _escalations(event: NotificationEvent) -> Iterator[Entry]:
    before, after = Escalation.around(event)
    if before:
        facts: tuple[tuple[str, Fact], ...] = (("In place of", before.notification),)
        facts += (("Died on", before.notification.channel),)
        yield Entry(Kind.ESCALATION, before.at, "Escalation of a dead letter", facts=facts)
    if after:
        raised = after.successor or f"{after.raised_id}, deleted since"
        yield Entry(Kind.ESCALATION, after.at, "Escalated", facts=(("As", raised),))


def _sent(
    event: NotificationEvent, attempts: Iterable[DeliveryAttempt], readings: Iterable[Reading]
) -> Iterator[Entry]:
    """certctl sends without a record of its attempts; it also notes in sent_at when it marked one as read."""
    recorded = any(a.outcome in (AttemptOutcome.SENT, AttemptOutcome.NO_NOTIFIER) for a in attempts)
    sent = event.status == Status.SENT or any(reading.status == Status.SENT for reading in readings)
    if sent and event.sent_at and not recorded:
        yield Entry(Kind.SENT, event.sent_at, "Sent", detail=event.error or "", outcome=AttemptOutcome.SENT)


def _earlier(*histories: list[DeliveryAttempt] | list[Requeue] | list[Reading]) -> Iterator[Entry]:
    if any(len(history) > NEWEST for history in histories):
        yield Entry(
            Kind.EARLIER, None, f"Earlier entries are not shown: the newest {NEWEST} of each kind are"
        )


def _next(event: NotificationEvent, now: datetime) -> Iterator[Entry]:
    if event.status == Status.DEAD:
        yield Entry(Kind.NEXT, None, "Dead letter: retrying is over, and a person decides")
    if event.status in UNDELIVERED:
        held.noted([event], now)
        when, at = words.next_attempt(event, now)
        waits = words.waits_for(event)
        if waits and at == waits.until and at > now:
            yield Entry(Kind.NEXT, None, f"Waits until {words.minute(at)}: {waits.why}")
            return
        yield Entry(Kind.NEXT, event.next_retry_at, "Next attempt", facts=(("When", when),))


def _given(*facts: tuple[str, Fact | None]) -> tuple[tuple[str, Fact], ...]:
    return tuple((label, value) for label, value in facts if value is not None and value != "")
