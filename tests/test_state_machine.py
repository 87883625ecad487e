"""Random lives of many notifications, against a small model of the contract.

Hypothesis interleaves producers, sweeps, two workers that claim, record too late or die, operators and
a certctl that knows nothing of us. After every step the tables must be what the model says, and the
invariants of the design must hold whatever the model says. Time is an argument throughout.

STATE_MACHINE_EXAMPLES=2000 explores at random; otherwise every run tries the same lives.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from notifications import conf, delivery
from notifications.engine import outcome as verdict
from notifications.engine.source import LEFT_TO_OTHERS
from notifications.exceptions import PermanentError, Reason, TransientError, UnknownOutcome
from notifications.models import DeliveryAttempt, Hold, NotificationEvent, Requeue, Tally
from notifications.models.tallies import EPOCH, NOT_CONFIGURED, WITHDRAWN
from notifications.notifiers.base import Delivered
from notifications.queue.claim import Claimed, claim
from notifications.queue.reap import reap
from notifications.queue.record import record
from notifications.queue.release import release
from tests import factories, renewals
from tests.books import BLAMES, Books, by_configured_name
from tests.scripted import Script, channel
from tests.settings import TEST_DATABASE

EXPLORE = int(os.environ.get("STATE_MACHINE_EXAMPLES", 0))
LIVES = {"postgresql": 40, "sqlite": 15}
LEASE = timedelta(minutes=2)
CAP = timedelta(hours=1)
BUDGET = 5
EVENTS = NotificationEvent.objects
DIGEST = {"TO": "Alpha:ops", "INTERVAL": timedelta(hours=1)}
WORKERS = st.sampled_from(["a", "b"])
KINDS = st.sampled_from(["pending", "retry"])

ANSWERS: dict[str, Any] = {
    "ok": Delivered(200),
    "transient": TransientError("busy"),
    "unknown": UnknownOutcome("silence"),
    "crash": RuntimeError("a bug in the notifier"),
    "later": TransientError("slow down", reason=Reason.RATE_LIMITED, retry_after=1800.0),
    "permanent": PermanentError("malformed"),
    "auth": PermanentError("key revoked", reason=Reason.AUTH),
}
OUTCOMES = {"ok": "sent", "crash": "transient", "later": "transient", "auth": "permanent"}


@dataclass
class Row:
    """One notification as the contract sees it."""

    channel: str
    status: str = "pending"
    retry_count: int = 0
    next_retry_at: datetime | None = None
    leased_until: datetime | None = None
    sent_at: datetime | None = None
    last_error: str | None = None
    has_error: bool = False  # in `error`, which only certctl and a missing notifier write
    requeued_at: datetime | None = None
    attempts: list[tuple[int, str]] = field(default_factory=list)
    requeues: int = 0
    is_digest: bool = False
    foreign: bool = False  # certctl had its hands on it: only the model says what is legal
    buried: bool = False
    # Since the last requeue: where `attempts` goes on, and the retry_count that it began with.
    first_attempt: int = 0
    born_with: int = 0
    spared: int = 0  # attempts that were probes of a held endpoint, and failed
    late: list[int] = field(default_factory=list)  # which of `attempts` came after their lease had ended
    about: bool = False  # the one certificate that is renewed some day
    insisted: bool = False  # it is wanted all the same
    unended: bool = False  # withdrawn before an attempt had ended it

    @property
    def undelivered(self) -> bool:
        return self.status in ("pending", "failed")

    def due(self, now: datetime) -> bool:
        return self.status == "failed" and self.next_retry_at is not None and self.next_retry_at <= now

    def free(self, now: datetime) -> bool:
        return self.leased_until is None or self.leased_until <= now

    def log(self, outcome: str, retry_count: int) -> None:
        self.attempts.append((retry_count + 1, outcome))

    def fail(self, next_retry_at: datetime) -> None:
        self.status, self.next_retry_at, self.last_error = "failed", next_retry_at, "some"
        self.retry_count += 1

    def die(self) -> None:
        self.status, self.next_retry_at, self.last_error = "dead", None, "some"

    def conclude(self, answer: str, retry_count: int, now: datetime, budget: int = BUDGET) -> None:
        """Rules 3 to 5; `retry_count` is what the worker read when it claimed."""
        self.log(OUTCOMES.get(answer, answer), retry_count)
        self.leased_until = None
        if answer == "ok":
            self.status, self.sent_at, self.next_retry_at = "sent", now, None
        elif answer in ("permanent", "auth") or retry_count >= budget - 1:
            self.die()
        else:
            wait = timedelta(minutes=2**retry_count)
            self.fail(now + min(CAP, max(wait, timedelta(minutes=30)) if answer == "later" else wait))

    def may_be_withdrawn(self, renewed: bool) -> bool:
        """Rule 16, but for a running attempt."""
        open_or_dead = self.undelivered or self.status == "dead"
        return self.about and renewed and not self.insisted and open_or_dead

    def withdraw(self) -> None:
        self.unended = self.undelivered and not self.leased_until
        if self.leased_until:
            self.log("interrupted", self.retry_count)
        self.status, self.next_retry_at, self.leased_until = "read", None, None

    def unspent(self, answer: str, next_retry_at: datetime) -> None:
        """A held endpoint's probe failed: it costs nothing."""
        self.log(OUTCOMES.get(answer, answer), self.retry_count)
        self.fail(next_retry_at)
        self.retry_count -= 1
        self.spared += 1

    def conclude_without_notifier(self, then: str, now: datetime) -> None:
        """Rule 6."""
        self.log("no_notifier", self.retry_count)
        self.leased_until = None
        if then == "sent":
            self.status, self.sent_at, self.next_retry_at, self.has_error = "sent", now, None, True
        else:
            self.die()

    @property
    def not_delivered(self) -> bool:
        """Rule 7."""
        return self.status == "sent" and self.has_error and self.attempts[-1:] == [(ANY, "no_notifier")]

    def reap(self, now: datetime, budget: int) -> None:
        """Rule 10: the lease ran out."""
        if self.leased_until is None or self.leased_until > now:
            return
        self.leased_until = None
        if not self.undelivered:
            return
        self.log("interrupted", self.retry_count)
        if self.retry_count >= budget - 1:
            self.die()
        else:
            self.fail(now)


