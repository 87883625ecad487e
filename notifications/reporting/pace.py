"""How long it takes until many are delivered, by what is known of each channel: the pace that it may have,
how long its attempts took of late, and what holds it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.db.models import Q, Sum
from django.utils.module_loading import import_string

from .. import conf
from ..endpoints import holds
from ..endpoints.outages import endpoint_of
from ..engine.heartbeat import heartbeats
from ..models import AttemptOutcome, NotificationEvent, Status, Tally
from ..notifiers.endpoint import is_address
from ..text import fold
from . import activity, held, words
from .channels import Channels, settings

MEASURED = timedelta(hours=24)
MOST_AHEAD = 10_000  # notifications that wait already are counted
NOBODY = "How long it takes is not known: nothing is being delivered."


class Takes(NamedTuple):
    """A channel's share. seconds: None where nothing tells. why: its pace in words."""

    channel: str
    number: int
    seconds: float | None
    why: str


class Pace(NamedTuple):
    per_second: float
    why: str


class Ahead(NamedTuple):
    """What waits already, by endpoint: up to MOST_AHEAD, and whether there is more."""

    counts: Counter[tuple[str, str]]
    more: bool


def how_long(
    rows: Iterable[tuple[str, str]],
    now: datetime,
    *,
    factor: float = 1.0,
    besides: Collection[str] = (),
    blocked: held.Blocked | None = None,
    stalled: str | None = None,
) -> str:
    """Of (channel, recipient): when all of them may be delivered, in words; "" of none.

    factor   of how many the rows stand for one
    besides  the ids of those rows, which do not wait for themselves
    blocked, stalled  what keeps rows back, and activity.stalled, where the caller has asked already
    """
    ahead = _waiting(now, set(besides))
    found = _takes(rows, Paces(now, blocked or held.Blocked(now)), factor, ahead)
    if not found:
        return ""
    if not heartbeats(now) and (activity.stalled(activity.last_ends(), now) if stalled is None else stalled):
        return NOBODY
    known = [takes.seconds for takes in found if takes.seconds is not None]
    if not known:
        return f"How long it takes is not known. {_shares(found)}"
    least = "at least " if len(known) < len(found) or ahead.more else ""
    by_cron, why = _by_cron(sum(takes.number for takes in found) + ahead.counts.total(), now)
    longest = max(1, by_cron, *known)
    slower = f" {why}" if by_cron == longest else ""
    return f"It takes {least}about {words.at_most(longest)}. {_shares(found)}{slower}"


def _shares(found: list[Takes]) -> str:
    return " ".join(f"{takes.channel}: {takes.number:,} {takes.why}." for takes in found)


def _by_cron(number: int, now: datetime) -> tuple[float, str]:
    """The seconds that sweeps need which come and go, and why; 0 where a worker lives."""
    if heartbeats(now):
        return 0.0, ""
    limit, interval = settings().sweep_limit, settings().process_interval.total_seconds()
    why = f"No always-on worker was seen: sweeps by cron take {limit:,} in {words.exact_duration(interval)}."
    return (-(-number // limit) - 1) * interval, why


def _waiting(now: datetime, besides: set[str]) -> Ahead:
    """What the next sweeps take before."""
    due = Q(status=Status.PENDING) | Q(status=Status.FAILED, next_retry_at__lte=now)
    rows = NotificationEvent.objects.filter(due).order_by().values_list("pk", "channel", "recipient")
    found = list(rows[: MOST_AHEAD + 1])
    counts = Counter(
        (fold(channel), _host(to)) for pk, channel, to in found[:MOST_AHEAD] if pk not in besides
    )
    return Ahead(counts, len(found) > MOST_AHEAD)


def _host(recipient: str) -> str:
    return urlsplit(recipient).netloc if is_address(recipient) else ""


def _takes(rows: Iterable[tuple[str, str]], paces: Paces, factor: float, ahead: Ahead) -> list[Takes]:
    channels = Channels()
    share: dict[str, Counter[str]] = {}
    example: dict[tuple[str, str], str] = {}
    for name, recipient in rows:
        channel = channels.spelled(name)
        host = _host(recipient)
        share.setdefault(channel, Counter())[host] += 1
        example.setdefault((channel, host), recipient)
    found = []
    for channel, hosts in share.items():
        of_hosts = [
            paces.seconds(channel, example[channel, host], count * factor, ahead.counts[fold(channel), host])
            for host, count in hosts.items()
        ]
        last, why = max(of_hosts, key=lambda one: -1.0 if one[0] is None else one[0])
        found.append(Takes(channel, round(hosts.total() * factor), last, why))
    return sorted(found, key=lambda takes: -(takes.seconds or 0.0))


class Paces:
    """What is known now of how quick channels are, read once."""

    def __init__(self, now: datetime, blocked: held.Blocked) -> None:
        self._now, self._settings, self._blocked = now, settings(), blocked
        self._recovering = [endpoint_of(hold) for hold in blocked.recovering]
        self._measured = _measured(now)

    def seconds(self, channel: str, recipient: str, count: float, ahead: int = 0) -> tuple[float | None, str]:
        """Until `count` are sent to the endpoint of this recipient after those that are ahead, and why."""
        hold = self._blocked.by(channel, recipient)
        wait = max(0.0, (hold.until - self._now).total_seconds()) if hold else 0.0
        slowly = (hold is not None and hold.reason != holds.PAUSED) or any(
            endpoint.covers(channel, recipient) for endpoint in self._recovering
        )
        pace = self._pace(channel, slowly)
        if pace is None:
            return None, "at a pace that nothing tells of: nothing was delivered in the last 24 hours"
        what = "pause" if hold and hold.reason == holds.PAUSED else "hold"
        after = f", once its {what} ends in {words.at_most(wait)}" if wait else ""
        before = f", after {ahead:,} that wait already" if ahead else ""
        text = f"at {_number(pace.per_second)} a second ({pace.why}){before}{after}"
        return wait + (count + ahead) / pace.per_second, text

    def _pace(self, channel: str, slowly: bool) -> Pace | None:
        name = self._settings.channel(channel)
        known = []
        if name is not None and (most := _most(self._settings.channels[name])):
            known.append(Pace(most, "MAX_PER_SECOND"))
        if slowly:
            known.append(Pace(self._settings.recovery_rate, "RECOVERY_RATE"))
        if mean := self._measured.get(fold(channel)):
            at_once = _at_once(self._settings, name)
            known.append(Pace(at_once / mean, "measured in the last 24 hours"))
        return min(known, default=None)


def _most(options: Any) -> float | None:
    """Attempts a second that the channel may make."""
    try:
        default = import_string(str(options["NOTIFIER"])).default_max_per_second
    except Exception:  # a notifier that cannot be had has no pace: `check` says what is wrong
        default = None
    most = options.get("MAX_PER_SECOND", default)
    return float(most) if most else None


def _at_once(current: conf.Conf, name: str | None) -> int:
    options = current.channels[name] if name else {}
    return int(options.get("ENDPOINT_CONCURRENCY") or current.endpoint_concurrency)


def _measured(now: datetime) -> dict[str, float]:
    """By folded channel: the mean seconds of an attempt that delivered."""
    recent = Tally.objects.filter(hour__gt=now - MEASURED, outcome=AttemptOutcome.SENT)
    found = (
        recent.order_by().values_list("channel").annotate(number=Sum("attempts"), spent=Sum("milliseconds"))
    )
    known: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for channel, number, milliseconds in found:
        known[fold(channel)] += number
        spent[fold(channel)] += milliseconds
    return {name: max(1.0, spent[name] / number) / 1000 for name, number in known.items() if number}


def _number(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
