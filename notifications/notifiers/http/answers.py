"""What an answer means: success, transient or permanent, and why. The same for all channels.

A channel adds what its provider says in its own words (`known`) and what an operator should then do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...exceptions import DeliveryError, PermanentError, Reason, TransientError, UnknownOutcome
from .client import Answer

SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
MOVED = (301, 308)  # for good (RFC 9110, 15.4)
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


# What an operator should look at, where the status alone says little and the channel knows nothing better.
LOOK_AT: Mapping[int, str] = {
    404: "nothing is at this address: look at the URL's path; while the receiver is deployed that may pass",
    405: "this address takes no POST: look at the URL, which may be a page's for people",
    407: "a proxy on the way wants a login: look at the proxy that this host is told to use",
    411: "something on the way wants a length that it was given: look at the proxies before the receiver",
    421: "this host does not serve this name: look at the URL's host, and at the proxies before the receiver",
    426: "this address wants another protocol: look whether the URL should begin with https://",
}
MOVED_ADVICE = "the address has moved for good; set the new one, then requeue"
REDIRECT_ADVICE = "redirects are not followed; set the address that the answer names"
WORDS_OF_FAILURE = ("error", "errors", "failed", "failure", "fail", "invalid event", "invalid")
PAGE = re.compile(r"<(!doctype html|html|head|body)\b", re.IGNORECASE)


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
    permanent: Mapping[int, Reason] = PERMANENT,
    known: Sequence[KnownRefusal] = (),
    advice: Mapping[Reason, str] = ADVICE,
) -> None:
    """Raise the delivery error that the answer means; return when its status means success."""
    if answer.status not in SUCCESS:
        raise refusal(answer, permanent, known, advice)


def raise_for_body(answer: Answer, known: Sequence[KnownRefusal] = ()) -> None:
    """Raise what a body means that belies its status of success; return where it does not."""
    failure = failure_in(answer.text)
    words = failure or (answer.text if re.fullmatch(r"\w+", answer.text) else "")  # "no_service"
    for one in known:
        if re.search(one.words, words, re.IGNORECASE):
            raise PermanentError(answer.quoted(), reason=one.reason, status=answer.status, advice=one.advice)
    if failure:
        raise TransientError(
            f"{answer.quoted()} (the status says success, the body does not)",
            status=answer.status,
            advice="look at the URL, and at what answers there",
        )


def failure_in(body: str) -> str:
    """What the body of a success says went wrong; "" where it says nothing of the kind."""
    if PAGE.match(body):
        return "a page for people"
    if not body.startswith("{"):
        return ""
    try:
        said: dict[str, Any] = json.loads(body)
    except ValueError:
        return ""
    denied = any(said.get(name) in (False, "false") for name in ("success", "ok"))
    failed = any(str(said.get(name)).lower() in WORDS_OF_FAILURE for name in ("status", "result"))
    words = next((said[name] for name in ("error", "errors") if said.get(name)), None)
    if denied or failed or (words and not any(said.get(name) is True for name in ("success", "ok"))):
        return words if isinstance(words, str) else json.dumps(words or said)
    return ""


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
    if status in REDIRECTS and (target := answer.target()):
        text = f"{text} (to {target})"
    if status in MOVED:
        return PermanentError(text, reason=Reason.GONE, status=status, advice=MOVED_ADVICE)
    if status in permanent:
        reason = permanent[status]
        said = advice.get(reason) or ADVICE[reason]
        return PermanentError(text, reason=reason, status=status, advice=said)
    retry_after = answer.retry_after() if status in (429, 503) else None
    reason = TRANSIENT.get(status, Reason.SERVER if 500 <= status < 600 else Reason.OTHER)
    if status == 503 and retry_after is not None:
        reason = Reason.RATE_LIMITED
    said = advice.get(reason) or LOOK_AT.get(status, "") or (REDIRECT_ADVICE if status in REDIRECTS else "")
    return TransientError(text, reason=reason, status=status, retry_after=retry_after, advice=said)


def unexpected(answer: Answer, expected: str) -> TransientError:
    """A status of success without the body of one: a proxy or a login page answered, perhaps."""
    if not answer.complete:
        return UnknownOutcome(f"HTTP {answer.status} and then no body; it may have arrived")
    return TransientError(f"{answer.quoted()} (expected {expected})", status=answer.status)
