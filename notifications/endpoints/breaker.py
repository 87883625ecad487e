"""Whether rows may go to an endpoint: its state, and what moves it. Pure: the time is an argument.

                     fails in a row, refuses us, or asks for a wait
          ┌──────────────────────────────────────────────────────────┐
          │                                                          ▼
        OPEN ◄──────── nobody holds it any more ─────────────────── HELD ──── held for longer ────► PAST_LIMIT
          ▲                                                         ▲  │      than HOLD_LIMIT           │
          │ after ten minutes                    the probe failed   │  │ the hold is over,              │
          │                                                         │  ▼ and the probe is ours          │
     RECOVERING ◄───────────── it delivered ─────────────────────  PROBING                              │
          ▲                                                                                             │
          └──────────────────────────────── it delivered ───────────────────────────────────────────────┘

OPEN        rows go
HELD        none goes: they wait, and nothing is spent
PROBING     one goes, and decides; it costs its row nothing when it fails
RECOVERING  rows go, at a bounded rate
PAST_LIMIT  rows go, few at a time, and spend their attempts: an alert must reach the dead-letter queue while
            it still matters

The truth is notification_holds, which all workers share. A sweep reads it first, and `Breaker.read` makes the
state what it says, unless we have learned something since that is not written yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from ..deaths.fingerprints import fingerprint
from ..exceptions import DeliveryError, EndpointEffect, Reason, TransientError
from ..notifiers.endpoint import Endpoint

REPEATED_HOLD = 300.0  # seconds


class State(StrEnum):
    OPEN = "open"
    HELD = "held"
    PROBING = "probing"
    RECOVERING = "recovering"
    PAST_LIMIT = "past its limit"


# Asked of a lane several times for each row; a member is looked up slowly in Python 3.11.
HELD, PROBING, RECOVERING = State.HELD, State.PROBING, State.RECOVERING


@dataclass(frozen=True, slots=True)
class Rules:
    """When an endpoint is held, and for how long.

    failures      in a row, until it is held
    few, over     this many are enough where they last so long: one row alone fails so seldom that its
                  budget would be spent before it has failed often
    recipients    of one host that have to fail in a row until the host is to blame, and not they
    hold, longest_hold      seconds of the first hold, and of the longest: each is twice the one before
    auth_hold     seconds, where our credentials were refused or the destination is gone
    longest_wish  seconds that a provider's Retry-After can close its endpoint for
    """

    failures: int = 5
    few: int = 3
    over: timedelta = timedelta(minutes=2)
    recipients: int = 3
    hold: float = 30.0
    longest_hold: float = 300.0
    auth_hold: float = 900.0
    longest_wish: float = 3600.0


class Learned(StrEnum):
    """What there is to write of an endpoint."""

    FAILS = "it fails"
    HELD = "it is held"
    DELIVERS = "it delivers"
    PROBE_UNUSED = "its probe was not made"


@dataclass(frozen=True, slots=True)
class Change:
    """What a sweep learned of an endpoint, for all workers.

    seconds   that it is held for
    times     how often it was held since it last delivered
    since     its first failure in a row, and how many failures that are
    died      notifications that its failure dead-lettered
    """

    what: Learned
    endpoint: Endpoint
    error: DeliveryError | None = None
    seconds: float = 0.0
    times: int = 0
    since: datetime | None = None
    failures: int = 0
    died: int = 0


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What the table says of an endpoint that is not open.

    ours    the hold has run out, and this worker makes the probe
    paused  an operator holds it
    until   the hold's end; while somebody probes, that of the probe
    error   what it is held for
    times   how often it was held since it last delivered
    """

    endpoint: Endpoint
    state: State
    times: int = 0
    ours: bool = False
    paused: bool = False
    until: datetime | None = None
    error: str = ""


class Records(NamedTuple):
    """All that the table says: what is held, and which endpoints fail, since when, how often in a row."""

    held: Sequence[OnRecord] = ()
    failing: Sequence[tuple[Endpoint, datetime, int]] = ()


