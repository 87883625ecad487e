"""What every answer means, as one table that every channel's test runs.

It is written down a second time here, from the providers' documentation and apart from the code, so that
a change of either shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from notifications.exceptions import (
    DeliveryError,
    EndpointEffect,
    PermanentError,
    Reason,
    TransientError,
    UnknownOutcome,
)
from notifications.notifiers.base import Delivered

R, E = Reason, EndpointEffect


@dataclass(frozen=True)
class Verdict:
    kind: type[Delivered] | type[DeliveryError]
    reason: Reason | None = None
    effect: EndpointEffect = EndpointEffect.HEALTHY

    @classmethod
    def of(cls, result: object) -> Verdict:
        """What a notifier said, in the table's terms; anything but its own errors is a fault."""
        if isinstance(result, DeliveryError):
            return cls(type(result), result.reason, result.endpoint_effect)
        assert isinstance(result, Delivered), repr(result)
        return SENT


SENT = Verdict(Delivered)
SERVER = Verdict(TransientError, R.SERVER, E.COUNTS)
TIMEOUT = Verdict(TransientError, R.TIMEOUT, E.COUNTS)
NETWORK = Verdict(TransientError, R.NETWORK, E.COUNTS)
DEFERRED = Verdict(TransientError, R.DEFERRED, E.HEALTHY)
BUSY = Verdict(TransientError, R.BUSY, E.BUSY)
OTHER = Verdict(TransientError, R.OTHER, E.COUNTS)
RATE_LIMITED = Verdict(TransientError, R.RATE_LIMITED, E.HELD)
UNKNOWN = Verdict(UnknownOutcome, R.UNKNOWN, E.COUNTS)
HELD = Verdict(TransientError, R.AUTH, E.HELD)  # ours to mend: the row waits, and spends nothing
CLIENT = Verdict(PermanentError, R.CLIENT, E.HEALTHY)
AUTH = Verdict(PermanentError, R.AUTH, E.HELD)
GONE = Verdict(PermanentError, R.GONE, E.HELD)
CONFIG = Verdict(PermanentError, R.CONFIG, E.NONE)

NAMED = {
    301: GONE,
    308: GONE,
    400: CLIENT,
    401: AUTH,
    403: AUTH,
    408: TIMEOUT,
    410: GONE,
    413: CLIENT,
    415: CLIENT,
    422: CLIENT,
    425: SERVER,
    429: RATE_LIMITED,
}


def verdict(status: int, *, retry_after: bool = False) -> Verdict:
    """For every status that is not the provider's success, without words of the provider's own."""
    if status == 503 and retry_after:
        return RATE_LIMITED
    return NAMED.get(status, SERVER if 500 <= status <= 599 else OTHER)


# An SMTP reply and what it means, by the stage at which the server gives it.
BEFORE_THE_MAIL = ("greeting", "ehlo")
LOGIN = ("auth",)
THE_MAIL = ("mail", "rcpt", "data", "dot")
ONE_RECIPIENT = ("rcpt", "data", "dot")
SMTP = {
    **{(stage, code): HELD for stage in BEFORE_THE_MAIL for code in (550, 554)},
    **{(stage, code): SERVER for stage in (*BEFORE_THE_MAIL, *LOGIN, *THE_MAIL) for code in (421, 451, 454)},
    **{(stage, code): DEFERRED for stage in ONE_RECIPIENT for code in (450, 451, 452, 454)},
    **{(stage, code): HELD for stage in LOGIN for code in (530, 534, 535, 538)},
    **{(stage, code): HELD for stage in THE_MAIL for code in (530, 535)},
    **{("mail", code): HELD for code in (501, 550, 551, 553, 554)},
    **{(stage, code): CLIENT for stage in ONE_RECIPIENT for code in (501, 550, 551, 552, 553, 554)},
    ("mail", 552): CLIENT,
}
# What happens to the connection while the server is to answer, and what it means.
SMTP_BREAKS = {
    **{(stage, "hang"): TIMEOUT for stage in (*BEFORE_THE_MAIL, "mail", "rcpt", "data")},
    **{(stage, "close"): NETWORK for stage in (*BEFORE_THE_MAIL, "mail", "rcpt", "data")},
    **{(stage, "garbage"): NETWORK for stage in (*BEFORE_THE_MAIL, "mail", "rcpt", "data")},
    **{(stage, "endless"): NETWORK for stage in (*BEFORE_THE_MAIL, "mail", "rcpt", "data")},
    **{("dot", how): UNKNOWN for how in ("hang", "close", "garbage", "endless")},
}
