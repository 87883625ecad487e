"""Whose turn it is: one lane per endpoint, so that no endpoint can hold up another.

Pure scheduling in memory: no database, no network, and the time is an argument. A lane starts with
few attempts in flight and earns one more with every answer, so an endpoint that never answers holds
only the few that it started with, and many that do not hold only a share of all; it loses half when
it fails. Whether rows may go at all is its breaker's to say.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from ..exceptions import DeliveryError, EndpointEffect, Reason
from ..notifiers.endpoint import Endpoint
from .breaker import HELD, PROBING, RECOVERING, Breaker, Change, OnRecord, Records, Rules, State

Row = TypeVar("Row")

MANY = 10_000  # lanes; beyond these the idle ones of healthy endpoints are forgotten
START = 5  # attempts in flight at an endpoint that has not answered yet
WAITING_PER_SLOT = 4  # rows kept in hand for each attempt that an endpoint may have in flight
MOST_PER_SLOT = 20  # where attempts are so quick that these are done within a second


@dataclass(frozen=True, slots=True)
class Limits:
    """ceiling: attempts in flight at one endpoint; at_once: at all of them.

    recovery  attempts a second at an endpoint that was held and delivers again
    """

    ceiling: int
    at_once: int = 100
    recovery: float = 20.0

    @property
    def silent(self) -> int:
        """Attempts in flight at silent endpoints: the others always have the rest for themselves."""
        return max(1, self.at_once * 3 // 4)


@dataclass(slots=True, eq=False)
class Lane(Generic[Row]):
    """One endpoint's rows that wait for their turn, and how many may go at once.

    answers  it has delivered, and not failed since
    seconds  that an attempt takes of late
    host     where this is the door of one of its recipients
    at_once  rows that one attempt can take, where its notifier combines them
    spelling  the last one that was asked for
    """

    breaker: Breaker
    ceiling: int
    limit: int
    recovery: float
    per_second: float | None = None
    waiting: deque[Row] = field(default_factory=deque)
    running: int = 0
    answers: bool = False
    not_before: float = 0.0
    seconds: float = 1.0
    host: Lane[Row] | None = None
    at_once: int = 1
    spelling: Endpoint | None = None

    @property
    def key(self) -> str:
        return self.breaker.key

    @property
    def held(self) -> bool:
        return self.breaker.state is HELD

    @property
    def serves_many(self) -> bool:
        return any(endpoint.serves_many for endpoint in self.breaker.spellings)

    @property
    def slots(self) -> int:
        return 1 if self.breaker.state is PROBING else self.limit

    @property
    def pace(self) -> float | None:
        """Attempts a second; None: no limit."""
        if self.breaker.state is not RECOVERING:
            return self.per_second
        return min(self.recovery, self.per_second or self.recovery)

    @property
    def capacity(self) -> int:
        """Rows that it keeps in hand: with a pace of its own, those that it starts within some seconds."""
        if pace := self.pace:
            return max(1, round(pace * START)) * self.at_once
        if self.seconds * MOST_PER_SLOT <= 1:
            return self.slots * MOST_PER_SLOT
        return self.slots * max(WAITING_PER_SLOT, round(1 / self.seconds))

    @property
    def full(self) -> bool:
        return len(self.waiting) >= self.capacity

    def may_start(self, now: float) -> bool:
        return bool(self.waiting) and self.running < self.slots and now >= self.not_before and not self.held


class Lanes(Generic[Row]):
    """All endpoints of one engine.

    waiting  rows; ready: those of them at endpoints that answer
    running  attempts; silent: those of them at endpoints that do not
    """

    def __init__(self, limits: Limits, rules: Rules) -> None:
        self.limits = limits
        self.rules = rules
        self.lanes: dict[str, Lane[Row]] = {}
        # The lanes with rows waiting, in turn: those that answer (True), and the others.
        self.turns: dict[bool, deque[Lane[Row]]] = {True: deque(), False: deque()}
        self.silent_next = False
        self.waiting = 0
        self.ready = 0
        self.running = 0
        self.silent = 0
        self.doors: dict[tuple[str, str], Lane[Row]] = {}  # of recipients, by channel and recipient
        self.paused: list[Endpoint] = []
        self.changes: list[Change] = []  # what was learned and is not written yet

    def lane(
        self,
        endpoint: Endpoint,
        *,
        ceiling: int | None = None,
        per_second: float | None = None,
        at_once: int = 1,
    ) -> Lane[Row]:
        """The endpoint's own lane, made where there is none."""
        lane = self.lanes.get(endpoint.key)
        if lane is None:
            top = self.limits.ceiling
            breaker = Breaker(endpoint.key, self.rules, self.changes)
            lane = Lane(breaker, ceiling=top, limit=min(START, top), recovery=self.limits.recovery)
            self.lanes[endpoint.key] = lane
        if ceiling and ceiling < lane.ceiling:  # who made the lane may not have known it
            lane.ceiling, lane.limit = ceiling, min(lane.limit, ceiling)
        lane.per_second = per_second or lane.per_second
        lane.at_once = max(at_once, lane.at_once)
        if endpoint is not lane.spelling:
            lane.spelling = endpoint
            lane.breaker.spellings.add(endpoint)
        return lane

    def apart(self, channel: str, recipient: str) -> Lane[Row] | None:
        """Where the row waits that does not wait with its endpoint's others: a pause, or its own door."""
        for pause in self.paused:
            if pause.covers(channel, recipient):
                return self.lane(pause)
        return self.doors.get((channel, recipient))

    def door(self, host: Lane[Row], channel: str, recipient: str) -> Lane[Row]:
        """The lane of one recipient of a host that serves many."""
        digest = hashlib.sha256(recipient.encode("utf-8", "replace")).hexdigest()[:12]
        lane = self.lane(Endpoint(f"{host.key} {digest}", channel, recipient, exact=True))
        self.doors[channel, recipient] = lane
        return lane

    def put(self, row: Row, lane: Lane[Row], *, within: float | None = None, now: float = 0.0) -> bool:
        """Let a row wait for its turn; False when its endpoint has enough of them, or is held.

        within  of one that is urgent the seconds that it may wait at most: it goes before the others, and
                finds room where they find none, as much again
        """
        if lane.held or (lane.full if within is None else len(lane.waiting) >= 2 * lane.capacity):
            return False
        self._put(lane, row, first=within is not None)
        if within is not None:
            lane.not_before = min(lane.not_before, now + within)
        return True

    def _put(self, lane: Lane[Row], row: Row, *, first: bool) -> None:
        if not lane.waiting:
            self.turns[lane.answers].append(lane)
        (lane.waiting.appendleft if first else lane.waiting.append)(row)
        self.waiting += 1
        self.ready += lane.answers

    def room(self) -> int:
        """How many rows the endpoints known so far could take in."""
        return sum(max(0, lane.capacity - len(lane.waiting)) for lane in self.lanes.values() if not lane.held)

    def take(self, now: float) -> tuple[Lane[Row], Row] | None:
        """The next row to attempt, each endpoint in its turn; None when none may start at `now`."""
        self.silent_next = not self.silent_next
        for answering in (not self.silent_next, self.silent_next):
            if self.turns[answering] and (taken := self._take(answering, now)):
                return taken
        return None

    def _take(self, answering: bool, now: float) -> tuple[Lane[Row], Row] | None:
        turns = self.turns[answering]
        if not answering and self.silent >= self.limits.silent:
            return None
        for _ in range(len(turns)):
            lane = turns.popleft()
            if not (lane.may_start(now) and self._has_slot_for(lane)):
                turns.append(lane)
                continue
            row = lane.waiting.popleft()
            if lane.waiting:
                turns.append(lane)
            self._started(lane, now)
            return lane, row
        return None

    def _started(self, lane: Lane[Row], now: float) -> None:
        self.waiting -= 1
        self.ready -= lane.answers
        self.running += 1
        self.silent += not lane.answers
        lane.running += 1
        if pace := lane.pace:
            lane.not_before = max(lane.not_before, now - 0.1) + 1 / pace

    def take_with(self, lane: Lane[Row], goes_along: Callable[[Row], bool]) -> list[Row]:
        """The first of the rows that wait in the lane and may go out in the attempt that has just been taken
        from it, at most as many as one attempt can take."""
        chosen = self._take_out(lane, goes_along, lane.at_once - 1)
        if chosen and not lane.waiting:
            self.turns[lane.answers].remove(lane)
        return chosen

    def take_out(self, goes: Callable[[Row], bool]) -> list[tuple[Lane[Row], Row]]:
        """Those of the rows that wait; they are not attempted, unless they are put back."""
        taken = list[tuple[Lane[Row], Row]]()
        for answers, turns in self.turns.items():
            for lane in turns:
                taken += [(lane, row) for row in self._take_out(lane, goes, len(lane.waiting))]
            self.turns[answers] = deque(lane for lane in turns if lane.waiting)
        return taken

    def put_back(self, taken: Sequence[tuple[Lane[Row], Row]]) -> None:
        """Before the others of their lanes."""
        for lane, row in reversed(taken):
            self._put(lane, row, first=True)

    def _take_out(self, lane: Lane[Row], goes: Callable[[Row], bool], most: int) -> list[Row]:
        chosen, kept = list[Row](), deque[Row]()
        for row in lane.waiting:
            (chosen if len(chosen) < most and goes(row) else kept).append(row)
        lane.waiting = kept
        self.waiting -= len(chosen)
        self.ready -= lane.answers * len(chosen)
        return chosen

    def _has_slot_for(self, lane: Lane[Row]) -> bool:
        """Of the attempts for silent endpoints, half is kept so that each of them can have one."""
        if lane.answers:
            return True
        share = self.limits.silent
        return self.silent < (share // 2 if lane.running else share)

    def _hear(self, lane: Lane[Row], answers: bool) -> None:
        if lane.answers == answers:
            return
        if lane.waiting:
            self.turns[lane.answers].remove(lane)
            self.turns[answers].append(lane)
        lane.answers = answers
        self.ready += len(lane.waiting) if answers else -len(lane.waiting)
        self.silent += -lane.running if answers else lane.running

    def unstarted(self, lane: Lane[Row]) -> None:
        """A row that was taken was not attempted after all."""
        self.running -= 1
        self.silent -= not lane.answers
        lane.running -= 1

    def ended(
        self,
        lane: Lane[Row],
        error: DeliveryError | None,
        seconds: float = 1.0,
        started_at: datetime | None = None,
        door: tuple[str, str] | None = None,
        within: float | None = None,
    ) -> Breaker | None:
        """Learn from an attempt's end; answers whom to blame for it, where an endpoint is to blame.

        within  as in Breaker.failed

        door  the row's channel and recipient, where its endpoint is a host that serves many: what the host
              answered is the recipient's own matter, until several recipients in a row fare so. A recipient
              can have rows in its host's lane that were there before its door was: those count for both
        Rows of an endpoint that is held from now on are left to `drain`.
        """
        self.unstarted(lane)
        lane.seconds = max(0.9 * lane.seconds + 0.1 * seconds, 0.001)
        if error and error.endpoint_effect == EndpointEffect.HEALTHY:
            error = lane.breaker.repeated(error) or error
        if error is None or error.endpoint_effect == EndpointEffect.HEALTHY:
            self._delivered(lane)
            if door and (own := self.doors.get(door)) and own is not lane:
                self._delivered(own)
        elif error.endpoint_effect == EndpointEffect.BUSY:
            lane.limit = max(1, lane.limit // 2)  # it works: it neither failed, nor is a probe of it over
        elif error.blames_endpoint:
            return self._failed(lane, error, started_at, door, within)
        return None

    def _delivered(self, lane: Lane[Row]) -> None:
        self._hear(lane, True)
        lane.limit = min(lane.limit + 1, lane.ceiling)
        before = lane.breaker.state
        lane.breaker.delivered()
        if before != lane.breaker.state:  # it recovers
            lane.limit = min(START, lane.ceiling)
        if lane.host:
            lane.host.breaker.delivered()

    def _failed(
        self,
        lane: Lane[Row],
        error: DeliveryError,
        started_at: datetime | None,
        door: tuple[str, str] | None,
        within: float | None,
    ) -> Breaker:
        if door is None or error.reason == Reason.NETWORK or lane.breaker.state == PROBING:
            self._hear(lane, False)
            lane.limit = max(1, lane.limit // 2)
            lane.breaker.failed(error, started_at, within=within)
            host, own = lane.host, lane
        else:
            host, own = lane, self.door(lane, *door)
            own.host = host
            own.limit = max(1, own.limit // 2)
            own.breaker.failed(error, started_at, within=within)
        if host is None:
            return own.breaker
        host.breaker.failed(error, started_at, recipient=own.key, within=within)
        return host.breaker if host.held else own.breaker

    def drain(self, everything: bool = False) -> list[tuple[Row, float]]:
        """Take out the rows whose endpoint is held, each with the seconds that it is; or all rows."""
        rows: list[tuple[Row, float]] = []
        for turns in self.turns.values():
            for lane in [lane for lane in turns if everything or lane.held]:
                rows += [(row, lane.breaker.seconds) for row in lane.waiting]
                self.waiting -= len(lane.waiting)
                self.ready -= len(lane.waiting) if lane.answers else 0
                lane.waiting.clear()
                turns.remove(lane)
        return rows

    def rows(self) -> Iterator[Row]:
        """What waits."""
        for lane in self.lanes.values():
            yield from lane.waiting

    # What is claimed

    def closed(self, *, urgent: bool = False) -> frozenset[Endpoint]:
        """The endpoints whose rows are not to be claimed now: held, or with enough rows in hand.

        urgent  to those that are
        """
        return frozenset(
            endpoint
            for lane in self.lanes.values()
            if lane.held or len(lane.waiting) > (lane.capacity if urgent else lane.capacity // 2)
            for endpoint in lane.breaker.spellings
        )

    def answering(self) -> frozenset[Endpoint]:
        """The endpoints that answered lately and have room: their rows need not wait behind others'."""
        return frozenset(
            endpoint
            for lane in self.lanes.values()
            if lane.answers and not lane.held and len(lane.waiting) <= lane.capacity // 2
            for endpoint in lane.breaker.spellings
        )

    def has_paced_rows(self) -> bool:
        """Whether rows wait for endpoints that take only so many a second."""
        return any(lane.pace for turns in self.turns.values() for lane in turns)

    def silent_ones(self) -> frozenset[Endpoint]:
        """The endpoints that rows wait for, and that did not answer yet."""
        return frozenset(e for lane in self.turns[False] for e in lane.breaker.spellings)

    # What all workers know

    def read(self, records: Records) -> None:
        """Make every state what the table says."""
        self.paused = [record.endpoint for record in records.held if record.paused]
        # Of several holds of one endpoint, one that lets nothing through counts.
        by_key: dict[str, OnRecord] = {}
        for record in sorted(records.held, key=lambda record: record.state == HELD):
            by_key[record.endpoint.key] = record
            self._known(record.endpoint)
        known = self._read_failing(records.failing)
        for key, lane in list(self.lanes.items()):
            before = lane.breaker.state
            lane.breaker.read(by_key.get(key))
            if lane.breaker.state == State.PAST_LIMIT != before:
                lane.limit = min(START, lane.ceiling)
            if lane.breaker.recorded and key not in known and not lane.breaker.unwritten:
                lane.breaker.forget_failures()  # another worker delivered there
        self._forget_idle()

    def _known(self, endpoint: Endpoint) -> Lane[Row]:
        lane = self.lane(endpoint)
        if endpoint.exact and endpoint.recipient_prefix:
            self.doors.setdefault((endpoint.channel, endpoint.recipient_prefix), lane)
        return lane

    def _read_failing(self, failing: Iterable[tuple[Endpoint, datetime, int]]) -> set[str]:
        known = set()
        for endpoint, since, failures in failing:
            self._known(endpoint).breaker.read_failures(since, failures)
            known.add(endpoint.key)
        return known

    def _forget_idle(self) -> None:
        """What is held or fails is remembered, however many that are; so is what has rows in hand."""
        self.doors = {
            door: lane for door, lane in self.doors.items() if not (lane.breaker.idle and not lane.running)
        }
        if len(self.lanes) <= MANY:
            return
        for key, lane in list(self.lanes.items()):
            if lane.breaker.idle and not (lane.waiting or lane.running):
                del self.lanes[key]

    # What all workers are to know

    def written(self, changes: Collection[Change]) -> None:
        """These, the first of `changes`, are in the table now."""
        del self.changes[: len(changes)]
        for change in changes:
            if lane := self.lanes.get(change.endpoint.key):
                lane.breaker.unwritten -= 1

    def report_failures(self) -> None:
        """Have written which endpoints fail at the moment: the next sweep may be another process."""
        for lane in self.lanes.values():
            lane.breaker.report_failures()

    def give_back_probes(self) -> None:
        for lane in self.lanes.values():
            lane.breaker.give_back_probe()