@dataclass(slots=True)
class Breaker:
    """One endpoint.

    spellings   the rows that go there: one host is written in several ways
    failures    in a row, since it was last held, in this process
    streak      in a row, in all sweeps; since: the first of them; error: the last
    recorded    how many of them are on record
    times       how often it was held since it last delivered
    seconds     of the present hold that this process wrote
    held_for    the error on record, while this process probes
    recipients  of a host, that failed since any of its recipients was reached
    changes     what was learned and is not written yet, of all endpoints; unwritten: how many are ours
    """

    key: str
    rules: Rules
    changes: list[Change]
    spellings: set[Endpoint] = field(default_factory=set)
    state: State = State.OPEN
    failures: int = 0
    streak: int = 0
    since: datetime | None = None
    error: DeliveryError | None = None
    recorded: int = 0
    times: int = 0
    seconds: float = 0.0
    probe_ends: datetime | None = None
    held_for: str = ""
    recipients: set[str] = field(default_factory=set)
    unwritten: int = 0

    @property
    def closed(self) -> bool:
        return self.state == State.HELD

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.state == State.OPEN and not (self.streak or self.recorded or self.unwritten)

    def move(self, to: State) -> None:
        """The one place where the state changes."""
        if to == State.HELD:
            self.failures = 0
        if to in (State.OPEN, State.RECOVERING):
            self.times, self.seconds, self.failures = 0, 0.0, 0
        self.probe_ends = None
        self.state = to

    # What an attempt says

    def delivered(self) -> None:
        """An attempt ended well, or failed for a reason of its row's own: the endpoint answers."""
        if self.state == State.HELD:
            return  # that attempt began before: it is the probe that decides
        if self.state in (State.PROBING, State.PAST_LIMIT):
            self.move(State.RECOVERING)
            self.recorded = max(self.recorded, 1)
        if self.recorded:
            self._report(Learned.DELIVERS)
        if self.streak or self.recorded or self.recipients:
            self.forget_failures()

    def failed(
        self,
        error: DeliveryError,
        started_at: datetime | None,
        recipient: str | None = None,
        within: float | None = None,
    ) -> None:
        """An attempt failed because of the endpoint.

        recipient  whose door it was, where the endpoint is a host: it is to blame when several failed so
        within     seconds that its row can wait at most (durations.within)
        """
        self.failures, self.streak, self.error = self.failures + 1, self.streak + 1, error
        if started_at:
            self.since = min(self.since or started_at, started_at)
        if recipient is not None:
            if len(self.recipients) < self.rules.recipients:
                self.recipients.add(recipient)
            if len(self.recipients) < self.rules.recipients:
                return
        if self.state == State.PROBING or self._is_down(error, started_at):
            self.hold(error, within)

    def repeated(self, error: DeliveryError) -> DeliveryError | None:
        """The error that the endpoint is held for, where its probe failed for a reason of its row's own but
        in those very words: it says so to every row."""
        said, held_for = _words(error.text), _words(self.held_for)
        if self.state != State.PROBING or len(said) < 3 or held_for[: len(said)] != said:
            return None
        return TransientError(
            self.held_for, reason=Reason.AUTH, status=error.status, retry_after=REPEATED_HOLD
        )

    def _is_down(self, error: DeliveryError, started_at: datetime | None) -> bool:
        if _closes(error):
            return True
        lasting = self.since and started_at and started_at - self.since >= self.rules.over
        return self.failures >= self.rules.failures or bool(lasting and self.streak >= self.rules.few)

    def hold(self, error: DeliveryError, within: float | None = None) -> None:
        if self.state in (State.HELD, State.PAST_LIMIT):
            return
        seconds = self._seconds(error)
        seconds = seconds if within is None else min(seconds, within)
        self.move(State.HELD)
        self.times, self.seconds = self.times + 1, seconds
        self._report_failure(Learned.HELD, error, seconds=seconds, times=self.times)

    def _seconds(self, error: DeliveryError) -> float:
        if _closes(error):
            wish = error.retry_after
            return self.rules.auth_hold if wish is None else min(max(wish, 0.0), self.rules.longest_wish)
        return min(self.rules.hold * 2.0 ** min(self.times, 16), self.rules.longest_hold)

    def killed(self, error: DeliveryError) -> None:
        """A notification was dead-lettered because the endpoint failed."""
        self._report_failure(Learned.FAILS, error, died=1)

    def report_failures(self) -> None:
        """Have written that it fails at the moment: the next sweep may be another process."""
        if self.error and self.streak > self.recorded:
            self._report_failure(Learned.FAILS, self.error)

    def _report_failure(self, what: Learned, error: DeliveryError, **facts: Any) -> None:
        self._report(what, error=error, since=self.since, failures=self.streak, **facts)
        self.recorded = max(self.streak, 1)

    def _report(self, what: Learned, **facts: Any) -> None:
        self.changes += [Change(what, endpoint, **facts) for endpoint in self.spellings]
        self.unwritten += len(self.spellings)

    def forget_failures(self) -> None:
        self.failures, self.streak, self.recorded, self.since, self.error = 0, 0, 0, None, None
        self.recipients.clear()

    # What the table says

    def read(self, record: OnRecord | None) -> None:
        """What all workers together know at the beginning of a sweep; None: nobody holds it."""
        if self.unwritten and not (record and record.ours):
            return  # what we learned is newer, and nobody has read it yet
        if record is None:
            if self.state != State.OPEN:
                self.move(State.OPEN)
        elif record.ours:
            self.move(State.PROBING)
            self.times, self.probe_ends, self.held_for = record.times, record.until, record.error
        elif self.state == State.PROBING and self.probe_ends and self.probe_ends == record.until:
            pass  # the probe that is on record is the one that an earlier look gave to us
        elif self.state != record.state:
            self.move(record.state)
            self.seconds = 0.0  # when that hold is over, others know first: rows are due at once

    def read_failures(self, since: datetime, failures: int) -> None:
        """Since when all sweeps together know it to fail, and how often in a row."""
        self.since = min(self.since or since, since)
        self.streak = max(self.streak, failures)
        self.recorded = max(self.streak, 1)

    def give_back_probe(self) -> None:
        """At the end: no row came for the probe."""
        if self.state == State.PROBING:
            self._report(Learned.PROBE_UNUSED)
            self.move(State.OPEN)  # for whoever makes it instead


def _words(text: str) -> list[str]:
    return [word.rstrip(":") for word in fingerprint(text).split(" ")]


def _closes(error: DeliveryError) -> bool:
    """Whether one such failure is enough. Where it is not said how long to wait, the backoff is."""
    vague = error.reason == Reason.RATE_LIMITED and error.retry_after is None
    return error.endpoint_effect == EndpointEffect.HELD and not vague
