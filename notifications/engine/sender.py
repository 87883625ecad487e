"""Sending: claimed rows wait for their endpoint's turn, are attempted, and go on to the recorder.

What waits and what is in flight is the sender's. All of this is on the event loop, and none of it speaks to
the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .. import conf
from ..durations import bounded, is_urgent, within
from ..endpoints.breaker import State
from ..endpoints.lanes import Lane, Lanes
from ..exceptions import DeliveryError, UnknownOutcome
from ..models import COMBINED, AttemptOutcome, Status
from ..notifiers import tracing
from ..notifiers.base import Delivered, Notifier
from ..notifiers.endpoint import Endpoint
from ..notifiers.http.deadlines import Deadlines
from ..notifiers.loading import load
from ..queue.claim import Claimed
from ..queue.messages import MOST_COMBINED, Linker, combined, linker, message_of
from ..text import fold
from .claim_size import FIRST, MOST_SILENT, ClaimSize
from .outcome import as_delivery_error, decide, unspent
from .recorder import Recorder
from .source import Scope
from .sweep import Clock, InHand, Sweep

logger = logging.getLogger(__name__)

MOST_INTERRUPTED = {1: 100, 2: 10, 3: 1}  # rows in hand, by how often their workers died
INTERRUPTED_WAIT = 0.2  # seconds that the others of them wait
STALE = 5.0  # seconds: nothing is sent when the database said nothing for so long


class Turn(NamedTuple):
    """One attempt that may begin: a row, and those that go out in the same message."""

    lane: Lane[InHand]
    row: InHand
    at: datetime
    others: Sequence[InHand] = ()


class Sender:
    """Delivers the rows itself.

    may_start  False while the engine stops, or the database is away
    hungry     whether the engine is to be woken when little is left to start
    probes     whether it makes the probes of endpoints that were held
    resolving  the folded names of the channels where a success can end what its failures opened
    """

    probes = True

    def __init__(
        self, settings: conf.Conf, clock: Clock, lanes: Lanes[InHand], recorder: Recorder, wake: asyncio.Event
    ) -> None:
        self.conf = settings
        self.clock = clock
        self.lanes = lanes
        self.recorder = recorder
        self.wake = wake
        self.size = ClaimSize(settings.concurrency, time.monotonic())
        self.in_flight: set[asyncio.Task[None]] = set()
        self.attempted: dict[asyncio.Task[Any] | None, Turn] = {}  # what is in flight
        self.may_start = True
        self.hungry = False
        self._mostly_silent = False  # of what the last claim brought
        self._traces = False  # whether spans were wanted then
        self._crowd = min(MOST_SILENT * settings.concurrency, settings.sweep_limit // 4)
        # Raises ImproperlyConfigured before anything is claimed.
        self._notifiers = load_all(settings)
        self.resolving = frozenset(fold(name) for name, made in self._notifiers.items() if made.resolves)
        self._link: Linker = linker(settings.base_url)
        self._deadlines = Deadlines(settings.send_timeout.total_seconds(), self._late)
        self._overdue: set[asyncio.Task[Any] | None] = set()

    async def close(self) -> None:
        self._deadlines.close()
        for notifier in self._notifiers.values():
            await notifier.close()
            await notifier.http.close()

    # What waits

    def room(self) -> int:
        """Rows to claim now: enough to never idle, few enough to start within their lease."""
        return 0 if self.has_plenty() else min(self.size.most, max(FIRST, self.lanes.room()))

    def has_plenty(self) -> bool:
        return self.size.plenty(self.lanes.ready)

    def closed(self, *, urgent: bool = False) -> frozenset[Endpoint]:
        return self.lanes.closed(urgent=urgent)

    def scopes(self) -> Iterator[Scope]:
        """All but the closed endpoints, until many rows wait for such as hang: then those that answer and
        those that nothing is known of, and when still more wait, those that answer only. Before all, now and
        then those that answer, while what comes is mostly for others: it can be a long way to their rows."""
        closed, silent = self.closed(), self.lanes.waiting - self.lanes.ready
        if silent > 2 * self._crowd:
            yield Scope(closed, self.lanes.answering(), narrow=True)
            return
        if self._mostly_silent and (answering := self.lanes.answering()):
            yield Scope(closed, answering, narrow=True, first=True)
        if silent > self._crowd:
            yield Scope(closed | self.lanes.silent_ones(), narrow=True)
        else:
            yield Scope(closed)

    def waiting(self) -> int:
        """Rows in hand that will begin soon: where many wait for endpoints that hang, not these."""
        crowded = self.lanes.waiting - self.lanes.ready > self._crowd
        return self.lanes.ready if crowded else self.lanes.waiting

    async def take_in(self, claimed: list[Claimed], sweep: Sweep) -> tuple[list[Claimed], list[Claimed]]:
        """Let the rows wait for their turn; answers those whose endpoint is held, and those that find no
        place."""
        if not (self.in_flight or self.recorder.ended):
            self.size.begin(time.monotonic())
        held, full, silent = list[Claimed](), list[Claimed](), 0
        self._traces = tracing.wanted()
        room = self._room_for_interrupted(claimed)
        now = self.clock()
        for event in last_to_first(claimed, now):
            row = self._in_hand(event, sweep)
            if event.interrupted:
                room[event.interrupted] -= 1
                if room[event.interrupted] < 0:
                    self.recorder.give_back(event, INTERRUPTED_WAIT, sweep)
                    sweep.postponed = True
                    continue
            lane = self._lane_of(row)
            silent += not lane.answers
            patience = within(event.not_after, now) if is_urgent(event.not_after, now) else None
            if not self.lanes.put(row, lane, within=patience, now=time.monotonic()):
                (held if lane.held else full).append(event)
        if claimed:
            self._mostly_silent = 2 * silent > len(claimed)
        self.size.claimed(refused=bool(held or full))
        self.start()
        return held, full

    def _room_for_interrupted(self, claimed: list[Claimed]) -> dict[int, int]:
        """One of the notifications whose worker died may have killed it. What died together is not in hand
        together again: the next time there are few, and then one by itself."""
        room = dict(MOST_INTERRUPTED)
        if any(event.interrupted for event in claimed):
            for row in (*self.rows(), *self.recorder.rows()):
                if row.event.interrupted:
                    room[row.event.interrupted] -= 1
        return room

    def _in_hand(self, event: Claimed, sweep: Sweep) -> InHand:
        name = self.conf.channel(event.channel)
        notifier = self._notifiers[name] if name is not None else None
        return InHand(event, sweep, message_of(event, self._link), notifier)

    def _lane_of(self, row: InHand) -> Lane[InHand]:
        event, notifier = row.event, row.notifier
        if notifier is None:
            return self.lanes.lane(Endpoint("no notifier", event.channel))
        lanes = self.lanes
        apart = lanes.apart(notifier.name, event.recipient) if lanes.doors or lanes.paused else None
        if apart and apart.held:
            return apart
        lane = self.lanes.lane(
            notifier.endpoint(row.message),
            ceiling=notifier.endpoint_concurrency or self.conf.endpoint_concurrency,
            per_second=notifier.max_per_second,
            at_once=MOST_COMBINED if notifier.combine_after and notifier.max_per_second else 1,
        )
        if apart is None or lane.held:
            return lane
        apart.host = lane if lane.serves_many else None
        return apart

    def recorded(self, attempts: int) -> None:
        """So many were recorded since the last time: what ends within a second is what a claim may hold."""
        self.size.ended(attempts, time.monotonic())

    def give_back(self, everything: bool = False) -> None:
        """Take out of the lanes what waits for an endpoint that is held, or all that waits."""
        for row, seconds in self.lanes.drain(everything=everything):
            self._give_back(row, seconds)

    def _give_back(self, row: InHand, seconds: float) -> None:
        """For as long as its endpoint is held, and its certificate lets it wait."""
        wait = bounded(timedelta(seconds=seconds), row.event.not_after, self.clock())
        self.recorder.give_back(row.event, wait.total_seconds(), row.sweep)

    def rows(self) -> Iterator[InHand]:
        """What waits and what is in flight."""
        yield from self.lanes.rows()
        for turn in self.attempted.values():
            yield turn.row
            yield from turn.others

    # What is in flight

    def start(self) -> None:
        """Begin what may begin: each endpoint in its turn."""
        while len(self.in_flight) < self.conf.concurrency and (turn := self._turn()):
            task = asyncio.get_running_loop().create_task(self._go_on(turn))
            self.in_flight.add(task)
            task.add_done_callback(self._ended)

    def _turn(self) -> Turn | None:
        """The next row to attempt, if there is one."""
        if not self.may_start or self.clock.silence > STALE:
            return None
        while taken := self.lanes.take(time.monotonic()):
            turn = Turn(*taken, self.clock())
            if self._may_go(turn):
                return self._combined(turn) if turn.lane.at_once > 1 else turn
            self.lanes.unstarted(turn.lane)
        return None

    def _may_go(self, turn: Turn) -> bool:
        """Not when its attempt could outlive its lease, when its sweep has had its attempts, nor where its
        own recipient is held since it was put in its lane."""
        event, sweep = turn.row.event, turn.row.sweep
        if turn.at + self.conf.send_timeout > event.leased_until or sweep.begun >= sweep.limit:
            self.recorder.give_back(event, 0.0, sweep)
            return False
        notifier = turn.row.notifier
        apart = notifier and self.lanes.doors and self.lanes.doors.get((notifier.name, event.recipient))
        if apart and apart is not turn.lane and (apart.held or apart.breaker.state == State.PROBING):
            self._give_back(turn.row, apart.breaker.seconds)
            return False
        sweep.begun += 1
        return True

    def _combined(self, turn: Turn) -> Turn:
        """Where the row has waited for long, with the others that have, for the same recipient."""
        lane, row, at, _ = turn
        wait = row.notifier and row.notifier.combine_after
        if not wait or lane.breaker.state == State.PROBING:
            return turn
        latest, recipient = at - timedelta(seconds=wait), row.event.recipient

        def has_waited(each: InHand) -> bool:
            return each.event.due_at <= latest and each.event.recipient == recipient

        if not has_waited(row):
            return turn
        others = [
            each for each in self.lanes.take_with(lane, has_waited) if self._may_go(Turn(lane, each, at))
        ]
        return turn._replace(others=others)

    async def _go_on(self, first: Turn) -> None:
        """One attempt after the other, as long as there is a turn: a task for each would cost more."""
        turn: Turn | None = first
        while turn:
            await self._attempt(turn)
            if self.hungry and not self.has_plenty():
                self.wake.set()
            turn = self._turn()
            self.start()  # an endpoint that answers may have more in flight than before

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.in_flight.discard(task)
        if not self.in_flight:
            self.wake.set()

    async def _attempt(self, turn: Turn) -> None:
        start, probing = time.monotonic(), turn.lane.breaker.state is State.PROBING
        answer: Delivered | Exception | None
        task = asyncio.current_task()
        self.attempted[task] = turn
        self._deadlines.begin(task)
        try:
            answer = await _send(turn.row, turn.others, self._traces)
        except asyncio.CancelledError:
            answer = self._cut_short(task)
        except (Exception, SystemExit) as error:
            answer = as_delivery_error(error)
        self._deadlines.done(task)
        del self.attempted[task]
        self._conclude(turn, answer, time.monotonic() - start, probing)

    def _conclude(
        self, turn: Turn, answer: Delivered | Exception | None, seconds: float, probing: bool
    ) -> None:
        """What the attempt's end means for its endpoint, and for each of its rows."""
        lane, row, started_at, others = turn
        failure = answer if isinstance(answer, DeliveryError) else None
        matters = failure or self.lanes.doors  # most endpoints never fail, and have none
        door = (row.notifier.name, row.event.recipient) if matters and row.notifier else None
        blamed = self.lanes.ended(
            lane,
            failure,
            seconds,
            started_at,
            door if door and lane.serves_many else None,
            within(row.event.not_after, started_at) if failure else None,
        )
        for each in (row, *others):
            outcome = decide(each.event, answer, self.conf, started_at, round(seconds * 1000))
            if failure and probing and blamed is lane.breaker and lane.held:
                outcome = unspent(outcome, blamed.seconds)
            elif failure and blamed and outcome.status == Status.DEAD:
                blamed.killed(failure)
            if others and not failure:
                outcome = outcome._replace(reason=COMBINED)
            self.recorder.add(each, outcome)
            log_attempt(outcome)

    def _late(self, task: asyncio.Task[Any] | None) -> None:
        self._overdue.add(task)
        if task is not None:
            task.cancel()

    def _cut_short(self, task: asyncio.Task[Any] | None) -> UnknownOutcome:
        """What a cancelled attempt means. Whatever cancelled it, its task goes on with the next row."""
        if task is not None:
            task.uncancel()
        if task not in self._overdue:
            return UnknownOutcome("the worker was stopped before an answer came; it may have arrived")
        self._overdue.discard(task)
        return UnknownOutcome(f"no answer within {self._deadlines.seconds:g} s; it may have arrived")

    async def end(self, at_once: bool) -> None:
        """Wait for what is in flight; at_once: cut it short."""
        if at_once:
            for task in self.in_flight:
                task.cancel()
        await asyncio.gather(*self.in_flight)
        self.give_back(everything=True)


