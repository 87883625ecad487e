"""One sweep: claim what is due, attempt each, record. No SQL and no HTTP of its own.

The database is spoken to in the caller's thread, the network on an event loop in another; rows in
hand are bounded, so a lease is always longer than the wait for a turn plus the attempt itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.urls import NoReverseMatch, reverse

from . import backoff, conf, holds, leases
from .exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from .lanes import HoldChange, Lane, Lanes, Rules
from .leases import Outcome
from .models import AttemptOutcome, NotificationEvent, Status, SweepKind, SweepRun
from .notifiers.base import Delivered, Endpoint, Message, Notifier, load
from .queryset import NotificationQuerySet, database_now

logger = logging.getLogger(__name__)

FIRST_CLAIM = 20  # rows; the stride doubles from here while endpoints keep up
FLUSH_ROWS = 200
FLUSH_SECONDS = 0.1
# The waits between tries to record; what cannot be recorded is sent again when its lease ends.
RECORD_PAUSES = (0.5, 1.0, 2.0, 5.0, None)


@dataclass(slots=True)
class SweepResult:
    """What one sweep did. Every claimed row is in exactly one of the counts that follow `claimed`.

    Rows that died without being claimed (a lease ran out on the last attempt, or the budget was
    spent before) are in `dead` too. seconds: from the first claim to the last record.
    """

    kind: str
    claimed: int = 0
    sent: int = 0
    rescheduled: int = 0
    dead: int = 0
    no_notifier: int = 0
    released: int = 0
    seconds: float = 0.0

    @property
    def finished(self) -> int:
        """How many rows are done with."""
        return self.sent + self.rescheduled + self.dead + self.no_notifier + self.released

    def __str__(self) -> str:
        return (
            f"{self.kind} sweep: {self.claimed} claimed, {self.sent} sent, {self.rescheduled} rescheduled,"
            f" {self.dead} dead, {self.no_notifier} without a notifier, {self.released} released"
            f" in {self.seconds:.1f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Options:
    """What one call may say beyond the settings.

    stop      asked between claims: True means claim no more, finish what runs, release the rest
    progress  called with the result so far, about ten times a second
    clock     what time it is; the database's own clock unless given
    """

    limit: int
    channel: str | None = None
    include_unscheduled: bool = False
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[SweepResult], None] = lambda result: None
    clock: Callable[[], datetime] | None = None
    using: str = DEFAULT_DB_ALIAS


def retry_failed(**options: Any) -> SweepResult:
    """One sweep of the failed notifications that are due. See `sweep` for the options."""
    return sweep(SweepKind.RETRY, **options)


def send_pending(**options: Any) -> SweepResult:
    """One sweep of the pending notifications. See `sweep` for the options."""
    return sweep(SweepKind.PENDING, **options)


def sweep(
    kind: str,
    *,
    limit: int | None = None,
    max_attempts: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> SweepResult:
    """Run one sweep and answer its counts; limit, max_attempts and concurrency override the settings.

    Raises ImproperlyConfigured for bad settings and django.db's errors when the database is away;
    a notification's own failure raises nothing.
    """
    settings = conf.current()
    settings = replace(
        settings,
        sweep_limit=limit or settings.sweep_limit,
        max_attempts=max_attempts or settings.max_attempts,
        concurrency=concurrency or settings.concurrency,
    )
    return Sweep(kind, settings, Options(limit=settings.sweep_limit, **options)).run()


def due(kind: str, rows: NotificationQuerySet, now: datetime, max_attempts: int) -> NotificationQuerySet:
    """The notifications that a sweep of this kind may claim, in its order."""
    if kind == SweepKind.RETRY:
        return rows.retry_eligible(now, max_attempts)
    return rows.pending().order_by("created_at")


class Clock:
    """The database's clock, asked once and carried forward by this machine's monotonic one."""

    def __init__(self, using: str) -> None:
        self._base = database_now(using)
        self._since = time.monotonic()

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=time.monotonic() - self._since)


class Sweep:
    """One pass over what is due. `run` is the whole of its interface."""

    def __init__(self, kind: str, settings: conf.Conf, options: Options) -> None:
        self.kind = kind
        self.conf = settings
        self.options = options
        self.result = SweepResult(kind=str(kind))
        self.worker = worker_name()
        self.lanes: Lanes[NotificationEvent] = Lanes(rules_of(settings))
        self.stride = FIRST_CLAIM
        self.tasks: set[asyncio.Task[None]] = set()
        self.done: list[Outcome] = []
        self.given_back: list[tuple[NotificationEvent, float]] = []  # unattempted, due again in seconds
        self.closed_recipients: dict[tuple[str, str], float] = {}
        self.dry: frozenset[Endpoint] | None = None  # nothing was left outside these closed endpoints
        self.flushed = time.monotonic()

    def run(self) -> SweepResult:
        self.clock = self.options.clock or Clock(self.options.using)
        started_at = self.clock()
        self._prepare()
        async_to_sync(self._deliver)()
        self._log_run(started_at)
        return self.result

    # In the caller's thread: the database

    @property
    def rows(self) -> NotificationQuerySet:
        rows: NotificationQuerySet = NotificationEvent.objects.using(self.options.using)
        return rows.on_channel(self.options.channel) if self.options.channel else rows

    def _prepare(self) -> None:
        """Put right what others left behind, before anything is claimed."""
        now, limit = self.clock(), self.options.limit
        budget = self.conf.max_attempts
        _, died = leases.reap(self.rows, now=now, max_attempts=budget, limit=limit)
        self.result.dead += died
        if self.kind == SweepKind.RETRY:
            if self.options.include_unscheduled:
                leases.schedule_stranded(self.rows, now=now, limit=limit)
            self.result.dead += leases.bury(self.rows, now=now, max_attempts=budget, limit=limit)
        for endpoint, failures, ours in holds.survey(
            now=now, using=self.options.using, probe_for=self.conf.lease
        ):
            if ours:
                self.lanes.probe(endpoint, failures)
            else:
                self.lanes.keep_held(endpoint)

    def _claim(self, count: int, closed: frozenset[Endpoint]) -> list[NotificationEvent]:
        now = self.clock()
        eligible = due(self.kind, self.rows, now, self.conf.max_attempts).outside(closed)
        return leases.claim(eligible, count, now=now, lease=self.conf.lease)

    def _record(self, outcomes: list[Outcome]) -> None:
        recorded = leases.record(outcomes, now=self.clock(), worker=self.worker, using=self.options.using)
        for outcome in outcomes:
            if outcome.event.pk in recorded:
                self._count(outcome)
            else:
                self.result.released += 1
                logger.warning(
                    "notification %s changed while its attempt ran (%s); its lease had ended or it is gone",
                    outcome.event.pk,
                    outcome.outcome,
                )

    def _release(self, rows: list[tuple[NotificationEvent, float]]) -> None:
        now, by_wait = self.clock(), itemgetter(1)
        for wait, group in groupby(sorted(rows, key=by_wait), by_wait):
            events = [event for event, _ in group]
            leases.release(events, due_at=now + timedelta(seconds=wait), using=self.options.using)

    def _log_run(self, started_at: datetime) -> None:
        ended_at = self.clock()
        self.result.seconds = (ended_at - started_at).total_seconds()
        counts = {name: value for name, value in asdict(self.result).items() if name != "seconds"}
        SweepRun.objects.using(self.options.using).create(
            **counts, started_at=started_at, ended_at=ended_at, worker=self.worker
        )
        logger.info("%s", self.result, extra=self.result.as_dict())

    def _count(self, outcome: Outcome) -> None:
        if outcome.outcome == AttemptOutcome.NO_NOTIFIER and outcome.status == Status.SENT:
            self.result.no_notifier += 1
        elif outcome.status == Status.SENT:
            self.result.sent += 1
        elif outcome.status == Status.FAILED:
            self.result.rescheduled += 1
        else:
            self.result.dead += 1

    # On the event loop: the network. Every call of the database goes back to the caller's thread.

    async def _deliver(self) -> None:
        self.wake = asyncio.Event()
        self.notifiers = load_all(self.conf)
        try:
            while await self._has_work():
                await self._claim_more()
                self._start()
                await self._wait()
                await self._flush()
        finally:
            await asyncio.gather(*self.tasks)
            await self._flush(everything=True)
            for notifier in self.notifiers.values():
                await notifier.close()
                await notifier.http.close()

    async def _has_work(self) -> bool:
        stopping = self.options.stop()
        self.given_back += self.lanes.drain(everything=stopping)
        rest, self.given_back = self.given_back, []
        self.result.released += len(rest)
        await sync_to_async(self._release)(rest)
        return bool(self.lanes.waiting or self.tasks) or not (stopping or self._claimed_all())

    def _claimed_all(self) -> bool:
        """Nothing more to claim: the limit is reached, or all that is left belongs to closed endpoints."""
        used = self.result.claimed - self.result.released
        return used >= self.options.limit or (self.dry is not None and self.lanes.closed() >= self.dry)

    async def _claim_more(self) -> None:
        """Keep a stride of rows waiting: enough to never idle, few enough to start within their lease."""
        if self.options.stop() or self._claimed_all() or self.lanes.waiting > self.stride // 2:
            return
        closed = self.lanes.closed()
        left = self.options.limit - self.result.claimed + self.result.released
        room = min(self.stride, max(FIRST_CLAIM, self.lanes.room()), left)
        claimed = await sync_to_async(self._claim)(room, closed)
        self.dry = closed if len(claimed) < room else None
        refused = [event for event in claimed if not self.lanes.put(event, self._lane(event))]
        self.result.claimed += len(claimed) - len(refused)
        await sync_to_async(self._release)([(event, 0.0) for event in refused])
        # Many refused means that few endpoints own what is next: look for the others in small steps.
        grown = self.stride // 2 if refused else self.stride * 2
        self.stride = max(FIRST_CLAIM, min(grown, 2 * self.conf.concurrency))

    def _lane(self, event: NotificationEvent) -> Lane[NotificationEvent]:
        name = self.conf.channel(event.channel)
        if name is None:
            return self.lanes.lane(Endpoint("no notifier", event.channel))
        notifier = self.notifiers[name]
        return self.lanes.lane(
            notifier.endpoint(message_of(event, "")),
            ceiling=notifier.endpoint_concurrency or self.conf.endpoint_concurrency,
            per_second=notifier.max_per_second,
        )

    def _start(self) -> None:
        while len(self.tasks) < self.conf.concurrency and (turn := self.lanes.take(time.monotonic())):
            lane, event = turn
            if not self._may_go(event):
                self.lanes.ended(lane, None)
                continue
            task = asyncio.get_running_loop().create_task(self._attempt(lane, event))
            self.tasks.add(task)
            task.add_done_callback(self._ended)

    def _may_go(self, event: NotificationEvent) -> bool:
        """Not when its attempt could outlive its lease, nor where the provider has shut the door."""
        pause = self.closed_recipients.get((event.channel, event.recipient), 0.0)
        lease_end = event.leased_until or self.clock()
        if pause or self.clock() + self.conf.send_timeout > lease_end:
            self.given_back.append((event, pause))
            return False
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._start()
        starving = self.lanes.waiting <= self.stride // 2 and not self._claimed_all()
        if starving or not self.tasks or len(self.done) >= FLUSH_ROWS:
            self.wake.set()

    async def _wait(self) -> None:
        if self.tasks or self.lanes.waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), FLUSH_SECONDS)
        self.wake.clear()

    async def _flush(self, everything: bool = False) -> None:
        """Record what has ended, many rows at a time: after FLUSH_SECONDS, FLUSH_ROWS, or at the end."""
        age = time.monotonic() - self.flushed
        if not (everything or self.done) or not (
            everything or len(self.done) >= FLUSH_ROWS or age >= FLUSH_SECONDS
        ):
            return
        outcomes, self.done = self.done, []
        for pause in RECORD_PAUSES:
            try:
                await sync_to_async(self._record)(outcomes)
                break
            except (OperationalError, InterfaceError):
                if pause is None:
                    raise
                logger.warning("the database did not take %d outcomes; trying again", len(outcomes))
                await asyncio.sleep(pause)
        changes, self.lanes.changes = self.lanes.changes, []
        if everything:
            changes += self.lanes.unused_probes()
        if changes:
            await sync_to_async(self._apply_holds)(changes)
        self.flushed = time.monotonic()
        self.options.progress(self.result)

    def _apply_holds(self, changes: list[HoldChange]) -> None:
        holds.apply(changes, now=self.clock(), using=self.options.using)

    async def _attempt(self, lane: Lane[NotificationEvent], event: NotificationEvent) -> None:
        started_at, start = self.clock(), time.monotonic()
        answer: Delivered | Exception | None
        try:
            answer = await self._send(event)
        except Exception as error:
            answer = as_delivery_error(error)
        self._learn(lane, event, answer if isinstance(answer, DeliveryError) else None)
        milliseconds = round((time.monotonic() - start) * 1000)
        outcome = decide(event, answer, self.conf, started_at, milliseconds)
        self.done.append(outcome)
        log_attempt(outcome)

    def _learn(
        self, lane: Lane[NotificationEvent], event: NotificationEvent, error: DeliveryError | None
    ) -> None:
        """Tell the lane; where a host serves many, a closed door is the recipient's alone."""
        shared = any(e.recipient_prefix and not e.exact for e in lane.endpoints)
        if error and shared and error.reason in (Reason.AUTH, Reason.GONE):
            digest = hashlib.sha256(event.recipient.encode()).hexdigest()[:12]
            channel = self.conf.channel(event.channel) or event.channel
            door = Endpoint(f"{lane.key} {digest}", channel, event.recipient, exact=True)
            self.lanes.hold(door, error)
            self.closed_recipients[event.channel, event.recipient] = self.lanes.rules.auth_hold
            error = None
        self.lanes.ended(lane, error)

    async def _send(self, event: NotificationEvent) -> Delivered | None:
        """The provider's acceptance, or None where the channel has no notifier."""
        name = self.conf.channel(event.channel)
        if name is None:
            return None
        seconds = self.conf.send_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await self.notifiers[name].send(message_of(event, self.conf.base_url))
        except TimeoutError as error:
            raise UnknownOutcome(f"no answer within {seconds:g} s; it may have arrived") from error


