"""Why a delivery, or a change of state, did not happen.

DeliveryError               one attempt failed
├── TransientError          it may succeed later: the notification is rescheduled
│   └── UnknownOutcome      the request went out and no answer came: it may have arrived
└── PermanentError          it never will as it stands: the notification is dead on this attempt
TransitionRefused           the rules do not allow this change of status
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

TEXT_LIMIT = 1_600
ADVICE_LIMIT = 390  # text, ": " and advice are at most 2,000 characters together
CUT_MARK = "…[cut]"


class Reason(StrEnum):
    """Why an attempt failed: a closed set, fit for a metric's label."""

    AUTH = "auth"  # we are refused: our login, sender, host or certificate
    BUSY = "busy"  # too many connections at once: fewer, and the attempt did not count
    CLIENT = "client"
    CONFIG = "config"
    DEFERRED = "deferred"  # put off for this recipient or this mail alone (greylisting)
    GONE = "gone"
    NETWORK = "network"
    OTHER = "other"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class EndpointEffect(StrEnum):
    """What one failed attempt says about the endpoint, and so about the other rows that go there.

    HEALTHY  the endpoint answered as it should; this row alone is at fault
    COUNTS   one more failure towards the endpoint's breaker
    HELD     no row may go there: after rate_limited until retry_after, after auth and gone until an
             operator acts or a test succeeds
    BUSY     the endpoint works and takes no more at once: fewer of its rows in flight, and this attempt was
             none. Its row goes back unspent, due after retry_after
    NONE     the endpoint was never asked, so nothing is known about it
    """

    HEALTHY = "healthy"
    COUNTS = "counts"
    HELD = "held"
    BUSY = "busy"
    NONE = "none"


ENDPOINT_EFFECTS = {
    Reason.AUTH: EndpointEffect.HELD,
    Reason.BUSY: EndpointEffect.BUSY,
    Reason.CLIENT: EndpointEffect.HEALTHY,
    Reason.CONFIG: EndpointEffect.NONE,
    Reason.DEFERRED: EndpointEffect.HEALTHY,
    Reason.GONE: EndpointEffect.HELD,
    Reason.NETWORK: EndpointEffect.COUNTS,
    Reason.OTHER: EndpointEffect.COUNTS,
    Reason.RATE_LIMITED: EndpointEffect.HELD,
    Reason.SERVER: EndpointEffect.COUNTS,
    Reason.TIMEOUT: EndpointEffect.COUNTS,
    Reason.UNKNOWN: EndpointEffect.COUNTS,
}
# What a failure for one of these says: the endpoint is down, the row may be sound.
BLAMING = tuple(
    reason
    for reason, effect in ENDPOINT_EFFECTS.items()
    if effect in (EndpointEffect.COUNTS, EndpointEffect.HELD)
)


class DeliveryError(Exception):
    """One attempt failed.

    text         what happened, in the provider's own words, without secrets
    reason       one of Reason
    status       the provider's HTTP or SMTP status, where there was one
    retry_after  the wait that the provider asked for, in seconds
    advice       what the operator should do, one sentence; every PermanentError has one
    answered     of a recipient that names several addresses, what became of those that are settled: "" for an
                 accepted one, else the refusal. Set by the notifier, for the attempts that follow
    dialogue     how far the attempt came, a line each, for whoever tries a channel out

    str() is text and advice, at most 2,000 characters. A value of another kind, which a site's own
    notifier may come up with, counts as not given: it must not keep the attempt from being recorded.
    """

    default_reason = Reason.OTHER
    default_advice = ""

    def __init__(
        self,
        text: str,
        *,
        reason: Reason | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(text)
        self.text = _cut(str(text), TEXT_LIMIT)
        self.reason = _reason(reason) or self.default_reason
        self.status = status_code(status)
        self.retry_after = _seconds(retry_after)
        self.advice = _cut(str(advice or self.default_advice), ADVICE_LIMIT)
        self.answered: Mapping[str, str] = {}
        self.dialogue: Sequence[str] = ()

    @property
    def endpoint_effect(self) -> EndpointEffect:
        return ENDPOINT_EFFECTS[self.reason]

    @property
    def blames_endpoint(self) -> bool:
        return self.reason in BLAMING

    @property
    def spends_attempt(self) -> bool:
        """Whether it was an attempt at all, and so counts towards the row's budget."""
        return self.endpoint_effect is not EndpointEffect.BUSY and not self.waits_for_operator

    @property
    def waits_for_operator(self) -> bool:
        """Whether it says nothing of the row: who set the channel up has to mend it, and all rows wait."""
        return self.reason is Reason.AUTH and not isinstance(self, PermanentError)

    def __str__(self) -> str:
        return f"{self.text}: {self.advice}" if self.advice else self.text


class TransientError(DeliveryError):
    """The next attempt may succeed. For Reason.AUTH: when somebody has mended what we are refused for."""


class UnknownOutcome(TransientError):
    """The request was written but never answered, so the notification may have arrived."""

    default_reason = Reason.UNKNOWN


class PermanentError(DeliveryError):
    """No further attempt can succeed until a person changes something."""

    default_reason = Reason.CLIENT
    default_advice = "correct what the text names, then requeue"


class TransitionRefused(Exception):
    """The rules do not allow this verb in the notification's present state; str() says why."""

    def __init__(self, verb: str, event_id: str, why: str) -> None:
        super().__init__(f"cannot {verb} notification {event_id}: {why}")
        self.verb = verb
        self.event_id = event_id
        self.why = why


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT_MARK)] + CUT_MARK


def status_code(status: object) -> int | None:
    """An HTTP or SMTP status, or None for what is none."""
    return int(status) if isinstance(status, int) and 0 <= status < 1000 else None


def _reason(reason: object) -> Reason | None:
    return next((known for known in Reason if known == reason), None)


def _seconds(wait: object) -> float | None:
    return float(wait) if isinstance(wait, int | float) and math.isfinite(wait) else None