@dataclass
class Swept:
    """One sweep, and what the model makes of it.

    closed, probed  channels that were held, and whose hold was over
    buried          how many died before anything was claimed; dead: all that did
    without         how many attempts found no notifier
    """

    kind: str
    said: dict[str, str]
    budget: int
    missing: str
    closed: set[str]
    probed: set[str]
    buried: int = 0
    dead: int = 0
    without: int = 0
    withdrawn: int = 0

    def __post_init__(self) -> None:
        self.script = Script({pk: ANSWERS[answer] for pk, answer in self.said.items()})


@dataclass
class Held:
    """What a worker believes that it has."""

    event: Claimed

    @property
    def pk(self) -> str:
        return self.event.id

    def stands(self, stored: NotificationEvent, now: datetime) -> bool:
        until = self.event.leased_until
        return until == stored.leased_until and until > now


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        factories.wipe()
        self.settings = configured(Script(), "sent")
        self.settings.enable()
        self.now = timezone.now()
        self.books = Books()
        self.rows: dict[str, Row] = {}
        self.keys: dict[str, str] = {}
        self.any_held = False
        self.held: dict[str, list[Held]] = {"a": [], "b": []}
        self.recorded: set[tuple[str, datetime, str]] = set()
        self.gone: Counter[tuple[str, str]] = Counter()  # counted, of notifications that were deleted
        renewals.wipe()
        self.certificate = renewals.certificate(self.now + timedelta(days=60))
        self.renewed = False
        self.withdrawn: Counter[str] = Counter()  # by the channel as it is configured

    def teardown(self) -> None:
        self.books.check_details(self.now, self.history())
        self.settings.disable()
        factories.wipe()
        renewals.wipe()

    @contextmanager
    def deaths(self) -> Iterator[Callable[[], list[Row]]]:
        """What dies meanwhile, which is what the digest tells of."""
        before = {pk for pk, row in self.rows.items() if row.status == "dead"}

        def died() -> list[Row]:
            return [row for pk, row in self.rows.items() if row.status == "dead" and pk not in before]

        yield died
        self.books.died((row.channel for row in died() if not row.is_digest), self.now)

    # Producers

    @initialize(counts=st.lists(st.integers(-1, 4), min_size=3, max_size=6))
    def start_in_the_middle(self, counts: list[int]) -> None:
        """Some rows are pending (-1), some failed so often before and are due."""
        for n, count in enumerate(counts):
            name = ("Alpha", "beta")[n % 2]
            if count < 0:
                self.notify(name, None)
                continue
            event = factories.failed(channel=name, due_at=self.now, retry_count=count)
            self.rows[event.pk] = Row(name, "failed", count, self.now, last_error="some", born_with=count)

    @rule(
        name=st.sampled_from(["Alpha", "alpha", "beta", "Gone"]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        about=st.booleans(),
    )
    def notify(self, name: str, key: str | None, about: bool = False) -> None:
        one = self.certificate
        known = {"not_after": one.not_after, "fingerprints": [one.fingerprint]} if about else {}
        event, created = EVENTS.notify(
            type="ExpirationWarning", channel=name, recipient="ops", message="soon", dedup_key=key, **known
        )
        assert created == (key is None or key not in self.keys)
        if created:
            self.rows[event.pk] = Row(name, about=about)
        if key:
            assert self.keys.setdefault(key, event.pk) == event.pk

    @precondition(lambda self: not self.renewed)
    @rule()
    def the_certificate_is_renewed(self) -> None:
        renewals.renew(self.certificate)
        self.renewed = True

    # Time

    @rule(span=st.sampled_from([1, 59, 60, 120, 121, 480, 1900, 3700]))
    def pass_time(self, span: int) -> None:
        self.now += timedelta(seconds=span)

    @precondition(lambda self: self.waits())
    @rule()
    def everything_falls_due(self) -> None:
        """And every lease ends."""
        self.now = max(self.waits())

    def waits(self) -> list[datetime]:
        times = [t for row in self.rows.values() for t in (row.next_retry_at, row.leased_until)]
        return [t for t in times if t is not None and t > self.now]

    # Sweeps

    @rule(
        kind=KINDS,
        answers=st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=6),
        budget=st.sampled_from([BUDGET, BUDGET, BUDGET, 2]),
        missing=st.sampled_from(["sent", "dead"]),
        unscheduled=st.booleans(),
    )
    def sweep(self, kind: str, answers: list[str], budget: int, missing: str, unscheduled: bool) -> None:
        said = {pk: answers[n % len(answers)] for n, pk in enumerate(self.rows)}
        swept = Swept(kind, said, budget, missing, *self.states_of_channels())
        with configured(swept.script, missing):
            result = delivery.sweep(
                kind, max_attempts=budget, include_unscheduled=unscheduled, clock=lambda: self.now
            )
        note(f"{result}")
        with self.deaths() as dead:
            self.prepare(kind, budget, unscheduled)
            swept.buried = len(dead())
            self.follow_attempts(swept)
            swept.dead = len(dead())
        self.follow_endpoints(swept)
        self.check_result(result, swept)
        if digest := self.books.digest(self.now):
            self.rows[digest] = Row("Alpha", is_digest=True)

    def states_of_channels(self) -> tuple[set[str], set[str]]:
        return held_channels(), channels_to_probe(self.now)

    def follow_attempts(self, swept: Swept) -> None:
        eligible, script = self.eligible(swept.kind, swept.budget), swept.script
        assert set(script.ids) <= set(eligible)
        assert max(Counter(script.ids).values(), default=0) <= 1, "sent twice by one sweep"
        swept.closed |= held_channels()
        self.any_held = bool(swept.closed)
        order: dict[str, list[str]] = {}
        for pk in script.ids:
            order.setdefault(self.rows[pk].channel.casefold(), []).append(pk)
        probes = {order[name][0] for name in swept.probed if name in order}
        for pk in eligible:
            row, answer = self.rows[pk], swept.said[pk]
            if EVENTS.get(pk=pk).status == "read":
                assert row.may_be_withdrawn(self.renewed)
                assert pk not in script.ids
                self.withdraw_row(row)
                swept.withdrawn += 1
            elif row.channel == "Gone":
                assert self.is_left_to_others(pk, swept.kind) or not row.may_be_withdrawn(self.renewed)
                if not self.is_left_to_others(pk, swept.kind):
                    row.conclude_without_notifier(swept.missing, self.now)
                    swept.without += 1
            elif pk in probes and answer in BLAMES:
                row.unspent(answer, self.now)
                self.allow_wait(pk)
            elif pk in script.ids:
                assert not row.may_be_withdrawn(self.renewed), "sent although it was renewed"
                row.conclude(answer, row.retry_count, self.now, swept.budget)
                self.allow_jitter(pk, answer)
            else:
                assert row.channel.casefold() in swept.closed, "a due row was passed over"
                self.allow_wait(pk)

    def follow_endpoints(self, swept: Swept) -> None:
        doors = self.books.doors
        for door in doors.values():
            door.begin(self.now)
        for pk in swept.script.ids:
            row = self.rows[pk]
            doors[row.channel.casefold()].attempted(swept.said[pk], row.status == "dead", self.now)
        for door in doors.values():
            door.end(self.now)

    def check_result(self, result: delivery.SweepResult, swept: Swept) -> None:
        """What it answers is what became of its rows; that it is on record is for the books to see."""
        attempts, sent = len(swept.script.ids), sum(swept.said[pk] == "ok" for pk in swept.script.ids)
        no_notifier = swept.without if swept.missing == "sent" else 0
        dead = swept.dead - swept.buried
        assert (result.sent, result.no_notifier, result.dead) == (sent, no_notifier, swept.dead)
        assert result.rescheduled == attempts + swept.without - sent - no_notifier - dead
        assert result.claimed == attempts + swept.without + result.released
        assert not result.released or self.any_held
        assert result.withdrawn == swept.withdrawn
        self.books.swept(asdict(result), self.now)

    def prepare(self, kind: str, budget: int, unscheduled: bool) -> None:
        for row in self.rows.values():
            row.reap(self.now, budget)
            if kind != "retry":
                continue
            if unscheduled and row.status == "failed" and row.next_retry_at is None and not row.leased_until:
                row.next_retry_at = self.now
            if row.due(self.now) and row.free(self.now) and row.retry_count >= budget:
                row.die()
                row.leased_until, row.buried = None, True

    def is_left_to_others(self, pk: str, kind: str) -> bool:
        row, soon = self.rows[pk], self.now - LEFT_TO_OTHERS
        if kind == "retry":
            return row.next_retry_at is None or row.next_retry_at > soon
        return EVENTS.get(pk=pk).created_at > soon or (row.requeued_at is not None and row.requeued_at > soon)

    def eligible(self, kind: str, budget: int = BUDGET) -> list[str]:
        return [
            pk
            for pk, row in self.rows.items()
            if row.leased_until is None
            and (
                row.status == "pending"
                if kind == "pending"
                else row.due(self.now) and row.retry_count < budget
            )
        ]

    def allow_jitter(self, pk: str, answer: str) -> None:
        """Chance adds up to a tenth to what a provider asked for."""
        row, stored = self.rows[pk], EVENTS.get(pk=pk).next_retry_at
        if answer == "later" and row.status == "failed" and row.next_retry_at and stored:
            assert timedelta(0) <= stored - row.next_retry_at <= timedelta(minutes=3)
            row.next_retry_at = stored

    def allow_wait(self, pk: str) -> None:
        """A row of a held endpoint may be put off, but not for longer than the cap."""
        row, stored = self.rows[pk], EVENTS.get(pk=pk).next_retry_at
        if row.status == "failed" and stored != row.next_retry_at:
            assert stored
            assert self.now <= stored <= self.now + CAP
            row.next_retry_at = stored

    @precondition(lambda self: self.any_held)
    @rule()
    def an_operator_lifts_all_holds(self) -> None:
        self.any_held = False
        Hold.objects.all().delete()
        self.books.lift()

    # Two workers, one step at a time

    @rule(worker=WORKERS, kind=KINDS, count=st.integers(1, 3))
    def claim(self, worker: str, kind: str, count: int) -> None:
        eligible = self.eligible(kind)
        due = delivery.due(kind, EVENTS.all(), self.now, BUDGET)
        claimed = claim(due, count, now=self.now, lease=LEASE)
        taken = [event.id for event in claimed]
        assert set(taken) <= set(eligible)
        assert len(taken) == min(count, len(eligible))
        if kind == "retry":
            left = [self.rows[pk].next_retry_at for pk in eligible if pk not in taken]
            assert all(self.rows[pk].next_retry_at <= other for pk in taken for other in left)  # type: ignore[operator]
        for pk in taken:
            row = self.rows[pk]
            row.leased_until = self.now + LEASE
            row.next_retry_at = row.leased_until if row.status == "failed" else row.next_retry_at
        self.held[worker] += [Held(event) for event in claimed]
        self.now += timedelta(microseconds=1)

    @precondition(lambda self: any(self.held.values()))
    @rule(
        worker=WORKERS, which=st.integers(0, 10), answer=st.sampled_from(sorted(ANSWERS)), again=st.booleans()
    )
    def record(self, worker: str, which: int, answer: str, again: bool) -> None:
        """In time, too late, or twice."""
        if not self.held[worker]:
            return
        n = which % len(self.held[worker])
        held = self.held[worker][n] if again else self.held[worker].pop(n)
        retry_count, row = held.event.retry_count, self.rows.get(held.pk)
        outcome = verdict.decide(
            held.event, said(ANSWERS[answer]), conf.current(), self.now, 1, jitter=lambda: 0.0
        )
        recorded = record([outcome], now=self.now, worker=worker)
        stands = row is not None and row.undelivered and row.leased_until == held.event.leased_until
        known = (held.pk, self.now, worker) in self.recorded
        assert recorded.written == ({held.pk} if row and (stands or known) else set())
        assert not recorded.locked | recorded.set_aside
        if stands and row:
            with self.deaths():
                row.conclude(answer, retry_count, self.now)
        elif row and not known:  # its lease had ended: the receiver's answer is on record all the same
            row.log(OUTCOMES.get(answer, answer), retry_count)
            row.late.append(len(row.attempts) - 1)
        self.recorded.add((held.pk, self.now, worker))

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        held, self.held[worker] = self.held[worker], []
        release([h.event for h in held], due_at=self.now)
        for h in held:
            row = self.rows.get(h.pk)
            if row and row.undelivered and row.leased_until == h.event.leased_until:
                row.leased_until = None
                row.next_retry_at = self.now if row.status == "failed" else row.next_retry_at

    @rule()
    def reap(self) -> None:
        reap(EVENTS.all(), now=self.now, max_attempts=BUDGET, limit=1000)
        with self.deaths():
            for row in self.rows.values():
                row.reap(self.now, BUDGET)

    # Operators

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 100), too=st.booleans())
    def requeue(self, which: int, too: bool) -> None:
        pk, row = self.pick(which)
        over = row.about and self.renewed and not row.insisted
        allowed = (row.status in ("dead", "failed") or row.not_delivered) and row.free(self.now)
        allowed = allowed and (too or not over)
        changed = EVENTS.filter(pk=pk).requeue(by="op", now=self.now, renewed=too)
        assert changed == (allowed, not allowed)
        if not allowed:
            return
        row.insisted = row.insisted or over
        if row.leased_until:
            row.log("interrupted", row.retry_count)
        if row.status == "sent":
            row.has_error, row.sent_at = False, None
        row.status, row.retry_count, row.next_retry_at = "pending", 0, None
        row.requeued_at = self.now
        row.leased_until, row.last_error = None, None
        row.requeues += 1
        row.first_attempt, row.born_with, row.spared = len(row.attempts), 0, 0
        row.buried = row.foreign = False

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 100))
    def mark_read(self, which: int) -> None:
        pk, row = self.pick(which)
        allowed = row.status in ("sent", "dead")
        assert EVENTS.filter(pk=pk).mark_read(by="op") == (allowed, not allowed)
        if allowed:
            row.status = "read"

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 100))
    def withdraw(self, which: int) -> None:
        pk, row = self.pick(which)
        allowed = row.may_be_withdrawn(self.renewed) and row.free(self.now)
        assert EVENTS.filter(pk=pk).withdraw(by="op", now=self.now) == (allowed, not allowed)
        if allowed:
            self.withdraw_row(row)

    def withdraw_row(self, row: Row) -> None:
        row.withdraw()
        self.withdrawn[conf.current().channel(row.channel) or NOT_CONFIGURED] += 1

    # certctl

    @precondition(lambda self: self.rows)
    @rule(
        which=st.integers(0, 100), does=st.sampled_from(["sends", "strands", "retries", "kills", "deletes"])
    )
    def certctl(self, which: int, does: str) -> None:
        """It updates and deletes by id, whatever the state, and knows no leases."""
        pk, row = self.pick(which)
        row.foreign = True
        match does:
            case "sends":
                row.status, row.sent_at = "sent", self.now
                EVENTS.filter(pk=pk).update(status="sent", sent_at=self.now)
            case "strands":
                row.status, row.next_retry_at, row.has_error = "failed", None, True
                EVENTS.filter(pk=pk).update(status="failed", error="down", next_retry_at=None)
            case "retries":
                row.fail(self.now + timedelta(minutes=2))
                EVENTS.filter(pk=pk).update(
                    status="failed",
                    retry_count=row.retry_count,
                    next_retry_at=row.next_retry_at,
                    last_error="certctl's",
                )
            case "kills":
                row.die()
                EVENTS.filter(pk=pk).update(status="dead", next_retry_at=None, last_error="certctl's")
            case "deletes":
                attempts = DeliveryAttempt.objects.filter(notification=pk)
                self.gone.update(attempts.values_list("channel", "outcome"))
                del self.rows[pk]
                self.keys = {key: kept for key, kept in self.keys.items() if kept != pk}
                EVENTS.filter(pk=pk).delete()

    def pick(self, which: int) -> tuple[str, Row]:
        """Every second time a row that a worker has, for that is where it gets interesting."""
        leased = [item for item in self.rows.items() if item[1].leased_until] if which % 2 else []
        candidates = leased or list(self.rows.items())
        return candidates[which // 2 % len(candidates)]

    # What must be true after every step

    @invariant()
    def all_is_well(self) -> None:
        stored = {event.pk: event for event in EVENTS.all()}
        attempts: dict[str, list[tuple[int, str]]] = {pk: [] for pk in stored}
        for pk, number, outcome in DeliveryAttempt.objects.order_by("id").values_list(
            "notification_id", "number", "outcome"
        ):
            attempts[pk].append((number, outcome))
        self.check_the_model(stored, attempts)
        for pk, event in stored.items():
            if not self.rows[pk].foreign:
                check_legal(event)
                self.check_numbers(event, attempts[pk])
        self.check_holders(stored)
        self.check_the_books(stored)

    def check_the_books(self, stored: dict[str, NotificationEvent]) -> None:
        """What is counted is what is on record, under the channels' configured names."""
        history, counted = self.history(), Counter[tuple[str, str]]()
        tallied = Tally.objects.filter(hour=EPOCH).values_list("channel", "outcome", "attempts")
        withdrawn = Counter[str]()
        for *kind, number in tallied:
            counted[tuple(kind)] += number
        for name, outcome in list(counted):
            if outcome == WITHDRAWN:
                withdrawn[name] += counted.pop((name, outcome))
        assert withdrawn == self.withdrawn
        # A worker with other settings may have a notifier where we have none, and counts by its name.
        assert by_configured_name(history) == by_configured_name(counted)
        self.books.check()
        self.books.check_metrics(self.now, self.rows, history, stored)

    def history(self) -> Counter[tuple[str, str]]:
        return Counter(DeliveryAttempt.objects.values_list("channel", "outcome")) + self.gone

    def check_the_model(
        self, stored: dict[str, NotificationEvent], attempts: dict[str, list[tuple[int, str]]]
    ) -> None:
        requeues = Counter(Requeue.objects.values_list("notification_id", flat=True))
        found = {pk: facts(event, attempts[pk], requeues[pk]) for pk, event in stored.items()}
        assert found == {pk: facts(row, row.attempts, row.requeues) for pk, row in self.rows.items()}

    def check_numbers(self, event: NotificationEvent, attempts: list[tuple[int, str]]) -> None:
        """Every attempt is on record, numbered from 1 since the last requeue, and within the budget."""
        row = self.rows[event.pk]
        since = [
            number for n, (number, _) in enumerate(attempts) if n >= row.first_attempt and n not in row.late
        ]
        ended = event.status in ("sent", "dead", "read") and not (row.buried or row.unended)
        # A probe that failed has the number that the next attempt has again.
        counted = len(since) - row.spared
        assert sorted(set(since)) == list(range(row.born_with + 1, max([row.born_with, *since]) + 1))
        assert since == sorted(since)
        assert event.retry_count == row.born_with + counted - ended
        assert row.born_with + counted <= BUDGET

    def check_holders(self, stored: dict[str, NotificationEvent]) -> None:
        """Nobody holds what another holds."""
        live: Counter[str] = Counter()
        for mine in self.held.values():
            live.update({h.pk for h in mine if h.pk in stored and h.stands(stored[h.pk], self.now)})
        assert max(live.values(), default=0) <= 1


def check_legal(event: NotificationEvent) -> None:
    assert event.status in ("pending", "sent", "failed", "dead", "read")
    assert (event.next_retry_at is not None) == (event.status == "failed")
    assert event.leased_until is None or event.status in ("pending", "failed")
    assert event.last_error or event.status not in ("failed", "dead")


def facts(row: Any, attempts: list[tuple[int, str]], requeues: int) -> tuple[Any, ...]:
    """What a stored row and its model must agree on."""
    state = (row.status, row.retry_count, row.next_retry_at, row.leased_until, row.sent_at, row.not_delivered)
    return (*state, bool(row.last_error), attempts, requeues)


def said(answer: Any) -> Any:
    """What the engine makes of an exception that is none of ours."""
    return verdict.as_delivery_error(answer) if isinstance(answer, Exception) else answer


def held_channels() -> set[str]:
    held = Hold.objects.filter(reopened_at=None)
    return {name.casefold() for name in held.values_list("channel", flat=True)}


def channels_to_probe(now: datetime) -> set[str]:
    """Those whose hold is over, but for those past their limit, whose rows spend their attempts."""
    held = Hold.objects.filter(reopened_at=None, until__lte=now, since__gte=now - conf.Conf().hold_limit)
    return {name.casefold() for name in held.values_list("channel", flat=True)}


def configured(script: Script, missing: str) -> Any:
    channels = {"Alpha": channel(script), "Beta": channel(script)}
    changes = {"CHANNELS": channels, "MISSING_NOTIFIER": missing, "DIGEST": DIGEST}
    return override_settings(NOTIFICATIONS={**django_settings.NOTIFICATIONS, **changes})


@pytest.mark.django_db(transaction=True)
def test_random_lives_keep_to_the_contract(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")  # a thousand sweeps' lines help nobody
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXPLORE or LIVES[TEST_DATABASE],
            stateful_step_count=50,
            derandomize=not EXPLORE,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
