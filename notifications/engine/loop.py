"""Claim, attempt, record: the engine under every sweep, whoever runs it and for how long.

The database is spoken to in the caller's thread, the network on an event loop in another. Rows in
hand are bounded, so a lease is always longer than the wait for a turn plus the attempt itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from asgiref.sync import async_to_sync

from .. import conf
from ..database import AWAY
from ..endpoints import holds, outages
from ..endpoints.lanes import HoldChange, Lanes, Rules
from ..models import NotificationEvent, NotificationQuerySet, Status, SweepKind, SweepRun
from ..notifiers.base import Endpoint
from ..queue import digest
from ..queue.claim import Claim, Claimed, claim
from ..queue.reap import bury, reap, schedule_stranded
from ..queue.record import Outcome, Recorded, record
from ..queue.release import release
from .claim_size import FIRST, Strides
from .connection import Trips
from .heartbeat import BEAT_SECONDS
from .sender import Attempts, InHand
from .sweep import Clock, Options, Source, SweepResult, due, worker_name

logger = logging.getLogger(__name__)

FLUSH_ROWS = 200
LAST_FLUSH_ROWS = 50
FLUSH_SECONDS = 0.1
PATIENCE = 20.0  # seconds that one sweep tries to record; what it cannot is repeated after its lease


@dataclass(slots=True)
class Wish:
    """Up to `room` rows of a source, but none that goes to an endpoint in `closed`."""

    source: Source
    room: int
    closed: frozenset[Endpoint]
    claimed: list[Claimed] = field(default_factory=list)


class Engine:
    """Runs sweeps from its sources until they are done, or, where they have intervals, until stopped."""

    def __init__(self, settings: conf.Conf, options: Options, sources: list[Source]) -> None:
        self.conf = settings
        self.options = options
        self.sources = sources
        self.by_kind = {source.kind: source for source in sources}
        self.worker = worker_name()
        self.lanes: Lanes[InHand] = Lanes(rules_of(settings))
        self.strides = Strides(settings.concurrency, time.monotonic())
        self.attempts = Attempts(
            settings,
            self.lanes,
            clock=lambda: self.clock(),
            may_start=lambda: not (self.trips.away or self._stopping()),
            one_more=self._one_more,
        )
        self.trips = Trips(limit=settings.database_timeout.total_seconds(), patient=options.patient)
        self.beaten = time.monotonic()
        self.stopped_at = math.inf
        self.claiming: asyncio.Task[bool] | None = None
        self.recording: asyncio.Task[bool] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.nudged = False

    def run(self) -> None:
        """Run to the end. Raises django.db's errors when the database is away and we are not patient."""
        self.clock = self.options.clock or Clock()
        with self.trips.two_connections():
            async_to_sync(self._run)()

    def dispatch(self, hand_over: Callable[[list[Claimed]], None], size: int) -> SweepResult:
        """Claim batches of `size` and hand them over, under their lease, instead of delivering them."""
        self.clock = self.options.clock or Clock()
        [source] = self.sources
        self._prepare(source)
        while (left := self.options.limit - source.result.claimed) > 0 and not self.options.stop():
            # Whoever gets a batch does the probes.
            holds.apply(self.lanes.unused_probes(), now=self.clock())
            batch = self._claim(source, min(left, size), self.lanes.closed())
            if not batch:
                break
            try:
                hand_over(batch)
            except Exception:
                release(batch, due_at=self.clock())
                raise
            source.result.claimed += len(batch)
            self.options.progress(source.result)
            self._survey(self.clock())
        self._finish(source)
        return source.result

    def nudge(self) -> None:
        """From any thread: there are new pending rows."""
        self.nudged = True
        if self.loop and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.wake.set)

    # In the caller's thread: the database

    @property
    def rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = NotificationEvent.objects.all()
        return rows.on_channel(self.options.channel) if self.options.channel else rows

    def _prepare(self, source: Source) -> None:
        """Begin a sweep: put right what others left behind, before anything is claimed."""
        if isinstance(self.clock, Clock):
            self.clock.ask()
        now, limit, budget = self.clock(), self.options.limit, self.conf.max_attempts
        source.start(now, time.monotonic())
        self._survey(now)
        if source.rows is not None:
            return
        if self.conf.redrive_on_recovery:
            outages.redrive(now=now)
        _, source.result.dead = reap(self.rows, now=now, max_attempts=budget, limit=limit)
        if source.kind == SweepKind.RETRY:
            if self.options.include_unscheduled:
                schedule_stranded(self.rows, now=now, limit=limit)
            source.result.dead += bury(self.rows, now=now, max_attempts=budget, limit=limit)

    def _survey(self, now: datetime) -> None:
        known = holds.survey(now=now, probe_for=self.conf.lease, limit=self.conf.hold_limit)
        self.lanes.know(known)
        self.lanes.know_failures(outages.ongoing(now=now))

    def _claim_for(self, wish: Wish) -> None:
        wish.claimed = self._claim(wish.source, wish.room, wish.closed)

    def _claim(self, source: Source, count: int, closed: frozenset[Endpoint]) -> list[Claimed]:
        if source.rows is not None:
            claimed, source.rows = source.rows[:count], source.rows[count:]
            return claimed
        now = self.clock()
        eligible = due(source.kind, self.rows, now, self.conf.max_attempts).outside(closed)
        return claim(eligible, count, now=now, lease=self.conf.lease)

    def _record(self, outcomes: list[Outcome], changes: list[HoldChange], answer: list[Recorded]) -> None:
        answer.append(record(outcomes, now=self.clock(), worker=self.worker))
        if changes:
            holds.apply(changes, now=self.clock())

    def _release(self, rows: list[tuple[Claimed, float]]) -> None:
        now, by_wait = self.clock(), itemgetter(1)
        for wait, group in groupby(sorted(rows, key=by_wait), by_wait):
            events = [event for event, _ in group]
            release(events, due_at=now + timedelta(seconds=wait))

    def _finish(self, source: Source) -> None:
        result, ended_at = source.result, self.clock()
        started_at = source.started_at or ended_at
        result.seconds = (ended_at - started_at).total_seconds()
        counts = {name: value for name, value in asdict(result).items() if name != "seconds"}
        if self.options.log:
            SweepRun.objects.create(**counts, started_at=started_at, ended_at=ended_at, worker=self.worker)
        logger.info("%s", result, extra=result.as_dict())
        digest.raise_due(self.conf, now=ended_at)
        source.active = False
        if result.claimed - result.released >= self.options.limit and source.interval < math.inf:
            source.next_tick = 0.0  # there is more: the next sweep begins at once

    # On the event loop: the network. Every call of the database goes back to the caller's thread.

    async def _run(self) -> None:
        self.loop, self.wake = asyncio.get_running_loop(), asyncio.Event()
        self.attempts.open()
        try:
            while await self._has_work():
                await self._begin_sweeps()
                self._trade()
                await self._end_sweeps()
                self.attempts.start()
                await self._wait()
        finally:
            await self._drain()
            await self.attempts.close()
        self._raise_faults()
        for source in self.sources:
            if source.active:
                await self.trips.make(self._finish, source)

    async def _has_work(self) -> bool:
        stopping = self._stopping()
        self.attempts.give_back(everything=stopping)
        await self._return_given_back()
        if stopping:
            return bool(self.attempts.tasks) and time.monotonic() < self.stopped_at + self.options.grace
        return any(source.active or source.next_tick < math.inf for source in self.sources)

    def _stopping(self) -> bool:
        if self.stopped_at == math.inf and self.options.stop():
            self.stopped_at = time.monotonic()
        return self.stopped_at < math.inf

    async def _return_given_back(self) -> None:
        rest, self.attempts.given_back = self.attempts.given_back, []
        if not rest:
            return
        if not await self.trips.make(self._release, rest):
            self.attempts.given_back += rest
            return
        for event, _ in rest:
            source = self._source_of(event)
            source.in_hand -= 1
            source.result.released += 1

    async def _begin_sweeps(self) -> None:
        nudged, self.nudged = self.nudged, False
        for source in self.sources:
            if nudged and source.kind == SweepKind.PENDING:
                source.next_tick = 0.0
            if time.monotonic() < source.next_tick or self._stopping():
                continue
            if source.active:  # the last sweep still runs: it looks again instead of a second one
                source.dry = None
                source.next_tick = time.monotonic() + source.interval
            else:
                # Else it could read the holds before they are written, and open what was just held.
                await self._arrived(self.recording)
                await self.trips.make(self._prepare, source)

    async def _end_sweeps(self) -> None:
        claiming = _runs(self.claiming)
        for source in self.sources:
            if source.active and self._claimed_all(source) and not (source.in_hand or claiming):
                await self.trips.make(self._finish, source)
                self.lanes.tell_failures()
        if time.monotonic() > self.beaten + BEAT_SECONDS:
            self.beaten = time.monotonic()
            self.options.alive()
            if self.options.beat:
                await self.trips.make(self.options.beat, len(self.attempts.tasks))

    def _claimed_all(self, source: Source) -> bool:
        """Nothing more to claim: the limit is reached, or all that is left belongs to closed endpoints."""
        used = source.result.claimed - source.result.released
        return used >= self.options.limit or (source.dry is not None and self.lanes.closed() >= source.dry)

    def _trade(self) -> None:
        """Send for more rows and let what has ended be recorded, where that is wanted and not under way.

        Neither waits for the other: they are made on two connections, and have no row in common.
        """
        self._raise_faults()
        if self.trips.away:
            return
        if not _runs(self.recording) and self._flush_due():
            self.recording = self._begin(self._record_ended())
        if not _runs(self.claiming) and (wish := self._wish()):
            self.claiming = self._begin(self._claim_wished(wish))

    def _begin(self, trip: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        task = asyncio.get_running_loop().create_task(trip)
        task.add_done_callback(lambda _: self.wake.set())
        return task

    async def _arrived(self, *trips: asyncio.Task[bool] | None) -> None:
        """Wait for what is under way; what ended it is left to `_raise_faults`."""
        await asyncio.gather(*(trip for trip in trips if trip), return_exceptions=True)

    def _raise_faults(self) -> None:
        for trip in (self.claiming, self.recording):
            if trip and trip.done():
                trip.result()

    def _flush_due(self) -> bool:
        if not (self.attempts.done or self.lanes.changes):
            return False
        late = time.monotonic() >= self.strides.since + FLUSH_SECONDS
        return late or len(self.attempts.done) >= self._batch() or not self.attempts.tasks

    def _batch(self) -> int:
        """Outcomes worth a trip; fewer towards the end, where nothing else is to do meanwhile."""
        return FLUSH_ROWS if self.lanes.waiting else LAST_FLUSH_ROWS

    async def _record_ended(self) -> bool:
        """What could not be recorded stays where it is, for the next try."""
        outcomes, changes = self.attempts.done[:], self.lanes.changes[:]
        if not (outcomes or changes):
            return True
        if outcomes:
            self.strides.ended(len(outcomes), time.monotonic())
        answer = list[Recorded]()
        if not await self.trips.make(self._record, outcomes, changes, answer, at=self.trips.beside):
            return False
        [recorded] = answer
        now = self.clock()
        again = [o for o in outcomes if o.event.id in recorded.locked and o.event.leased_until > now]
        self.attempts.done[: len(outcomes)] = again
        del self.lanes.changes[: len(changes)]
        for outcome in outcomes:
            if outcome not in again:
                self._count(outcome, recorded)
        for source in self.sources:
            self.options.progress(source.result)
        return not again

    def _count(self, outcome: Outcome, recorded: Recorded) -> None:
        source = self._source_of(outcome.event)
        source.in_hand -= 1
        if outcome.event.id in recorded.set_aside:
            outcome = outcome._replace(status=Status.DEAD)
        if outcome.event.id in recorded.written | recorded.set_aside:
            source.result.count(outcome)
            return
        source.result.released += 1
        logger.warning(
            "notification %s changed while its attempt ran (%s); its lease had ended or it is gone",
            outcome.event.id,
            outcome.outcome,
        )

    async def _claim_wished(self, wish: Wish) -> bool:
        made = await self.trips.make(self._claim_for, wish)
        if made:
            await self._take_in(wish)
            self.attempts.start()
        return made

    def _wish(self) -> Wish | None:
        """Keep a stride of rows waiting: enough to never idle, few enough to start within their lease."""
        if self._has_plenty() or self._stopping():
            return None
        for source in self.sources:
            if not source.active or self._claimed_all(source):
                continue
            self.sources.remove(source)
            self.sources.append(source)  # the next one's turn comes next, however much this one has
            left = self.options.limit - source.result.claimed + source.result.released
            room = min(self.strides.most, max(FIRST, self.lanes.room()), left)
            return Wish(source, room, self.lanes.closed())
        return None

    async def _take_in(self, wish: Wish) -> None:
        """Let what was claimed wait in its lanes, and give back what finds no place there."""
        source, claimed = wish.source, wish.claimed
        if not (self.attempts.tasks or self.attempts.done):
            self.strides.begin(time.monotonic())
        full = [(event, lane) for event in claimed if (lane := self.attempts.take_in(event))]
        # What is refused is due again, so it is not the end.
        cut = isinstance(claimed, Claim) and claimed.full
        source.dry = wish.closed if len(claimed) < wish.room and not (full or cut) else None
        refused = [event for event, lane in full if lane.held or source.rows is None]
        if source.rows is not None:
            # Handed over once: what finds its lane full waits here, only what is held goes back.
            source.rows += [event for event, lane in full if not lane.held]
            source.dry = None if source.rows else wish.closed
        source.result.claimed += len(claimed) - len(full)
        source.in_hand += len(claimed) - len(full)
        if refused:
            await self.trips.make(self._release, [(event, 0.0) for event in refused])
        self.strides.claimed(refused=bool(refused))

    def _source_of(self, event: Claimed) -> Source:
        kind = SweepKind.PENDING if event.status == Status.PENDING else SweepKind.RETRY
        return self.by_kind.get(kind, self.sources[0])

    def _one_more(self) -> None:
        full = len(self.attempts.done) >= self._batch() and not _runs(self.recording)
        if full or not self.attempts.tasks or (not _runs(self.claiming) and self._starving()):
            self.wake.set()

    def _has_plenty(self) -> bool:
        ready = self.lanes.ready
        return self.strides.plenty(ready=ready, unheard=self.lanes.waiting - ready)

    def _starving(self) -> bool:
        return not self._has_plenty() and any(
            source.active and not self._claimed_all(source) for source in self.sources
        )

    async def _wait(self) -> None:
        """Until something ends or is asked for, at most FLUSH_SECONDS; not while nothing is in hand."""
        idle = not (self.attempts.tasks or self.lanes.waiting or self.attempts.done)
        if idle and not (_runs(self.claiming) or _runs(self.recording) or self.trips.away):
            active = [source for source in self.sources if source.active]
            more = any(not self._claimed_all(source) for source in active)
            if more or not (active or any(source.next_tick < math.inf for source in self.sources)):
                return
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), FLUSH_SECONDS)
        self.wake.clear()

    async def _drain(self) -> None:
        """The end, also after an error: let what runs come to an end, record it, give back the rest."""
        if time.monotonic() >= self.stopped_at + self.options.grace:
            for task in self.attempts.tasks:
                task.cancel()
        self.stopped_at = min(self.stopped_at, time.monotonic())
        await self._arrived(self.claiming, self.recording)
        await asyncio.gather(*self.attempts.tasks)
        self.attempts.give_back(everything=True)
        for source in self.sources:
            left = source.rows or []
            source.result.claimed += len(left)
            source.in_hand += len(left)
            self.attempts.given_back += [(event, 0.0) for event in left]
        self.lanes.changes += self.lanes.unused_probes()
        self.lanes.tell_failures()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.trips.away_until = 0.0
                if await self._record_ended():
                    self.recording = None  # whatever had ended it
                    await self._return_given_back()
                    break
            except AWAY:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                logger.error(
                    "%d outcomes could not be recorded; they are sent again", len(self.attempts.done)
                )
                break
            await asyncio.sleep(0.5)


def _runs(trip: asyncio.Task[bool] | None) -> bool:
    return trip is not None and not trip.done()


def rules_of(settings: conf.Conf) -> Rules:
    return Rules(
        ceiling=settings.endpoint_concurrency,
        longest_wish=settings.backoff_cap.total_seconds(),
        recovery=settings.recovery_rate,
        at_once=settings.concurrency,
    )
