"""The digest: one notification that says how many died since the last one, where, and mostly of what."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from .. import conf, database
from ..deaths.follow import DIGEST, DIGEST_TYPE, interval_start
from ..durations import minute
from ..models import Death, NotificationEvent
from .claim import skip_locked
from .messages import dead_letters

logger = logging.getLogger(__name__)

MOST_CHANNELS = 20
MOST_COUNTED = 100_000
UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def unsaid(now: datetime) -> str:
    return ""


# What is wrong now, in a sentence: that is for reporting to say, which stands above us; apps.py puts it here.
how_things_stand: Callable[[datetime], str] = unsaid


def raise_due(settings: conf.Conf, *, now: datetime) -> None:
    """Tell of the deaths of the intervals that are over, at most once an interval; at once, of those of the
    present one too, where a certificate ends soon. Raises nothing."""
    if settings.digest is None:
        return
    start = interval_start(now, settings.digest.interval)
    try:
        if Death.objects.filter(tell_by__lte=now).exists():
            _raise(settings, settings.digest, now, how_things_stand(now))
        elif Death.objects.filter(since__lt=start).exists():
            _raise(settings, settings.digest, start, how_things_stand(now))
    except Exception as error:
        logger.error("no digest of dead letters; the next sweep tries again: %s", error)


def _raise(settings: conf.Conf, digest: conf.Digest, start: datetime, verdict: str) -> None:
    """Of several workers one raises it and takes the counts away; what comes late is for the next one.

    start    of the present interval; or now, where a certificate that ends soon does not let the digest wait
    verdict  its first line
    """
    over = skip_locked(Death.objects.filter(since__lt=start).order_by("pk"))
    with database.atomic():
        deaths = list(over)
        if not deaths:
            return
        told = text(deaths, start, digest.interval, _queued(), dead_letters(settings.base_url))
        event, fresh = NotificationEvent.objects.notify_once(
            type=DIGEST_TYPE,
            channel=settings.channel(digest.to.channel) or digest.to.channel,
            recipient=digest.to.recipient,
            message=f"{verdict}\n\n{told}".lstrip("\n"),
            dedup_key=f"{DIGEST}{start.isoformat()}",
        )
        if fresh:
            Death.objects.filter(pk__in=[death.pk for death in deaths]).delete()
            logger.info("notification %s is the digest of what died before %s", event.pk, start)


def _queued() -> str:
    dead = NotificationEvent.objects.dead().order_by().values("status")
    number = dead[: MOST_COUNTED + 1].count()
    return f"{number:,}" if number <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"


def text(deaths: Sequence[Death], start: datetime, interval: timedelta, queued: str, link: str) -> str:
    """queued: how many are dead now; link: to them, or "" """
    channels: dict[str, Counter[str]] = defaultdict(Counter)
    for death in deaths:
        channels[death.channel][death.error] += death.notifications
    ranked = sorted(channels.items(), key=lambda item: (-item[1].total(), item[0]))
    first = min(death.since for death in deaths)
    lines = [
        f"{_headline(ranked, first, start, interval)}",
        "",
        *_by_channel(ranked),
        "",
        f"From {minute(first)} to {minute(start)}. "
        f"In the dead-letter queue now: {queued}{f', see {link}' if link else ''}",
    ]
    return "\n".join(lines)


Ranked = Sequence[tuple[str, Counter[str]]]


def _headline(ranked: Ranked, first: datetime, start: datetime, interval: timedelta) -> str:
    number = sum(errors.total() for _, errors in ranked)
    when = f"in the last {in_words(interval)}" if start - first == interval else f"since {minute(first)}"
    channel, errors = ranked[0]
    here = "" if number == 1 else "all of them " if len(ranked) == 1 else f"{errors.total():,} of them "
    [(error, _)] = errors.most_common(1)
    return f"{number:,} alert{'s' if number != 1 else ''} died {when}, {here}on {channel}: {error}"


def _by_channel(ranked: Ranked) -> Iterator[str]:
    for channel, errors in ranked[:MOST_CHANNELS]:
        [(error, number)] = errors.most_common(1)
        share = "" if number == errors.total() else f", {number:,} of them"
        yield f"{errors.total():,} on {channel}{share}: {error}"
    if len(ranked) > MOST_CHANNELS:
        rest = sum(errors.total() for _, errors in ranked[MOST_CHANNELS:])
        yield f"{rest:,} on {len(ranked) - MOST_CHANNELS} other channels"


def in_words(interval: timedelta) -> str:
    """`hour`, `15 minutes`: what follows "in the last"."""
    seconds = interval.total_seconds()
    unit, size = next(((unit, size) for unit, size in UNITS if not seconds % size), UNITS[-1])
    return unit if seconds == size else f"{seconds / size:g} {unit}s"
