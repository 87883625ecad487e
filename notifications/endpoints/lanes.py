"""Whose turn it is: one lane per endpoint, so that no endpoint can hold up another.

Pure scheduling in memory: no database, no network, and the time is an argument. A lane starts with
few attempts in flight and earns one more with every answer, so an endpoint that never answers holds
only the few that it started with, and many that do not hold only a share of all; it loses half when
it fails, and is held when it goes on failing. After that it delivers its backlog at a bounded rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from ..exceptions import DeliveryError, EndpointEffect
from ..notifiers.base import Endpoint

Row = TypeVar("Row")

MANY = 1000  # endpoints; beyond these the idle ones are forgotten
START = 5  # attempts in flight at an endpoint that has not answered yet
WAITING_PER_SLOT = 4  # rows kept in hand for each attempt that an endpoint may have in flight
MOST_PER_SLOT = 20  # where attempts are so quick that these are done within a second


@dataclass(frozen=True, slots=True)
class Rules:
    """ceiling: attempts in flight at one endpoint; failures: in a row, until it is held; hold: seconds.

    at_once      attempts in flight at all endpoints
    few, over     this many are enough where they last so long: one row alone fails so seldom that its
                  budget would be spent before it has failed often
    longest_wish  seconds that a provider's Retry-After can close its endpoint for
    recovery      attempts a second at an endpoint that was held and delivers again
    """

    ceiling: int
    failures: int = 5
    few: int = 3
    over: timedelta = timedelta(minutes=2)
    hold: float = 30.0
    auth_hold: float = 900.0
    longest_hold: float = 300.0
    longest_wish: float = 3600.0
    recovery: float = 20.0
    at_once: int = 100

    @property
    def unheard(self) -> int:
        """Attempts in flight at endpoints not heard from: the others always have the rest for themselves."""
        return max(1, self.at_once * 3 // 4)


@dataclass(slots=True)
class Lane(Generic[Row]):
    """What is known of one endpoint, and its rows that wait for their turn."""

    key: str
    ceiling: int
    per_second: float | None
    limit: int
    endpoints: set[Endpoint] = field(default_factory=set)
    waiting: deque[Row] = field(default_factory=deque)
    running: int = 0
    heard: bool = False  # it has delivered, and not failed since
    failures: int = 0  # in a row, in this sweep
    streak: int = 0  # in a row, in all sweeps
    since: datetime | None = None  # the first of these
    error: DeliveryError | None = None  # the last of them
    told: int = 0  # how many of them are on record
    not_before: float = 0.0
    seconds: float = 1.0  # that an attempt takes of late
    held: bool = False
    pause: float = 0.0  # seconds, while held
    probing: bool = False
    probe_ends: datetime | None = None
    worn: bool = False  # held for so long that its rows spend their attempts again
    holds: int = 0  # how often it was held since it last delivered
    recovery: float | None = None  # attempts a second, while its backlog flows

    @property
    def pace(self) -> float | None:
        """Attempts a second; None: no limit."""
        if self.recovery is None:
            return self.per_second
        return min(self.recovery, self.per_second or self.recovery)

    @property
    def full(self) -> bool:
        return len(self.waiting) >= self.capacity

    @property
    def capacity(self) -> int:
        # A lane with a pace of its own can only use what it starts within the next seconds.
        pace = self.pace
        paced = pace and max(1, round(pace * START))
        return paced or self.limit * min(max(WAITING_PER_SLOT, round(1 / self.seconds)), MOST_PER_SLOT)

    def may_start(self, now: float) -> bool:
        return bool(self.waiting) and self.running < self.limit and now >= self.not_before and not self.held


@dataclass(frozen=True, slots=True)
class HoldChange:
    """What a sweep learned: an endpoint fails, or delivers again, or (neither) its probe was not used.

    holds    how often it was held since it last delivered; 0: it fails, and is not held
    seconds  that it is held for
    since    its first failure in a row
    died     notifications that its failure dead-lettered
    """

    endpoint: Endpoint
    seconds: float = 0.0
    error: DeliveryError | None = None
    holds: int = 0
    delivers: bool = False
    since: datetime | None = None
    failures: int = 0
    died: int = 0


class Standing(NamedTuple):
    """What all workers know of an endpoint that is not open to everything.

    failures  how often it was held since it last delivered
    worn      held for longer than rows may wait: they spend their attempts again
    ours      the hold has run out, and this worker does the probe
    until     the hold's end; while somebody probes, that of the probe
    """

    endpoint: Endpoint
    failures: int
    worn: bool
    ours: bool
    paused: bool = False
    recovering: bool = False
    until: datetime | None = None


class Lanes(Generic[Row]):
    """All endpoints of one sweep."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.lanes: dict[str, Lane[Row]] = {}
        self.turns: deque[Lane[Row]] = deque()  # the lanes with rows waiting, in turn
        self.waiting = 0
        self.ready = 0  # of those that wait, at endpoints heard from
        self.running = 0
        self.unheard = 0  # of those that run, at endpoints not heard from
        self.changes: list[HoldChange] = []
        self.doors: dict[tuple[str, str], Endpoint] = {}  # by channel and recipient
        self.paused: list[Endpoint] = []

    def lane(
        self, endpoint: Endpoint, *, ceiling: int | None = None, per_second: float | None = None
    ) -> Lane[Row]:
        lane = self.lanes.get(endpoint.key)
        if lane is None:
            top = self.rules.ceiling
            lane = Lane(endpoint.key, ceiling=top, per_second=None, limit=min(START, top))
            self.lanes[endpoint.key] = lane
        if ceiling and ceiling < lane.ceiling:  # who made the lane may not have known it
            lane.ceiling, lane.limit = ceiling, min(lane.limit, ceiling)
        lane.per_second = per_second or lane.per_second
        lane.endpoints.add(endpoint)
        return lane

    def apart(self, channel: str, recipient: str) -> Endpoint | None:
        """Where the row goes that does not wait with its endpoint's others: to a pause, or a closed door."""
        for pause in self.paused:
            prefix = pause.recipient_prefix or ""
            within = recipient == prefix if pause.exact else recipient.startswith(prefix)
            if within and pause.channel == channel:
                return pause
        return self.doors.get((channel, recipient))

    def put(self, row: Row, lane: Lane[Row]) -> bool:
        """Let a row wait for its turn; False when its endpoint has enough of them, or is held."""
        if lane.held or lane.full:
            return False
        if not lane.waiting:
            self.turns.append(lane)
        lane.waiting.append(row)
        self.waiting += 1
        self.ready += lane.heard
        return True

    def room(self) -> int:
        """How many rows the endpoints known so far could take in."""
        return sum(lane.capacity - len(lane.waiting) for lane in self.lanes.values() if not lane.held)

    def take(self, now: float) -> tuple[Lane[Row], Row] | None:
        """The next row to attempt, each endpoint in its turn; None when none may start at `now`."""
        for _ in range(len(self.turns)):
            lane = self.turns.popleft()
            if not (lane.may_start(now) and self._spared(lane)):
                self.turns.append(lane)
                continue
            row = lane.waiting.popleft()
            if lane.waiting:
                self.turns.append(lane)
            self.waiting -= 1
            self.ready -= lane.heard
            self.running += 1
            self.unheard += not lane.heard
            lane.running += 1
            if pace := lane.pace:
                lane.not_before = max(lane.not_before, now - 0.1) + 1 / pace
            return lane, row
        return None

    def _spared(self, lane: Lane[Row]) -> bool:
        """Whether there is an attempt left for it: of those for endpoints not heard from, half is kept so
        that each can have one."""
        share = self.rules.unheard
        return lane.heard or self.unheard < (share // 2 if lane.running else share)

    def _hear(self, lane: Lane[Row], heard: bool) -> None:
        if lane.heard == heard:
            return
        lane.heard = heard
        self.ready += len(lane.waiting) if heard else -len(lane.waiting)
        self.unheard += -lane.running if heard else lane.running

    def unstarted(self, lane: Lane[Row]) -> None:
        """A row that was taken was not attempted after all."""
        self.running -= 1
        self.unheard -= not lane.heard
        lane.running -= 1

    def ended(
        self,
        lane: Lane[Row],
        error: DeliveryError | None,
        seconds: float = 1.0,
        started_at: datetime | None = None,
    ) -> None:
        """Learn from an attempt's end. Rows of an endpoint that is held from now on are left to `drain`."""
        self.unstarted(lane)
        lane.seconds = max(0.9 * lane.seconds + 0.1 * seconds, 0.001)
        effect = error.endpoint_effect if error else EndpointEffect.HEALTHY
        if effect == EndpointEffect.HEALTHY:
            self._healthy(lane)
        elif error and error.blames_endpoint:
            self._failed(lane, error, started_at)

    def _failed(self, lane: Lane[Row], error: DeliveryError, started_at: datetime | None) -> None:
        self._hear(lane, False)
        lane.failures, lane.streak, lane.error = lane.failures + 1, lane.streak + 1, error
        if started_at:
            lane.since = min(lane.since or started_at, started_at)
        if error.endpoint_effect == EndpointEffect.HELD:
            self._hold(lane, error, self._wish(error))
            return
        lane.limit = max(1, lane.limit // 2)
        lasting = lane.since and started_at and started_at - lane.since >= self.rules.over
        down = lane.failures >= self.rules.failures or (lasting and lane.streak >= self.rules.few)
        if lane.probing or down:
            self._hold(lane, error, self._pause(lane))

    def _healthy(self, lane: Lane[Row]) -> None:
        self._hear(lane, True)
        lane.limit = min(lane.limit + 1, lane.ceiling)
        if lane.held:
            return  # this attempt began before: it is the probe that decides
        if lane.probing or lane.worn:
            lane.probing = lane.worn = False
            lane.holds = 0
            lane.limit = min(START, lane.ceiling)
            lane.recovery = self.rules.recovery
            lane.told = max(lane.told, 1)
        if lane.told:
            self.changes += [HoldChange(endpoint, delivers=True) for endpoint in lane.endpoints]
        _forget_failures(lane)

    def _wish(self, error: DeliveryError) -> float:
        if error.retry_after is None:
            return self.rules.auth_hold
        return min(max(error.retry_after, 0.0), self.rules.longest_wish)

    def _pause(self, lane: Lane[Row]) -> float:
        """Twice as long every time that the probe fails."""
        return min(self.rules.hold * 2.0 ** min(lane.holds, 16), self.rules.longest_hold)

    def _hold(self, lane: Lane[Row], error: DeliveryError, seconds: float) -> None:
        if lane.held or lane.worn:
            return
        lane.held, lane.pause = True, seconds
        lane.holds += 1
        self._tell(lane, error, seconds=seconds, holds=lane.holds)

    def _tell(self, lane: Lane[Row], error: DeliveryError, **said: Any) -> None:
        said |= {"since": lane.since, "failures": lane.streak}
        self.changes += [HoldChange(endpoint, error=error, **said) for endpoint in lane.endpoints]
        lane.told = max(lane.streak, 1)

    def died(self, lane: Lane[Row], error: DeliveryError) -> None:
        """A notification was dead-lettered because its endpoint failed."""
        self._tell(lane, error, died=1)

    def tell_failures(self) -> None:
        """Put on record which endpoints fail at the moment: the next sweep may be another process."""
        for lane in list(self.lanes.values()):
            if lane.error and lane.streak > lane.told:
                self._tell(lane, lane.error)

    def know_failures(self, ongoing: Iterable[tuple[Endpoint, datetime, int]]) -> None:
        """What all sweeps together know of endpoints that fail: since when, how often in a row."""
        known = {change.endpoint.key for change in self.changes}
        for endpoint, since, failures in ongoing:
            self._know_door(endpoint)
            lane = self.lane(endpoint)
            lane.since = min(lane.since or since, since)
            lane.streak = max(lane.streak, failures)
            lane.told = max(lane.streak, 1)
            known.add(endpoint.key)
        for key, lane in list(self.lanes.items()):
            if lane.told and key not in known:  # another worker delivered there
                _forget_failures(lane)

    def know(self, standings: Collection[Standing]) -> None:
        """What all workers together know, at the beginning of a sweep."""
        self.reopen_except({known.endpoint.key for known in standings if not known.recovering})
        newer = {change.endpoint.key for change in self.changes}  # what we learned, and nobody has read yet
        self.paused = [known.endpoint for known in standings if known.paused]
        self.doors = {}
        for known in standings:
            endpoint = known.endpoint
            self._know_door(endpoint)
            if endpoint.key in newer and not known.ours:
                continue
            if known.recovering:
                self.lane(endpoint).recovery = self.rules.recovery
            elif known.worn and not known.paused:
                self.wear(endpoint)
            elif known.ours:
                self.probe(endpoint, known.failures, known.until)
            elif not self._probes(known):
                self.keep_held(endpoint)

    def _know_door(self, endpoint: Endpoint) -> None:
        if endpoint.exact and endpoint.recipient_prefix:
            self.doors.setdefault((endpoint.channel, endpoint.recipient_prefix), endpoint)

    def keep_held(self, endpoint: Endpoint) -> None:
        """Another worker found this endpoint down, and its hold is not over. When it is, others know first:
        rows that are given back are due at once."""
        lane = self.lane(endpoint)
        if not lane.held:
            lane.held, lane.pause = True, 0.0

    def _probes(self, known: Standing) -> bool:
        """Whether the probe that somebody does is the one that an earlier survey gave to us."""
        lane = self.lane(known.endpoint)
        return (
            lane.probing and not lane.held and lane.probe_ends is not None and lane.probe_ends == known.until
        )

    def reopen_except(self, held: Collection[str]) -> None:
        """Open what nobody holds any more: an operator lifted it, or another worker's probe came through."""
        ours = {change.endpoint.key for change in self.changes}
        for key, lane in list(self.lanes.items()):
            if key in ours:
                continue
            lane.recovery = None
            if (lane.held or lane.worn) and key not in held:
                lane.held, lane.worn, lane.failures = False, False, 0
            if len(self.lanes) > MANY and not (lane.held or lane.waiting or lane.running):
                del self.lanes[key]

    def wear(self, endpoint: Endpoint) -> None:
        """Held for longer than rows may wait: few at a time, but they are attempted."""
        lane = self.lane(endpoint)
        if not lane.worn:
            lane.held, lane.probing, lane.worn, lane.limit = False, False, True, min(START, lane.ceiling)

    def probe(self, endpoint: Endpoint, holds: int, ends: datetime | None = None) -> None:
        """The hold is over, and the one attempt that finds out whether it delivers again is ours."""
        lane = self.lane(endpoint)
        lane.held, lane.probing, lane.limit, lane.holds = False, True, 1, holds
        lane.probe_ends = ends

    def hold(self, endpoint: Endpoint, error: DeliveryError, started_at: datetime | None = None) -> Lane[Row]:
        """Hold one destination, where the rest of its endpoint's rows may go on."""
        lane = self.lane(endpoint)
        self._failed(lane, error, started_at)
        return lane

    def drain(self, everything: bool = False) -> list[tuple[Row, float]]:
        """Take out the rows whose endpoint is held, each with the seconds that it is; or all rows."""
        rows: list[tuple[Row, float]] = []
        for lane in list(self.turns):
            if everything or lane.held:
                rows += [(row, lane.pause) for row in lane.waiting]
                self.waiting -= len(lane.waiting)
                self.ready -= len(lane.waiting) if lane.heard else 0
                lane.waiting.clear()
                self.turns.remove(lane)
        return rows

    def unused_probes(self) -> list[HoldChange]:
        """Give back, at the end, the probes for which no row came."""
        unused = (lane for lane in self.lanes.values() if lane.probing and not lane.held)
        return [HoldChange(endpoint) for lane in unused for endpoint in lane.endpoints]

    def closed(self) -> frozenset[Endpoint]:
        """The endpoints whose rows are not to be claimed now: held, or with enough rows in hand."""
        return frozenset(self._closed())

    def _closed(self) -> Iterator[Endpoint]:
        for lane in self.lanes.values():
            if lane.held or len(lane.waiting) > lane.capacity // 2:
                yield from lane.endpoints


def _forget_failures(lane: Lane[Any]) -> None:
    lane.failures, lane.streak, lane.told, lane.since, lane.error = 0, 0, 0, None, None