def decide(
    event: NotificationEvent,
    answer: Delivered | Exception | None,
    settings: conf.Conf,
    started_at: datetime,
    duration: int,
    jitter: Callable[[], float] = random.random,
) -> Outcome:
    """What an attempt's end means for the row: the contract's rules 3 to 6, and nothing else decides.

    answer  the provider's acceptance, what the notifier raised, or None for a channel without one
    """
    channel = settings.channel(event.channel) or event.channel
    outcome = partial(Outcome, event=event, channel=channel, started_at=started_at, duration=duration)
    if isinstance(answer, Delivered):
        return outcome(status=Status.SENT, outcome=AttemptOutcome.SENT, status_code=answer.status)
    if answer is None:
        text = f"nothing was delivered: the channel {event.channel} has no notifier"
        return outcome(status=settings.missing_notifier, outcome=AttemptOutcome.NO_NOTIFIER, error=text)
    error = as_delivery_error(answer)
    failure = partial(
        outcome, outcome=kind_of(error), error=str(error), reason=error.reason, status_code=error.status
    )
    if isinstance(error, PermanentError) or backoff.exhausted(event.retry_count, settings.max_attempts):
        return failure(status=Status.DEAD)
    wait = backoff.delay(
        event.retry_count,
        base=settings.backoff_base,
        cap=settings.backoff_cap,
        retry_after=error.retry_after,
        jitter=jitter(),
    )
    return failure(status=Status.FAILED, delay=wait)


