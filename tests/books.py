"""What must be on record of the endpoints, deaths and sweeps of a life (test_state_machine.py), kept in plain
Python beside it, and the same as the tables and the metrics say it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from notifications import conf
from notifications.deaths.follow import DIGEST, interval_start
from notifications.endpoints.holds import FORGOTTEN, RECOVERY
from notifications.endpoints.outages import STRAY
from notifications.models import (
    AttemptOutcome,
    Death,
    Hold,
    NotificationEvent,
    Outage,
    Status,
    SweepKind,
    SweepRun,
)
from notifications.models.tallies import NOT_CONFIGURED
from notifications.reporting.figures import Snapshot
from notifications.reporting.metrics import families
from notifications.reporting.parts import DETAILS, PARTS, AsOf

BLAMES = {"transient", "unknown", "crash", "later", "auth"}
UNTIMED = ("interrupted", "no_notifier")


def spelled(channel: str) -> str:
    return conf.current().channel(channel) or channel


@dataclass
class Door:
    """One endpoint's hold and outage on record, and what a sweep makes of them."""

    hold: dict[str, Any] | None = None
    outage: dict[str, Any] | None = None
    ended: list[dict[str, Any]] = field(default_factory=list)
    state: str = "open"
    failures: int = 0
    times: int = 0
    is_ours: bool = False

    def begin(self, now: datetime) -> None:
        hold, self.failures, self.times, self.is_ours = self.hold, 0, 0, False
        if self.outage and not self.outage["died"] and self.outage["since"] < now - STRAY:
            self.outage = None
        if hold and (hold["until"] < now - FORGOTTEN or (hold["reopened_at"] and hold["until"] <= now)):
            hold = self.hold = None
        self.state = "open"
        if hold and hold["reopened_at"]:
            self.state = "recovering"
        elif hold:
            self.is_ours = hold["until"] <= now
            hold["until"] = now + conf.Conf().lease if self.is_ours else hold["until"]
            late = now - hold["since"] > conf.Conf().hold_limit
            self.state = "past" if late else "probing" if self.is_ours else "held"
            self.times = hold["times"] if self.state == "probing" else 0

    def attempted(self, answer: str, died: bool, now: datetime) -> None:
        if answer in BLAMES:
            self._failed(answer, died, now)
        elif self.state != "held":
            self._delivered(now)

    def _failed(self, answer: str, died: bool, now: datetime) -> None:
        self.failures += 1
        outage = self.outage = self.outage or {"since": now, "failures": 0, "died": 0}
        outage["failures"] += 1
        outage["died"] += died
        lasting = outage["failures"] >= 3 and now - outage["since"] >= timedelta(minutes=2)
        is_down = answer in ("auth", "later") or self.failures >= 5 or lasting
        if self.state not in ("held", "past") and (self.state == "probing" or is_down):
            self._held(answer, now)

    def _held(self, answer: str, now: datetime) -> None:
        said = {"auth": 900, "later": 1800}.get(answer)
        seconds = min(30 * 2**self.times, 300) if said is None else said
        self.times, self.failures, self.state = self.times + 1, 0, "held"
        known = self.hold and not self.hold["reopened_at"]
        since = self.hold["since"] if self.hold and known else now
        until = now + timedelta(seconds=seconds)
        self.hold = {"since": since, "until": until, "times": self.times, "reopened_at": None}

    def _delivered(self, now: datetime) -> None:
        if self.state in ("probing", "past"):
            assert self.hold
            self.state, self.times = "recovering", 0
            self.hold |= {"reopened_at": now, "until": now + RECOVERY}
        if self.outage and self.outage["died"]:
            self.ended.append(self.outage)
        self.outage, self.failures = None, 0

    def end(self, now: datetime) -> None:
        if self.state == "probing" and self.hold:
            self.hold["until"] = now  # no row came for the probe


