"""Attempts: rows in hand are sent, each endpoint in its turn, and come back as outcomes.

All of this is on the event loop, and none of it speaks to the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from .. import conf
from ..endpoints.lanes import Lane, Lanes
from ..exceptions import DeliveryError, Reason, UnknownOutcome
from ..models import AttemptOutcome, Status
from ..notifiers.base import Delivered, Endpoint, Message, Notifier, load
from ..notifiers.http.deadlines import Deadlines
from ..queue.claim import Claimed
from ..queue.messages import Linker, linker, message_of
from ..queue.record import Outcome
from .outcome import as_delivery_error, decide, spare

logger = logging.getLogger(__name__)


class InHand(NamedTuple):
    """A claimed row that waits for its turn. notifier: None where its channel has none."""

    event: Claimed
    message: Message
    notifier: Notifier | None


class Turn(NamedTuple):
    lane: Lane[InHand]
    row: InHand
    at: datetime


class Attempts:
    """Takes rows from the lanes while `may_start` says so.

    clock     what time it is in the database
    one_more  called after each attempt, and when none is left in flight
    tasks     one for each attempt in flight
    done      how attempts ended, in that order, until somebody has recorded it
    given_back  rows that were not attempted after all, each with the seconds until it may be
    """

    def __init__(
        self,
        settings: conf.Conf,
        lanes: Lanes[InHand],
        *,
        clock: Callable[[], datetime],
        may_start: Callable[[], bool],
        one_more: Callable[[], None],
    ) -> None:
        self.conf = settings
        self.lanes = lanes
        self.clock = clock
        self.tasks: set[asyncio.Task[None]] = set()
        self.done: list[Outcome] = []
        self.given_back: list[tuple[Claimed, float]] = []
        self._may_start = may_start
        self._one_more = one_more
        self._notifiers: dict[str, Notifier] = {}
        self._link: Linker
        self._deadlines = Deadlines(settings.send_timeout.total_seconds(), self._late)
        self._overdue: set[asyncio.Task[Any] | None] = set()
        self._closed_recipients: dict[tuple[str, str], float] = {}

    def open(self) -> None:
        """Raises ImproperlyConfigured before anything is claimed."""
        self._notifiers = load_all(self.conf)
        self._link = linker(self.conf.base_url)

    async def close(self) -> None:
        self._deadlines.close()
        for notifier in self._notifiers.values():
            await notifier.close()
            await notifier.http.close()

    def take_in(self, event: Claimed) -> Lane[InHand] | None:
        """Let it wait for its turn; answers the lane that has no place for it, where that is so."""
        name = self.conf.channel(event.channel)
        message = message_of(event, self._link)
        row = InHand(event, message, self._notifiers[name] if name is not None else None)
        lane = self._lane_of(row)
        return None if self.lanes.put(row, lane) else lane

    def _lane_of(self, row: InHand) -> Lane[InHand]:
        event, message, notifier = row
        if notifier is None:
            return self.lanes.lane(Endpoint("no notifier", event.channel))
        return self.lanes.lane(
            self.lanes.apart(notifier.name, event.recipient) or notifier.endpoint(message),
            ceiling=notifier.endpoint_concurrency or self.conf.endpoint_concurrency,
            per_second=notifier.max_per_second,
        )

    def give_back(self, everything: bool = False) -> None:
        """Take out of the lanes what waits for an endpoint that is held, or all that waits."""
        drained = self.lanes.drain(everything=everything)
        self.given_back += [(row.event, seconds) for row, seconds in drained]

    def start(self) -> None:
        """Begin what may begin: each endpoint in its turn."""
        while len(self.tasks) < self.conf.concurrency and (turn := self._turn()):
            task = asyncio.get_running_loop().create_task(self._go_on(turn))
            self.tasks.add(task)
            task.add_done_callback(self._ended)

    def _turn(self) -> Turn | None:
        """The next row to attempt, if there is one."""
        if not self._may_start():
            return None
        while taken := self.lanes.take(time.monotonic()):
            turn = Turn(*taken, self.clock())
            if self._may_go(turn):
                return turn
            self.lanes.unstarted(turn.lane)
        return None

    def _may_go(self, turn: Turn) -> bool:
        """Not when its attempt could outlive its lease, nor where the provider has shut the door."""
        event = turn.row.event
        pause = self._closed_recipients.get((event.channel, event.recipient), 0.0)
        if pause or turn.at + self.conf.send_timeout > event.leased_until:
            self.given_back.append((event, pause))
            return False
        return True

    async def _go_on(self, first: Turn) -> None:
        """One attempt after the other, as long as there is a turn: a task for each would cost more."""
        turn: Turn | None = first
        while turn:
            await self._attempt(*turn)
            self._one_more()
            turn = self._turn()
            self.start()  # an endpoint that answers may have more in flight than before

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not self.tasks:
            self._one_more()

    async def _attempt(self, lane: Lane[InHand], row: InHand, started_at: datetime) -> None:
        event, start, probing = row.event, time.monotonic(), lane.probing
        answer: Delivered | Exception | None
        task = asyncio.current_task()
        self._deadlines.begin(task)
        try:
            answer = await _send(row)
        except asyncio.CancelledError:
            answer = self._cut_short(task)
        except (Exception, SystemExit) as error:
            answer = as_delivery_error(error)
        self._deadlines.done(task)
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

    def _learn(
        self,
        lane: Lane[InHand],
        event: Claimed,
        error: DeliveryError | None,
        seconds: float,
        started_at: datetime,
    ) -> Lane[InHand] | None:
        """Tell the lane; answers the one to blame. Where a host serves many, a closed door is the
        recipient's alone."""
        if not (error and error.reason in (Reason.AUTH, Reason.GONE) and serves_many(lane)):
            self.lanes.ended(lane, error, seconds, started_at)
            return lane if error and error.blames_endpoint else None
        digest = hashlib.sha256(event.recipient.encode()).hexdigest()[:12]
        channel = self.conf.channel(event.channel) or event.channel
        door = Endpoint(f"{lane.key} {digest}", channel, event.recipient, exact=True)
        self._closed_recipients[event.channel, event.recipient] = self.lanes.rules.auth_hold
        self.lanes.ended(lane, None, seconds, started_at)
        return self.lanes.hold(door, error, started_at)


