"""What an answer means: success, transient or permanent, and why. The same for all channels.

A channel adds what its provider says in its own words (`known`) and what an operator should then do.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from ...exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from .client import Answer

SUCCESS = range(200, 300)
TRANSIENT: Mapping[int, Reason] = {408: Reason.TIMEOUT, 425: Reason.SERVER, 429: Reason.RATE_LIMITED}
PERMANENT: Mapping[int, Reason] = {
    400: Reason.CLIENT,
    401: Reason.AUTH,
    403: Reason.AUTH,
    410: Reason.GONE,
    413: Reason.CLIENT,
    415: Reason.CLIENT,
    422: Reason.CLIENT,
}
ADVICE: Mapping[Reason, str] = {
    Reason.AUTH: "the provider refused the credentials; correct them, then requeue",
    Reason.GONE: "the destination is gone; set a new one, then requeue",
    Reason.CLIENT: "the provider refuses this message as it is; raise a corrected alert, or dismiss this one",
    Reason.CONFIG: "correct the channel's settings, then requeue",
}


@dataclass(frozen=True, slots=True)
class KnownRefusal:
    """A provider's words in a refusal (4xx), as a regular expression, and what they mean."""

    words: str
    reason: Reason
    advice: str

    def matches(self, answer: Answer) -> bool:
        refusal = 400 <= answer.status < 500 and answer.status not in TRANSIENT
        return refusal and re.search(self.words, answer.text, re.IGNORECASE) is not None


def raise_for(
    answer: Answer,
    *,
    success: Container[int] = SUCCESS,
    permanent: Mapping[int, Reason] = PERMANENT,
    known: Sequence[KnownRefusal] = (),
    advice: Mapping[Reason, str] = ADVICE,
) -> None:
    """Raise the delivery error that the answer means; return when it means success."""
    if answer.status not in success:
        raise refusal(answer, permanent, known, {**ADVICE, **advice})


def refusal(
    answer: Answer,
    permanent: Mapping[int, Reason],
    known: Sequence[KnownRefusal],
    advice: Mapping[Reason, str],
) -> DeliveryError:
    text, status = answer.quoted(), answer.status
    for one in known:
        if one.matches(answer):
            return PermanentError(text, reason=one.reason, status=status, advice=one.advice)
    if status in permanent:
        reason = permanent[status]
        return PermanentError(text, reason=reason, status=status, advice=advice[reason])
    retry_after = answer.retry_after() if status in (429, 503) else None
    reason = TRANSIENT.get(status, Reason.SERVER if 500 <= status < 600 else Reason.OTHER)
    if status == 503 and retry_after is not None:
        reason = Reason.RATE_LIMITED
    return TransientError(
        text, reason=reason, status=status, retry_after=retry_after, advice=advice.get(reason, "")
    )


def unexpected(answer: Answer, expected: str) -> TransientError:
    """A status of success without the body of one: a proxy or a login page answered, perhaps."""
    if not answer.complete:
        return UnknownOutcome(f"HTTP {answer.status} and then no body; it may have arrived")
    return TransientError(f"{answer.quoted()} (expected {expected})", status=answer.status)