def last_to_first(claimed: list[Claimed], now: datetime) -> Iterable[Claimed]:
    """As they are put into their lanes: each that is urgent in front of those that were put before."""
    urgent = [event for event in claimed if is_urgent(event.not_after, now)]
    if not urgent:
        return claimed
    urgent.sort(key=lambda event: event.not_after or now)
    return [*(event for event in claimed if not is_urgent(event.not_after, now)), *reversed(urgent)]


async def _send(row: InHand, others: Sequence[InHand], traces: bool) -> Delivered | None:
    """The provider's acceptance, or None where the channel has no notifier."""
    if row.notifier is None:
        return None
    message = combined([row.message, *(each.message for each in others)]) if others else row.message
    traced = [each.event for each in (row, *others)] if traces else ()
    with tracing.attempt(row.notifier.name, traced):
        answer = await row.notifier.send(message)
    if not isinstance(answer, Delivered):
        raise TypeError(f"{type(row.notifier).__name__}.send answered {answer!r}, not Delivered")
    return answer


def log_attempt(outcome: Any) -> None:
    event = outcome.event
    if outcome.kind is AttemptOutcome.NO_NOTIFIER:
        logger.warning("notification %s: %s", event.id, outcome.error)
    if logger.isEnabledFor(logging.DEBUG):
        facts = {
            "notification": event.id,
            "channel": outcome.channel,
            "attempt": event.retry_count + 1,
            "outcome": outcome.kind,
            "milliseconds": outcome.duration,
        }
        logger.debug("attempt %(attempt)d of %(notification)s: %(outcome)s", facts, extra=facts)


def load_all(settings: conf.Conf) -> dict[str, Notifier]:
    """Every configured channel's notifier. Raises ImproperlyConfigured before anything is claimed."""
    timeout = settings.send_timeout.total_seconds()
    return {name: load(name, options, timeout) for name, options in settings.channels.items()}