async def _send(row: InHand) -> Delivered | None:
    """The provider's acceptance, or None where the channel has no notifier."""
    if row.notifier is None:
        return None
    answer = await row.notifier.send(row.message)
    if not isinstance(answer, Delivered):
        raise TypeError(f"{type(row.notifier).__name__}.send answered {answer!r}, not Delivered")
    return answer


def serves_many(lane: Lane[InHand]) -> bool:
    """Whether the endpoint is a host, where every recipient has a door of its own."""
    return any(endpoint.recipient_prefix and not endpoint.exact for endpoint in lane.endpoints)


def log_attempt(outcome: Outcome) -> None:
    event = outcome.event
    if outcome.outcome == AttemptOutcome.NO_NOTIFIER:
        logger.warning("notification %s: %s", event.id, outcome.error)
    if logger.isEnabledFor(logging.DEBUG):
        facts = {
            "notification": event.id,
            "channel": outcome.channel,
            "attempt": event.retry_count + 1,
            "outcome": outcome.outcome,
            "milliseconds": outcome.duration,
        }
        logger.debug("attempt %(attempt)d of %(notification)s: %(outcome)s", facts, extra=facts)


def load_all(settings: conf.Conf) -> dict[str, Notifier]:
    """Every configured channel's notifier. Raises ImproperlyConfigured before anything is claimed."""
    timeout = settings.send_timeout.total_seconds()
    return {name: load(name, options, timeout) for name, options in settings.channels.items()}
