"""Claim, attempt, record: the engine under every sweep, whoever runs it and for how long.

The database is spoken to in the caller's thread, the network on an event loop in another. Rows in
hand are bounded, so a lease is always longer than the wait for a turn plus the attempt itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import conf, digest, holds, leases, outages
from .deadlines import Deadlines
from .exceptions import DeliveryError, Reason, UnknownOutcome
from .lanes import Lane, Lanes, Rules
from .leases import Outcome
from .messages import message_of
from .models import AttemptOutcome, NotificationEvent, Status, SweepKind, SweepRun
from .notifiers.base import Delivered, Endpoint, Notifier, load
from .queryset import NotificationQuerySet
from .reach import AWAY, cut
from .sweeps import Clock, Options, Source, SweepResult, due, worker_name
from .verdict import as_delivery_error, decide, spare

logger = logging.getLogger(__name__)

FIRST_CLAIM = 20  # rows; the stride grows from here while endpoints keep up
GROWTH = 4
DATABASE_SECONDS = 0.1  # that a trip to the database takes, on a busy day
MOST_STRIDE = 5  # rows claimed at once for each attempt that may be in flight
FLUSH_ROWS = 200
FLUSH_SECONDS = 0.1
BEAT_SECONDS = 10.0
PATIENCE = 20.0  # seconds that one sweep tries to record; what it cannot is repeated after its lease
LONGEST_PAUSE = 30.0  # between tries to reach a database that is away


Desk = Callable[..., Awaitable[Any]]  # calls something in a thread that has a connection


async def callers_thread(call: Callable[..., Any], *args: Any) -> Any:
    return await sync_to_async(call)(*args)


@contextmanager
def second_connection(using: str) -> Iterator[Desk]:
    """A thread with a connection of its own, where the database and the caller's transaction allow it."""
    connection = connections[using]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield callers_thread
        return

    async def desk(call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, call, *args)

    with ThreadPoolExecutor(1, thread_name_prefix="record") as thread:
        try:
            yield desk
        finally:
            thread.submit(lambda: connections[using].close()).result()


def cut_off(used: list[BaseDatabaseWrapper]) -> None:
    """The database has not answered for too long: whoever waits for it is told so."""
    for connection in used:
        cut(connection.connection)


async def done() -> bool:
    return True


@dataclass(slots=True)
class Wish:
    """Up to `room` rows of a source, but none that goes to an endpoint in `closed`."""

    source: Source
    room: int
    closed: frozenset[Endpoint]
    claimed: list[NotificationEvent] = field(default_factory=list)