class Books:
    def __init__(self) -> None:
        self.doors = {"alpha": Door(), "beta": Door()}
        self.deaths: Counter[tuple[datetime, str]] = Counter()
        self.sweeps: list[dict[str, Any]] = []

    def died(self, channels: Iterable[str], now: datetime) -> None:
        """The digest is to tell of these."""
        since = interval_start(now, interval())
        self.deaths.update((since, spelled(channel)) for channel in channels)

    def digest(self, now: datetime) -> str | None:
        """The id of the digest that the end of a sweep has raised, where something had died."""
        start = interval_start(now, interval())
        over = {kind: number for kind, number in self.deaths.items() if kind[0] < start}
        if not over:
            return None
        self.deaths -= Counter(over)
        raised = NotificationEvent.objects.get(dedup_key=f"{DIGEST}{start.isoformat()}")
        assert re.search(rf"(?m)^{sum(over.values())} alerts? died", raised.message)
        return str(raised.pk)

    def swept(self, result: dict[str, Any], now: datetime) -> None:
        self.sweeps.append({name: result.get(name, now) for name in SWEEP})

    def lift(self) -> None:
        for door in self.doors.values():
            door.hold = None

    # What the tables say

    def check(self) -> None:
        found = Counter[tuple[datetime, str]]()
        for since, channel, number in Death.objects.values_list("since", "channel", "notifications"):
            found[since, channel] += number
        assert found == self.deaths
        assert list(SweepRun.objects.order_by("id").values(*SWEEP)) == self.sweeps
        holds = {hold.pop("endpoint"): hold for hold in Hold.objects.values("endpoint", *HOLD)}
        assert holds == {name: door.hold for name, door in self.doors.items() if door.hold}
        outages = Outage.objects.order_by("id")
        going = {
            row.pop("endpoint"): row for row in outages.filter(ended_at=None).values("endpoint", *OUTAGE)
        }
        assert going == {name: door.outage for name, door in self.doors.items() if door.outage}
        for name, door in self.doors.items():
            assert list(outages.filter(endpoint=name, ended_at__isnull=False).values(*OUTAGE)) == door.ended

    def check_metrics(
        self, now: datetime, rows: dict[str, Any], history: Counter[tuple[str, str]], stored: dict[str, Any]
    ) -> None:
        """What is scraped and shown, against the life's rows and attempts."""
        shown = snapshot(now, [part for part in PARTS if part not in DETAILS])
        statuses = Counter(row.status for row in rows.values())
        attempts = by_configured_name(history)
        last = {sweep["kind"]: sweep["ended_at"].timestamp() for sweep in self.sweeps}
        expected: dict[tuple[str, ...], float] = {
            ("certctl_notification_dead_total",): statuses["dead"],
            ("certctl_notifications_stranded",): sum(
                row.status == "failed" and row.next_retry_at is None for row in rows.values()
            ),
            ("certctl_notifications_not_delivered",): sum(row.not_delivered for row in rows.values()),
            ("certctl_notification_oldest_due_seconds",): oldest_due(now, rows, stored),
        }
        for status in Status:
            expected["certctl_notifications", status] = statuses[status]
        for kind in SweepKind:
            name = "certctl_notification_last_sweep_timestamp_seconds"
            expected[name, kind] = last.get(kind, 0)
        for channel in CHANNELS:
            timed = sum(n for (of, how), n in attempts.items() if of == channel and how not in UNTIMED)
            expected["certctl_notification_attempt_duration_seconds_count", channel] = timed
            for outcome in AttemptOutcome:
                expected["certctl_notification_attempts_total", channel, outcome] = attempts[channel, outcome]
        samples = dict(scraped(shown))
        assert {name: samples.get(name) for name in expected} == expected

    def check_details(self, now: datetime, history: Counter[tuple[str, str]]) -> None:
        """What only the dashboard shows."""
        shown, attempts = snapshot(now, DETAILS), by_configured_name(history)
        assert shown.traffic
        week = shown.traffic["7d"]
        for channel in CHANNELS:
            sent = attempts[channel, "sent"]
            failed = sum(n for (of, _), n in attempts.items() if of == channel) - sent
            assert (sum(week.delivered[channel]), sum(week.failed[channel])) == (sent, failed)
        held = {hold.endpoint for hold in shown.holds or ()}
        assert held == {
            name
            for name, d in self.doors.items()
            if d.hold and (not d.hold["reopened_at"] or d.hold["until"] > now)
        }


CHANNELS = ("Alpha", "Beta")
SWEEP = ("kind", "claimed", "sent", "rescheduled", "dead", "no_notifier", "released", "ended_at")
HOLD = ("since", "until", "times", "reopened_at")
OUTAGE = ("since", "failures", "died")


def interval() -> timedelta:
    digest = conf.current().digest
    assert digest
    return digest.interval


def by_configured_name(history: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    counted = Counter[tuple[str, str]]()
    for (channel, outcome), number in history.items():
        counted[conf.current().channel(channel) or NOT_CONFIGURED, outcome] += number
    return counted


def snapshot(now: datetime, parts: Iterable[Callable[[AsOf], dict[str, Any]]]) -> Snapshot:
    found: dict[str, Any] = {"at": now}
    as_of = AsOf(now)
    for part in parts:
        found |= part(as_of)
    return Snapshot(**found)


def scraped(shown: Snapshot) -> Iterator[tuple[tuple[str, ...], float]]:
    for family in families(shown):
        for sample in family.samples:
            yield (sample.name, *sample.labels.values()), sample.value


def oldest_due(now: datetime, rows: dict[str, Any], stored: dict[str, Any]) -> float:
    times = []
    for pk, row in rows.items():
        if row.status == "pending" and row.leased_until is None:
            times.append(row.requeued_at or stored[pk].created_at)
        if row.status == "failed" and row.next_retry_at:
            times.append(row.next_retry_at)
        if row.undelivered and row.leased_until and row.leased_until <= now:
            times.append(row.leased_until)
    return max(0.0, *((now - at).total_seconds() for at in times)) if times else 0.0
