"""What an attempt's end means for its notification. Pure: no database, no network."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ..conf import Conf
from ..durations import bounded
from ..exceptions import DeliveryError, PermanentError, TransientError, UnknownOutcome
from ..models import AttemptOutcome, Status
from ..notifiers.base import Delivered
from ..queue.claim import Claimed
from ..queue.record import Outcome
from . import backoff

logger = logging.getLogger(__name__)

BUSY_SECONDS = 10.0  # until the next try at an endpoint that takes no more at once


def decide(
    event: Claimed,
    answer: Delivered | Exception | None,
    settings: Conf,
    started_at: datetime,
    duration: int,
    jitter: Callable[[], float] = random.random,
) -> Outcome:
    """The contract's rules 3 to 6, and nothing else decides.

    answer    the provider's acceptance, what the notifier raised, or None for a channel without one
    duration  of the attempt, in milliseconds
    """
    channel = settings.channel(event.channel) or event.channel
    if isinstance(answer, Delivered):
        sent = AttemptOutcome.SENT
        return Outcome(event, channel, Status.SENT, sent, started_at, duration, status_code=answer.status)
    outcome = partial(Outcome, event, channel, started_at=started_at, duration=duration)
    if answer is None:
        text = f"nothing was delivered: the channel {event.channel} has no notifier"
        return outcome(settings.missing_notifier, AttemptOutcome.NO_NOTIFIER, error=text)
    error = as_delivery_error(answer)
    failure = partial(
        outcome,
        kind=kind_of(error),
        error=str(error),
        reason=error.reason,
        status_code=error.status,
        answered=error.answered,
    )
    if not error.spends_attempt and started_at - event.due_at < settings.hold_limit:
        wait = timedelta(seconds=error.retry_after or BUSY_SECONDS)
        wait = bounded(wait, event.not_after, started_at)
        return failure(status=Status.FAILED, delay=wait, spent=False)
    if isinstance(error, PermanentError) or backoff.exhausted(event.retry_count, settings.max_attempts):
        return failure(status=Status.DEAD)
    wait = backoff.delay(
        event.retry_count,
        base=settings.backoff_base,
        cap=settings.backoff_cap,
        retry_after=error.retry_after,
        jitter=jitter(),
    )
    return failure(status=Status.FAILED, delay=bounded(wait, event.not_after, started_at))


def unspent(outcome: Outcome, seconds: float) -> Outcome:
    """A probe of a held endpoint failed: its row waits on with the others, and nothing is spent."""
    wait = bounded(timedelta(seconds=seconds), outcome.event.not_after, outcome.started_at)
    return outcome._replace(status=Status.FAILED, delay=wait, spent=False)


def as_delivery_error(error: BaseException) -> DeliveryError:
    """What a notifier raised, in the tree's terms: a fault of its own code may pass, so it is transient.

    A subclass of a delivery error is read with care: a site can have got it wrong.
    """
    if not isinstance(error, DeliveryError):
        logger.error("a notifier failed in its own code", exc_info=error)
        return TransientError(f"the notifier failed: {type(error).__name__}; the log has the details")
    kinds: tuple[type[DeliveryError], ...] = (PermanentError, UnknownOutcome)
    kind = next((kind for kind in kinds if isinstance(error, kind)), TransientError)
    said: dict[str, Any] = {
        name: getattr(error, name, None) for name in ("reason", "status", "retry_after", "advice")
    }
    text = getattr(error, "text", type(error).__name__)
    known = kind(text, **said)
    if isinstance(answered := getattr(error, "answered", None), Mapping):
        known.answered = {str(address): str(refusal) for address, refusal in answered.items()}
    if isinstance(dialogue := getattr(error, "dialogue", None), list | tuple):
        known.dialogue = tuple(map(str, dialogue))
    return known


def kind_of(error: DeliveryError) -> AttemptOutcome:
    if isinstance(error, PermanentError):
        return AttemptOutcome.PERMANENT
    return AttemptOutcome.UNKNOWN if isinstance(error, UnknownOutcome) else AttemptOutcome.TRANSIENT