class Engine:
    """Runs sweeps from its sources until they are done, or, where they have intervals, until stopped."""

    def __init__(self, settings: conf.Conf, options: Options, sources: list[Source]) -> None:
        self.conf = settings
        self.options = options
        self.sources = sources
        self.worker = worker_name()
        self.lanes: Lanes[NotificationEvent] = Lanes(rules_of(settings))
        self.notifiers: dict[str, Notifier] = {}
        self.stride = FIRST_CLAIM
        self.pace = 0.0  # attempts that ended within a second, of late
        self.tasks: set[asyncio.Task[None]] = set()
        self.deadlines = Deadlines(settings.send_timeout.total_seconds(), self._overdue)
        self.overdue: set[asyncio.Task[Any] | None] = set()
        self.done: list[Outcome] = []
        self.given_back: list[tuple[NotificationEvent, float]] = []  # unattempted, due again in seconds
        self.closed_recipients: dict[tuple[str, str], float] = {}
        self.flushed = self.beaten = time.monotonic()
        self.stopped_at = math.inf
        self.away_until = 0.0  # the database did not answer: nothing is asked of it or sent before this
        self.pause = 0.0
        self.recorder: Desk = callers_thread
        self.loop: asyncio.AbstractEventLoop | None = None
        self.nudged = False

    def run(self) -> None:
        """Run to the end. Raises django.db's errors when the database is away and we are not patient."""
        self.clock = self.options.clock or Clock(self.options.using)
        with second_connection(self.options.using) as self.recorder:
            async_to_sync(self._run)()

    def dispatch(self, hand_over: Callable[[list[NotificationEvent]], None], size: int) -> SweepResult:
        """Claim batches of `size` and hand them over, under their lease, instead of delivering them."""
        self.clock = self.options.clock or Clock(self.options.using)
        [source] = self.sources
        self._prepare(source)
        while (left := self.options.limit - source.result.claimed) > 0 and not self.options.stop():
            # Whoever gets a batch does the probes.
            holds.apply(self.lanes.unused_probes(), now=self.clock(), using=self.options.using)
            batch = self._claim(source, min(left, size), self.lanes.closed())
            if not batch:
                break
            try:
                hand_over(batch)
            except Exception:
                leases.release(batch, due_at=self.clock(), using=self.options.using)
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
        rows: NotificationQuerySet = NotificationEvent.objects.using(self.options.using)
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
            outages.redrive(now=now, using=self.options.using)
        _, source.result.dead = leases.reap(self.rows, now=now, max_attempts=budget, limit=limit)
        if source.kind == SweepKind.RETRY:
            if self.options.include_unscheduled:
                leases.schedule_stranded(self.rows, now=now, limit=limit)
            source.result.dead += leases.bury(self.rows, now=now, max_attempts=budget, limit=limit)

    def _survey(self, now: datetime) -> None:
        using = self.options.using
        known = holds.survey(now=now, using=using, probe_for=self.conf.lease, limit=self.conf.hold_limit)
        self.lanes.know(known)
        self.lanes.know_failures(outages.ongoing(now=now, using=using))

    def _claim_for(self, wish: Wish) -> None:
        wish.claimed = self._claim(wish.source, wish.room, wish.closed)

    def _claim(self, source: Source, count: int, closed: frozenset[Endpoint]) -> list[NotificationEvent]:
        if source.rows is not None:
            claimed, source.rows = source.rows[:count], source.rows[count:]
            return claimed
        now = self.clock()
        eligible = due(source.kind, self.rows, now, self.conf.max_attempts).outside(closed)
        return leases.claim(eligible, count, now=now, lease=self.conf.lease)

    def _record(self, ended: int) -> None:
        """What could not be recorded stays where it is, for the next try."""
        outcomes, changes = self.done[:ended], self.lanes.changes[:]
        recorded = leases.record(outcomes, now=self.clock(), worker=self.worker, using=self.options.using)
        for outcome in outcomes:
            source = self._source_of(outcome.event)
            source.in_hand -= 1
            if outcome.event.pk in recorded:
                source.result.count(outcome)
                continue
            source.result.released += 1
            logger.warning(
                "notification %s changed while its attempt ran (%s); its lease had ended or it is gone",
                outcome.event.pk,
                outcome.outcome,
            )
        if changes:
            holds.apply(changes, now=self.clock(), using=self.options.using)
        del self.done[:ended], self.lanes.changes[: len(changes)]

    def _release(self, rows: list[tuple[NotificationEvent, float]]) -> None:
        now, by_wait = self.clock(), itemgetter(1)
        for wait, group in groupby(sorted(rows, key=by_wait), by_wait):
            events = [event for event, _ in group]
            leases.release(events, due_at=now + timedelta(seconds=wait), using=self.options.using)

    def _disconnect(self) -> None:
        """A connection that broke is not usable again; the next query opens another."""
        connection = connections[self.options.using]
        if not connection.in_atomic_block:
            connection.close()

    def _finish(self, source: Source) -> None:
        result, ended_at = source.result, self.clock()
        started_at = source.started_at or ended_at
        result.seconds = (ended_at - started_at).total_seconds()
        counts = {name: value for name, value in asdict(result).items() if name != "seconds"}
        if self.options.log:
            SweepRun.objects.using(self.options.using).create(
                **counts, started_at=started_at, ended_at=ended_at, worker=self.worker
            )
        logger.info("%s", result, extra=result.as_dict())
        digest.raise_due(self.conf, now=ended_at, using=self.options.using)
        source.active = False
        if result.claimed - result.released >= self.options.limit and source.interval < math.inf:
            source.next_tick = 0.0  # there is more: the next sweep begins at once

    # On the event loop: the network. Every call of the database goes back to the caller's thread.

    async def _run(self) -> None:
        self.loop, self.wake = asyncio.get_running_loop(), asyncio.Event()
        self.notifiers = load_all(self.conf)
        try:
            while await self._has_work():
                await self._begin_sweeps()
                await self._trade()
                await self._end_sweeps()
                self._start()
                await self._wait()
        finally:
            await self._drain()
            self.deadlines.close()
            for notifier in self.notifiers.values():
                await notifier.close()
                await notifier.http.close()
        for source in self.sources:
            if source.active:
                await self._database(self._finish, source)

    async def _has_work(self) -> bool:
        stopping = self._stopping()
        self.given_back += self.lanes.drain(everything=stopping)
        await self._return_given_back()
        if stopping:
            return bool(self.tasks) and time.monotonic() < self.stopped_at + self.options.grace
        return any(source.active or source.next_tick < math.inf for source in self.sources)

    def _stopping(self) -> bool:
        if self.stopped_at == math.inf and self.options.stop():
            self.stopped_at = time.monotonic()
        return self.stopped_at < math.inf

    async def _return_given_back(self) -> None:
        rest, self.given_back = self.given_back, []
        if not rest:
            return
        if not await self._database(self._release, rest):
            self.given_back += rest
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
                await self._database(self._prepare, source)

    async def _end_sweeps(self) -> None:
        for source in self.sources:
            if source.active and self._claimed_all(source) and not source.in_hand:
                await self._database(self._finish, source)
                self.lanes.tell_failures()
        if time.monotonic() > self.beaten + BEAT_SECONDS:
            self.beaten = time.monotonic()
            self.options.alive()
            if self.options.beat:
                await self._database(self.options.beat, len(self.tasks))

    def _claimed_all(self, source: Source) -> bool:
        """Nothing more to claim: the limit is reached, or all that is left belongs to closed endpoints."""
        used = source.result.claimed - source.result.released
        return used >= self.options.limit or (source.dry is not None and self.lanes.closed() >= source.dry)

    async def _trade(self, everything: bool = False) -> bool:
        """One trip to the database: record what has ended, and claim what can start. Whether it was made."""
        wish = None if everything else self._wish()
        age = time.monotonic() - self.flushed
        ripe = everything or wish or len(self.done) >= FLUSH_ROWS or age >= FLUSH_SECONDS or not self.tasks
        ended = len(self.done) if ripe else 0
        if not (ended or wish or (ripe and self.lanes.changes)):
            return True
        # Side by side, on two connections: what is recorded and what is claimed have no row in common.
        trips = await asyncio.gather(
            self._database(self._record, ended, at=self.recorder) if ended or self.lanes.changes else done(),
            self._database(self._claim_for, wish) if wish else done(),
            return_exceptions=True,
        )
        if ended and trips[0] is True:
            self.pace, self.flushed = ended / max(age, 0.001), time.monotonic()
            for source in self.sources:
                self.options.progress(source.result)
        if wish and trips[1] is True:
            await self._take_in(wish)
        for trip in trips:
            if isinstance(trip, BaseException):
                raise trip
        return all(trips)

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
            room = min(self.stride, max(FIRST_CLAIM, self.lanes.room()), left)
            return Wish(source, room, self.lanes.closed())
        return None

    async def _take_in(self, wish: Wish) -> None:
        """Let what was claimed wait in its lanes, and give back what finds no place there."""
        source, claimed = wish.source, wish.claimed
        refused = [event for event in claimed if not self.lanes.put(event, self._lane(event))]
        # What is refused is due again, so it is not the end.
        source.dry = wish.closed if len(claimed) < wish.room and not refused else None
        taken = len(claimed) - len(refused)
        if source.rows is not None:
            # Handed over once: what finds its lane full waits here, only what is held goes back.
            source.rows += [event for event in refused if not self._lane(event).held]
            refused = [event for event in refused if self._lane(event).held]
            source.dry = None if source.rows else wish.closed
        source.result.claimed += taken
        source.in_hand += taken
        if refused:
            await self._database(self._release, [(event, 0.0) for event in refused])
        # Many refused means that few endpoints own what is next: look for the others in small steps.
        grown = self.stride // 2 if refused else self.stride * GROWTH
        # At most what starts within about a second, or the loop would wait for the database.
        most = max(2 * self.conf.concurrency, min(round(self.pace), MOST_STRIDE * self.conf.concurrency))
        self.stride = max(FIRST_CLAIM, min(grown, most))

    async def _database(self, call: Callable[..., Any], *args: Any, at: Desk = callers_thread) -> bool:
        """Whether it was done; False, where we are patient, while the database is away."""
        if time.monotonic() < self.away_until:
            return False
        used: list[BaseDatabaseWrapper] = []

        def trip() -> None:
            used.append(connections[self.options.using])  # that of the thread which makes the trip
            call(*args)

        limit = self.conf.database_timeout.total_seconds()
        timer = asyncio.get_running_loop().call_later(limit, cut_off, used)
        try:
            await at(trip)
        except AWAY as error:
            await at(self._disconnect)
            if not self.options.patient:
                raise
            self.pause = min(max(2 * self.pause, 1.0), LONGEST_PAUSE)
            self.away_until = time.monotonic() + self.pause
            logger.warning(
                "the database is away, next try in %g s: %s", self.pause, " ".join(str(error).split())
            )
            return False
        finally:
            timer.cancel()
        self.pause = 0.0
        return True

    def _source_of(self, event: NotificationEvent) -> Source:
        kind = SweepKind.PENDING if event.status == Status.PENDING else SweepKind.RETRY
        return next((source for source in self.sources if source.kind == kind), self.sources[0])

    def _lane(self, event: NotificationEvent) -> Lane[NotificationEvent]:
        name = self.conf.channel(event.channel)
        if name is None:
            return self.lanes.lane(Endpoint("no notifier", event.channel))
        notifier = self.notifiers[name]
        return self.lanes.lane(
            self.lanes.apart(name, event.recipient) or notifier.endpoint(message_of(event, "")),
            ceiling=notifier.endpoint_concurrency or self.conf.endpoint_concurrency,
            per_second=notifier.max_per_second,
        )

    def _start(self) -> None:
        while len(self.tasks) < self.conf.concurrency and (turn := self._turn()):
            task = asyncio.get_running_loop().create_task(self._go_on(*turn))
            self.tasks.add(task)
            task.add_done_callback(self._ended)

    def _turn(self) -> tuple[Lane[NotificationEvent], NotificationEvent] | None:
        """The next row to attempt; None while there is none, or what it comes to could not be recorded."""
        if self.away_until > time.monotonic() or self._stopping():
            return None
        while turn := self.lanes.take(time.monotonic()):
            lane, event = turn
            if self._may_go(event):
                return turn
            self.lanes.unstarted(lane)
        return None

    def _may_go(self, event: NotificationEvent) -> bool:
        """Not when its attempt could outlive its lease, nor where the provider has shut the door."""
        now = self.clock()
        pause = self.closed_recipients.get((event.channel, event.recipient), 0.0)
        if pause or now + self.conf.send_timeout > (event.leased_until or now):
            self.given_back.append((event, pause))
            return False
        return True

    async def _go_on(self, lane: Lane[NotificationEvent], event: NotificationEvent) -> None:
        """One attempt after the other, as long as there is a turn: a task for each would cost more."""
        turn: tuple[Lane[NotificationEvent], NotificationEvent] | None = (lane, event)
        while turn:
            await self._attempt(*turn)
            if len(self.done) >= FLUSH_ROWS or self._starving():
                self.wake.set()
            turn = self._turn()
            self._start()  # an endpoint that answers may have more in flight than before

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not self.tasks:
            self.wake.set()

    def _has_plenty(self) -> bool:
        """More rows in hand than start while the database answers."""
        enough = min(round(self.pace * DATABASE_SECONDS), self.stride)
        return self.lanes.waiting > max(self.stride // 2, enough)

    def _starving(self) -> bool:
        return not self._has_plenty() and any(
            source.active and not self._claimed_all(source) for source in self.sources
        )

    async def _wait(self) -> None:
        """Until something ends or is asked for, at most FLUSH_SECONDS; not while nothing is in hand."""
        if not (self.tasks or self.lanes.waiting or self.done) and time.monotonic() > self.away_until:
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
            for task in self.tasks:
                task.cancel()
        self.stopped_at = min(self.stopped_at, time.monotonic())
        await asyncio.gather(*self.tasks)
        self.given_back += self.lanes.drain(everything=True)
        for source in self.sources:
            left = source.rows or []
            source.result.claimed += len(left)
            source.in_hand += len(left)
            self.given_back += [(event, 0.0) for event in left]
        self.lanes.changes += self.lanes.unused_probes()
        self.lanes.tell_failures()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.away_until = 0.0
                if await self._trade(everything=True):
                    await self._return_given_back()
                    break
            except AWAY:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                logger.error("%d outcomes could not be recorded; they are sent again", len(self.done))
                break
            await asyncio.sleep(0.5)

    async def _attempt(self, lane: Lane[NotificationEvent], event: NotificationEvent) -> None:
        started_at, start = self.clock(), time.monotonic()
        probing = lane.probing
        answer: Delivered | Exception | None
        task = asyncio.current_task()
        self.deadlines.begin(task)
        try:
            answer = await self._send(event)
        except asyncio.CancelledError:
            answer = self._cut_short(task)
        except (Exception, SystemExit) as error:
            answer = as_delivery_error(error)
        self.deadlines.done(task)
        seconds = time.monotonic() - start
        outcome = decide(event, answer, self.conf, started_at, round(seconds * 1000))
        failure = answer if isinstance(answer, DeliveryError) else None
        blamed = self._learn(lane, event, failure, seconds, started_at)
        if failure and probing and blamed is lane and lane.held:
            outcome = spare(outcome, lane.pause)
        elif failure and blamed and outcome.status == Status.DEAD:
            self.lanes.died(blamed, failure)
        self.done.append(outcome)
        log_attempt(outcome)

    def _overdue(self, task: asyncio.Task[Any] | None) -> None:
        self.overdue.add(task)
        if task is not None:
            task.cancel()

    def _cut_short(self, task: asyncio.Task[Any] | None) -> UnknownOutcome:
        """What a cancelled attempt means. Whatever cancelled it, its task goes on with the next row."""
        if task is not None:
            task.uncancel()
        if task not in self.overdue:
            return UnknownOutcome("the worker was stopped before an answer came; it may have arrived")
        self.overdue.discard(task)
        return UnknownOutcome(f"no answer within {self.deadlines.seconds:g} s; it may have arrived")

    def _learn(
        self,
        lane: Lane[NotificationEvent],
        event: NotificationEvent,
        error: DeliveryError | None,
        seconds: float,
        started_at: datetime,
    ) -> Lane[NotificationEvent] | None:
        """Tell the lane; answers the one to blame. Where a host serves many, a closed door is the
        recipient's alone."""
        if not (error and error.reason in (Reason.AUTH, Reason.GONE) and serves_many(lane)):
            self.lanes.ended(lane, error, seconds, started_at)
            return lane if error and error.blames_endpoint else None
        digest = hashlib.sha256(event.recipient.encode()).hexdigest()[:12]
        channel = self.conf.channel(event.channel) or event.channel
        door = Endpoint(f"{lane.key} {digest}", channel, event.recipient, exact=True)
        self.closed_recipients[event.channel, event.recipient] = self.lanes.rules.auth_hold
        self.lanes.ended(lane, None, seconds, started_at)
        return self.lanes.hold(door, error, started_at)

    async def _send(self, event: NotificationEvent) -> Delivered | None:
        """The provider's acceptance, or None where the channel has no notifier."""
        name = self.conf.channel(event.channel)
        if name is None:
            return None
        answer = await self.notifiers[name].send(message_of(event, self.conf.base_url))
        if not isinstance(answer, Delivered):
            raise TypeError(f"{type(self.notifiers[name]).__name__}.send answered {answer!r}, not Delivered")
        return answer


def serves_many(lane: Lane[NotificationEvent]) -> bool:
    """Whether the endpoint is a host, where every recipient has a door of its own."""
    return any(endpoint.recipient_prefix and not endpoint.exact for endpoint in lane.endpoints)


def log_attempt(outcome: Outcome) -> None:
    event = outcome.event
    if outcome.outcome == AttemptOutcome.NO_NOTIFIER:
        logger.warning("notification %s: %s", event.pk, outcome.error)
    if logger.isEnabledFor(logging.DEBUG):
        facts = {
            "notification": event.pk,
            "channel": outcome.channel,
            "attempt": event.retry_count + 1,
            "outcome": outcome.outcome,
            "milliseconds": outcome.duration,
        }
        logger.debug("attempt %(attempt)d of %(notification)s: %(outcome)s", facts, extra=facts)


def rules_of(settings: conf.Conf) -> Rules:
    return Rules(
        ceiling=settings.endpoint_concurrency,
        longest_wish=settings.backoff_cap.total_seconds(),
        recovery=settings.recovery_rate,
    )


def load_all(settings: conf.Conf) -> dict[str, Notifier]:
    """Every configured channel's notifier. Raises ImproperlyConfigured before anything is claimed."""
    timeout = settings.send_timeout.total_seconds()
    return {name: load(name, options, timeout) for name, options in settings.channels.items()}
