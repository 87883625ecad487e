"""The engine under every sweep, whoever runs it and for how long: claim, attempt, record.

    Source ── claim ──► Sender ── what ended ──► Recorder ── record ──► the table
    (source.py)        (sender.py, handover.py)  (recorder.py)

The database is spoken to in the caller's thread and in one beside it, the network on an event loop. Rows in
hand are bounded, so a lease is always longer than the wait for a turn plus the attempt itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from asgiref.sync import async_to_sync

from .. import conf, signals
from ..database import said
from ..endpoints.breaker import Records, Rules
from ..endpoints.holds import hurry, read_endpoints
from ..endpoints.lanes import Lanes, Limits
from ..models import SweepKind, SweepRun, certctl
from ..notifiers.endpoint import Endpoint
from ..queue import digest, ends, recipients, traces
from ..queue.claim import Claimed
from ..queue.opened import told
from .connection import Away, Database
from .heartbeat import BEAT_SECONDS
from .leases import Leases
from .recorder import FLUSH_SECONDS, Recorder, Returned
from .relevance import Relevance
from .sender import INTERRUPTED_WAIT, STALE, Sender
from .source import GivenRows, Prepared, Schedule, Scope, Source
from .sweep import Clock, InHand, Options, Sweep, SweepResult, worker_name

logger = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds that one sweep tries to record; what it cannot is repeated after its lease
NOT_KEPT = ("adopted", "withdrawn", "seconds")  # of a sweep's counts, on its record
WHY_NOT = {"away": "the database is away", "contended": "others are in the way in the database"}
LOOK_AGAIN = 0.5  # seconds between claims for endpoints that answer, while many rows wait for such as hang
SHARE = 4  # times as long as such a claim took, at least: it can have a long way to go


class AnySender(Protocol):
    """What the loop asks of a sender: see Sender, which delivers, and HandOverSender."""

    probes: bool
    in_flight: set[Any]
    may_start: bool
    hungry: bool
    resolving: frozenset[str]

    def room(self) -> int: ...
    def has_plenty(self) -> bool: ...
    def closed(self, *, urgent: bool = False) -> frozenset[Endpoint]: ...
    def scopes(self) -> Iterable[Scope]: ...
    def waiting(self) -> int: ...
    async def take_in(self, claimed: list[Claimed], sweep: Sweep) -> tuple[list[Claimed], list[Claimed]]: ...
    def recorded(self, attempts: int) -> None: ...
    def give_back(self, everything: bool = False) -> None: ...
    def start(self) -> None: ...
    def rows(self) -> Any: ...
    async def end(self, at_once: bool) -> None: ...
    async def close(self) -> None: ...


class Engine:
    """Sweeps its sources until they are done, or, where they have intervals, until it is told to stop.

    sender  makes the sender of an engine; Sender, which delivers, unless given
    """

    def __init__(
        self,
        settings: conf.Conf,
        options: Options,
        schedules: Sequence[Schedule],
        sender: Callable[[Engine], AnySender] | None = None,
    ) -> None:
        self.conf = settings
        self.options = options
        self.schedules = list(schedules)
        self.database = Database(settings.database_timeout.total_seconds(), bound=options.patient)
        self.lanes: Lanes[InHand] = Lanes(limits_of(settings), rules_of(settings))
        self.worker = worker_name()
        self._make_sender = sender or delivering
        self._beaten = time.monotonic()
        self._stopped_at = math.inf
        self._claiming: asyncio.Task[None] | None = None
        self._recording: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged = False
        self._answered = 0  # nudges

    def run(self) -> None:
        """Run to the end. Raises django.db's errors when the database is away and we are not patient."""
        self.clock = Clock(self.options.clock)
        self.leases = Leases(self.conf.lease, self.clock)
        with signals.aside(), self.database.two_connections():
            try:
                async_to_sync(self._run)()
            except Away as away:
                raise away.__cause__ or away from None

    def nudge(self) -> None:
        """From any thread: there are new pending rows."""
        self._nudged = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.wake.set)

    async def _run(self) -> None:
        self._loop, self.wake = asyncio.get_running_loop(), asyncio.Event()
        self.recorder = Recorder(self.database, self.clock, self.lanes, self.wake)
        self.relevance = Relevance(self.conf, self.clock, self.database, self.lanes, self.recorder)
        self.sender = self._make_sender(self)
        try:
            while self._has_work():
                await self._patiently(self._release())
                await self._patiently(self._begin_sweeps())
                self._trade()
                await self._patiently(self._end_sweeps())
                await self._beat()
                self.sender.start()
                await self._wait()
        finally:
            await self._drain()
            await self.sender.close()
        self._raise_faults()
        for schedule in self.schedules:
            if schedule.sweep:
                await self._patiently(self._finish(schedule, schedule.sweep))

    async def _patiently(self, work: Coroutine[Any, Any, None]) -> None:
        """A database that is away is waited for where we are patient: the work is done another time."""
        try:
            await work
        except Away as away:
            if not self.options.patient:
                raise
            self.sender.may_start = False
            if away.__cause__:
                what = WHY_NOT[str(away)]
                logger.warning("%s, next try in %g s: %s", what, self.database.pause, said(away.__cause__))

    def _has_work(self) -> bool:
        if self._stopping():
            return bool(self.sender.in_flight) and time.monotonic() < self._stopped_at + self.options.grace
        return any(schedule.sweep or schedule.next_tick < math.inf for schedule in self.schedules)

    def _stopping(self) -> bool:
        if self._stopped_at == math.inf and self.options.stop():
            self._stopped_at = time.monotonic()
        return self._stopped_at < math.inf

    async def _release(self) -> None:
        """Give back what need not wait in our hands, once we know what time it is."""
        stopping = self._stopping()
        unsure = self.database.in_doubt or (self.clock.silence > STALE / 2 and self._holds_rows())
        if unsure and not self.database.away:
            await self._catch_up()
        self.sender.may_start = not (stopping or self.database.in_doubt)
        self.sender.give_back(everything=stopping)
        await self.recorder.release()

    def _holds_rows(self) -> bool:
        return bool(
            self.sender.in_flight or self.lanes.waiting or self.recorder.ended or self.recorder.locked
        )

    async def _catch_up(self) -> None:
        """The database was not asked for a while: it was away, this process or its machine stood still, or
        there was nothing to ask. What time is it, and what in our hands is still ours? And where it was away,
        does it take changes again? Nothing is sent that could not be recorded."""
        await _arrived(self._recording)  # under the leases that stood when it began
        await self.database.call(self.clock.ask)
        await self.database.call(self.leases.take_back)
        ending = self._rows() if self.database.in_doubt else self.leases.ending(self._rows())
        until, kept = await self.database.call(self.leases.renew, [row.event for row in ending])
        for row in ending:
            if row.event.id in kept:
                row.event = row.event._replace(leased_until=until)
        self.database.in_doubt = False

    def _rows(self) -> list[InHand | Returned]:
        return [*self.sender.rows(), *self.recorder.rows()]

    # Sweeps

    async def _begin_sweeps(self) -> None:
        self._answer_nudge()
        for schedule in self.schedules:
            if self._stopping() or time.monotonic() < schedule.next_tick:
                continue
            if schedule.sweep:
                await self._look_again(schedule, schedule.sweep)
            else:
                await self._begin(schedule)

    def _answer_nudge(self) -> None:
        """Before anything that a database which is away could keep from being done: a call is not lost."""
        nudged, self._nudged = self._nudged, False
        self._answered += nudged
        for schedule in self.schedules:
            if not nudged or schedule.source.kind != SweepKind.PENDING:
                continue
            schedule.look_again = 0.0
            if schedule.sweep:
                schedule.sweep.exhausted = None
            else:
                schedule.next_tick = 0.0

    async def _begin(self, schedule: Schedule) -> None:
        done, now = await self._put_right(schedule), self.clock()
        result = SweepResult(str(schedule.source.kind), **done._asdict())
        schedule.sweep = Sweep(result, self.options.limit, now)
        schedule.next_tick = time.monotonic() + schedule.interval

    async def _look_again(self, schedule: Schedule, sweep: Sweep) -> None:
        """The last sweep still runs, perhaps for rows that hang: it does what a second one would."""
        done = await self._put_right(schedule)
        sweep.result.dead += done.dead
        sweep.result.adopted += done.adopted
        sweep.limit, sweep.exhausted = sweep.begun + self.options.limit, None
        schedule.next_tick, schedule.look_again = time.monotonic() + schedule.interval, 0.0

    async def _put_right(self, schedule: Schedule) -> Prepared:
        """Before anything is claimed.

        Record first: what is in our own hands is not for us to reap, and what we learned of endpoints is
        written before they are read.
        """
        await _arrived(self._recording)
        await self.recorder.write()
        ours = [(row.event.id, row.event.leased_until) for row in self._rows()]
        records, done = await self.database.call(self._look, schedule.source, ours)
        self.lanes.read(records)
        return done

    def _look(self, source: Source, ours: list[tuple[str, datetime]]) -> tuple[Records, Prepared]:
        self.clock.ask()
        now = self.clock()
        self.relevance.beside_certctl = beside = certctl.is_here()
        ends.keep_up(now, beside_certctl=beside)
        source.revive(now)
        hurry(now)
        records = read_endpoints(self.conf, now, self.sender.probes)
        return records, source.prepare(now, [pk for pk, leased_until in ours if leased_until <= now])

    async def _end_sweeps(self) -> None:
        claiming = _runs(self._claiming)
        for schedule in self.schedules:
            sweep = schedule.sweep
            if sweep and self._claimed_all(sweep) and not (sweep.in_hand or claiming):
                if self._takes_up(schedule, sweep):
                    await asyncio.sleep(INTERRUPTED_WAIT)
                    sweep.postponed, sweep.exhausted = False, None
                    continue
                await self._finish(schedule, sweep)
                self.lanes.report_failures()
            elif sweep and sweep.begun >= sweep.limit and schedule.interval < math.inf:
                schedule.next_tick = 0.0  # what hangs in its hands keeps nothing else waiting

    def _takes_up(self, schedule: Schedule, sweep: Sweep) -> bool:
        """Whether a sweep goes on with what it put off itself: after cron's, the next is a minute away."""
        alone = schedule.interval == math.inf and not self._stopping()
        return alone and sweep.postponed and self._left(sweep) > 0

    def _claimed_all(self, sweep: Sweep) -> bool:
        """Nothing more to claim: the limit is reached, or all that is left belongs to closed endpoints."""
        if self._left(sweep) <= 0:
            return True
        return sweep.exhausted is not None and self.sender.closed() >= sweep.exhausted

    def _left(self, sweep: Sweep) -> int:
        """Rows that it may still claim; many that wait for endpoints that hang take nobody's place."""
        return sweep.limit - sweep.begun - min(self.sender.waiting(), sweep.in_hand)

    async def _finish(self, schedule: Schedule, sweep: Sweep) -> None:
        await self.database.call(self._write_sweep, sweep)
        schedule.sweep, schedule.result = None, sweep.result
        if sweep.begun >= self.options.limit and schedule.interval < math.inf:
            schedule.next_tick = 0.0  # there is more: the next sweep begins at once
        elif sweep.postponed and schedule.interval < math.inf:
            schedule.next_tick = min(schedule.next_tick, time.monotonic() + INTERRUPTED_WAIT)

    def _write_sweep(self, sweep: Sweep) -> None:
        result, ended_at = sweep.result, self.clock()
        result.seconds = (ended_at - sweep.started_at).total_seconds()
        counts = {n: value for n, value in asdict(result).items() if n not in NOT_KEPT}
        if self.options.log:
            SweepRun.objects.create(
                **counts, started_at=sweep.started_at, ended_at=ended_at, worker=self.worker
            )
        logger.info("%s", result, extra=result.as_dict())
        digest.raise_due(self.conf, now=ended_at)

    async def _beat(self) -> None:
        if time.monotonic() > self._beaten + BEAT_SECONDS:
            self._beaten = time.monotonic()
            self.options.alive()
            if self.options.beat:
                await self._patiently(self.database.call(self.options.beat, len(self.sender.in_flight)))

    # Claiming, recording and asking: none waits for another, and they have no row in common

    def _trade(self) -> None:
        """Send for more rows, let what has ended be recorded, and ask whether what waits still matters, where
        that is wanted and not under way."""
        self._raise_faults()
        if self.database.away:
            return
        if not _runs(self._recording) and self.recorder.is_due(idle=not self.sender.in_flight):
            self._recording = self._start(self._record())
        if not _runs(self._claiming) and (wanted := self._wanted()):
            self._claiming = self._start(self._claim(*wanted))
        if not _runs(self._asking) and self.relevance.is_due():
            self._asking = self._start(self.relevance.ask_again())
        self.sender.hungry = not _runs(self._claiming) and self._could_claim()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._patiently(work))
        task.add_done_callback(lambda _: self.wake.set())
        return task

    def _raise_faults(self) -> None:
        for task in (self._claiming, self._recording, self._asking):
            if task and task.done():
                task.result()

    async def _record(self) -> None:
        if count := await self.recorder.write():
            self.sender.recorded(count)
            for schedule in self.schedules:
                if schedule.sweep:
                    self.options.progress(schedule.sweep.result)

    def _could_claim(self) -> bool:
        return any(s.sweep and not self._claimed_all(s.sweep) for s in self.schedules)

    def _wanted(self) -> tuple[Schedule, Sweep, int, Scope] | None:
        room = 0 if self._stopping() else self.sender.room()
        if not room:
            return None
        now, scopes = time.monotonic(), list(self.sender.scopes())
        for schedule in list(self.schedules):
            sweep = schedule.sweep
            if not sweep or self._claimed_all(sweep):
                continue
            for scope in scopes:
                if scope.narrow and now < schedule.look_again:
                    continue
                self.schedules.remove(schedule)
                self.schedules.append(schedule)  # the next one's turn comes next, however much this one has
                # Of a backlog that has a pace every other claim takes the newest: both are served.
                schedule.newest_first = schedule.has_backlog and not schedule.newest_first
                scope = scope._replace(
                    newest_first=schedule.newest_first, never=self.sender.closed(urgent=True)
                )
                return schedule, sweep, min(room, self._left(sweep)), scope
        return None

    async def _claim(self, schedule: Schedule, sweep: Sweep, wanted: int, scope: Scope) -> None:
        source, asked_at, answered = schedule.source, time.monotonic(), self._answered
        claimed = await self.database.call(self.leases.claim, source, wanted, scope)
        try:
            withdrawn = await self.database.call(self._recall, claimed)
        except BaseException:
            for event in claimed:
                self.recorder.give_back(event, 0.0)
            raise
        sweep.took(len(claimed))
        sweep.result.withdrawn += withdrawn
        held, full = await self.sender.take_in(claimed, sweep)
        # What is refused is due again, so it is not the end; nor is it where a call came meanwhile.
        is_all = (
            not (held or full or withdrawn)
            and source.is_exhausted(wanted, claimed)
            and self._answered == answered
        )
        schedule.has_backlog = len(claimed) + withdrawn >= wanted and self.lanes.has_paced_rows()
        sweep.refused(len(held) + len(full))
        for event in source.refuse(held, full):
            self.recorder.give_back(event, 0.0)
        sweep.exhausted = scope.outside if is_all and not scope.narrow else None
        if scope.narrow and (scope.first or len(claimed) + withdrawn < wanted):
            now = time.monotonic()
            schedule.look_again = now + max(LOOK_AGAIN, SHARE * (now - asked_at))

    def _recall(self, claimed: list[Claimed]) -> int:
        """What else an attempt needs to know of them, and whether they still matter: how many do not."""
        ends.recall(claimed, self.clock(), beside_certctl=self.relevance.beside_certctl)
        withdrawn = self.relevance.withdraw(claimed)
        recipients.recall(claimed)
        told(claimed, self.sender.resolving)
        traces.recall(claimed)
        return withdrawn

    async def _wait(self) -> None:
        """Until something ends or is asked for, at most FLUSH_SECONDS; not while nothing is in hand."""
        idle = not (self._holds_rows() or self.recorder.returned)
        busy = any(_runs(task) for task in (self._claiming, self._recording, self._asking))
        if idle and not (busy or self.database.away):
            if self._could_claim():
                return
            if not any(s.sweep or s.next_tick < math.inf for s in self.schedules):
                return
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), FLUSH_SECONDS)
        self.wake.clear()

    # The end

    async def _drain(self) -> None:
        """Also after an error: let what runs come to an end, record it, give back the rest."""
        at_once = time.monotonic() >= self._stopped_at + self.options.grace
        self._stopped_at = min(self._stopped_at, time.monotonic())
        self.sender.may_start = False
        await _arrived(self._claiming, self._recording, self._asking)
        await self.sender.end(at_once)
        for schedule in self.schedules:
            for event in schedule.source.rest():
                self.recorder.give_back(event, 0.0)
        self.lanes.give_back_probes()
        self.lanes.report_failures()
        deadline = time.monotonic() + PATIENCE
        while True:
            last = time.monotonic() > deadline
            if await self._is_drained(last=last):
                break
            await asyncio.sleep(0.5)

    async def _is_drained(self, last: bool) -> bool:
        """Whether all is recorded and given back; on the last try what could not be is left to its lease."""
        self.database.away_until = 0.0
        try:
            if self.database.in_doubt:
                await self._catch_up()
            await self.database.call(self.leases.take_back)
            await self.recorder.write()
            await self.recorder.release()
        except Away:
            if last and not self.options.patient:
                raise
            if last:
                left = len(self.recorder.ended) + len(self.recorder.locked)
                logger.error("%d outcomes could not be recorded; they are sent again", left)
            return last
        self._recording = None  # whatever had ended it
        return last or not (self.recorder.locked or self.recorder.returned)


def delivering(engine: Engine) -> AnySender:
    return Sender(engine.conf, engine.clock, engine.lanes, engine.recorder, engine.wake)


def deliver(kind: str, claimed: Sequence[Claimed], settings: conf.Conf) -> SweepResult:
    """Deliver rows that are claimed already, and answer what became of them.

    Raises django.db's errors when the database is away.
    """
    schedule = Schedule(GivenRows(kind, claimed))
    Engine(settings, Options(limit=max(1, len(claimed)), log=False), [schedule]).run()
    return schedule.result or SweepResult(kind)


async def _arrived(*tasks: asyncio.Task[None] | None) -> None:
    """Wait for what is under way; what ended it is left to `_raise_faults`."""
    await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)


def _runs(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done()


def limits_of(settings: conf.Conf) -> Limits:
    return Limits(
        ceiling=settings.endpoint_concurrency,
        at_once=settings.concurrency,
        recovery=settings.recovery_rate,
    )


def rules_of(settings: conf.Conf) -> Rules:
    return Rules(longest_wish=settings.backoff_cap.total_seconds())