def as_delivery_error(error: Exception) -> DeliveryError:
    """What a notifier raised, in the tree's terms: a fault of its own code may pass, so it is transient."""
    if isinstance(error, DeliveryError):
        return error
    logger.error("a notifier failed in its own code", exc_info=error)
    return TransientError(f"the notifier failed: {type(error).__name__}; the log has the details")


def kind_of(error: DeliveryError) -> AttemptOutcome:
    if isinstance(error, PermanentError):
        return AttemptOutcome.PERMANENT
    return AttemptOutcome.UNKNOWN if isinstance(error, UnknownOutcome) else AttemptOutcome.TRANSIENT


def log_attempt(outcome: Outcome) -> None:
    event = outcome.event
    if outcome.outcome == AttemptOutcome.NO_NOTIFIER:
        logger.warning("notification %s: %s", event.pk, outcome.error)
    logger.debug(
        "attempt %d of notification %s on %s: %s in %d ms",
        event.retry_count + 1,
        event.pk,
        event.channel,
        outcome.outcome,
        outcome.duration,
    )


def message_of(event: NotificationEvent, base_url: str) -> Message:
    """The notification as its notifier sees it."""
    return Message(
        id=event.pk,
        type=event.type,
        channel=event.channel,
        recipient=event.recipient,
        message=event.message,
        certificate_id=event.certificate_id,
        created_at=event.created_at,
        attempt=event.retry_count + 1,
        url=link(event, base_url),
    )


def link(event: NotificationEvent, base_url: str) -> str:
    """The notification's page in the admin; "" where the site's address or its admin is not known."""
    if not base_url:
        return ""
    try:
        path = reverse("admin:notifications_notificationevent_change", args=[event.pk])
    except NoReverseMatch:
        return ""
    return f"{base_url.rstrip('/')}{path}"


def rules_of(settings: conf.Conf) -> Rules:
    return Rules(ceiling=settings.endpoint_concurrency)


def load_all(settings: conf.Conf) -> dict[str, Notifier]:
    """Every configured channel's notifier. Raises ImproperlyConfigured before anything is claimed."""
    timeout = settings.send_timeout.total_seconds()
    return {name: load(name, options, timeout) for name, options in settings.channels.items()}


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
