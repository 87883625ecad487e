"""Why a delivery, or a change of state, did not happen.

DeliveryError               one attempt failed
├── TransientError          it may succeed later: the notification is rescheduled
│   └── UnknownOutcome      the request went out and no answer came: it may have arrived
└── PermanentError          it never will as it stands: the notification is dead on this attempt
TransitionRefused           the rules do not allow this change of status
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an attempt failed: a closed set, fit for a metric's label."""

    AUTH = "auth"
    CLIENT = "client"
    CONFIG = "config"
    GONE = "gone"
    NETWORK = "network"
    OTHER = "other"
    RATE_LIMITED = "rate_limited"
    SERVER = "server"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class DeliveryError(Exception):
    """One attempt failed.

    text         what happened, in the provider's own words, without secrets
    reason       one of Reason
    status       the provider's HTTP or SMTP status, where there was one
    retry_after  the wait that the provider asked for, in seconds
    advice       what the operator should do, one sentence
    """

    default_reason = Reason.OTHER

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
        self.text = text
        self.reason = reason or self.default_reason
        self.status = status
        self.retry_after = retry_after
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.text}: {self.advice}" if self.advice else self.text


class TransientError(DeliveryError):
    """The next attempt may succeed."""


class UnknownOutcome(TransientError):
    """The request was written but never answered, so the notification may have arrived."""

    default_reason = Reason.UNKNOWN


class PermanentError(DeliveryError):
    """No further attempt can succeed until a person changes something."""

    default_reason = Reason.CLIENT


class TransitionRefused(Exception):
    """The rules do not allow this verb in the notification's present state; str() says why."""

    def __init__(self, verb: str, event_id: str, why: str) -> None:
        super().__init__(f"cannot {verb} notification {event_id}: {why}")
        self.verb = verb
        self.event_id = event_id
        self.why = why
