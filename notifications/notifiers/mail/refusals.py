"""What a mail server's refusal makes of the row, and of the server's others.

Only a recipient, or a mail, is the row's own matter, and its end. What is ours (sender, host, login,
encryption) holds the server: all wait, nothing is spent, and whoever set the channel up is told what to set.
Limits hold it for a time. Beneath both is a net, for words that nobody knows: several different recipients in
a row that are refused alike are not at fault.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from ...exceptions import DeliveryError, PermanentError, Reason, TransientError
from .words import CODES, OURS, STAGES, Meaning, Stage, enhanced_code, explained

BUSY_WAIT, RATE_WAIT, QUOTA_WAIT = 10.0, 60.0, 900.0  # seconds
# That the server is held where it refused us at a recipient, or after the mail: it may be this one's matter.
DOUBT_WAIT = 120.0
SEVERAL, MANY = 3, 10  # recipients in a row that are refused alike: then it is not they
TRUSTED_SECONDS = 600.0  # that a server which took a mail is known to take our sender and login
WORDS_LIMIT = 2_000  # characters of a reply that are looked at for what they mean
CLOSING = 421
BY_ITSELF = "what waits goes out by itself"
ADVICE = {
    Meaning.RECIPIENT: "the mail server refuses this recipient; raise the alert again with another address",
    Meaning.CONTENT: "the mail server refuses this mail; raise a corrected alert, or dismiss this one",
    Meaning.RELAY: "the mail server takes no mail for this address from us; log in (CERTCTL_SMTP_USERNAME), "
    "or correct the address; then requeue",
    Meaning.SENDER: "set a sender that this login may use (CERTCTL_SMTP_FROM_ADDRESS, "
    f"CERTCTL_SMTP_ENVELOPE_FROM); {BY_ITSELF}",
    Meaning.HOST: "the mail server refuses this host; set the name that it says it has "
    f"(CERTCTL_SMTP_EHLO_NAME), or ask who runs the server; {BY_ITSELF}",
    Meaning.LOGIN: "correct the mail server's user name and password (CERTCTL_SMTP_USERNAME, "
    f"CERTCTL_SMTP_PASSWORD); {BY_ITSELF}",
    Meaning.TLS: "correct how the connection is encrypted (CERTCTL_SMTP_USE_TLS, CERTCTL_SMTP_PORT); "
    f"{BY_ITSELF}",
    Meaning.QUOTA: "the mail server's limit for this account is reached; what waits goes out after it",
}


class Refusal(NamedTuple):
    """A server's reply that is no success.

    text     quoted, without secrets
    alike    the same for replies that are alike
    certain  whether words or an enhanced code say the meaning, and not the command alone
    """

    code: int
    text: str
    meaning: Meaning | None
    stage: Stage
    alike: str
    certain: bool

    @classmethod
    def of(cls, code: int, words: str, stage: Stage, quoted: str) -> Refusal:
        words = words[:WORDS_LIMIT]
        meaning = said = explained(words, stage)
        if said is None and 500 <= code < 600:
            meaning = CODES.get(code) or STAGES[stage]
        alike = f"{code} {enhanced_code(words)}"
        return cls(code, f"SMTP {code}: {quoted}", meaning, stage, alike, said is not None)

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600


class InARow:
    """What the server refused since it last took a mail: what is alike, and for how many recipients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alike = ""
        self._recipients: set[str] = set()
        self._taken_at: float | None = None

    def taken(self) -> None:
        with self._lock:
            self._alike, self._taken_at = "", time.monotonic()
            self._recipients.clear()

    def judged(self, refusal: Refusal, recipient: str) -> DeliveryError:
        """The verdict, counting this one in."""
        with self._lock:
            if refusal.is_permanent and refusal.alike != self._alike:
                self._alike = refusal.alike
                self._recipients.clear()
            if refusal.is_permanent and len(self._recipients) < MANY:
                self._recipients.add(recipient)
            in_a_row, at = len(self._recipients), self._taken_at
        return verdict(refusal, in_a_row, at is not None and time.monotonic() - at < TRUSTED_SECONDS)


def verdict(refusal: Refusal, in_a_row: int = 1, trusted: bool = False) -> DeliveryError:
    """What a refusal makes of the row.

    in_a_row  how many different recipients were refused alike since the server last took a mail
    trusted   whether it took one lately, from the same sender and login
    """
    meaning = refusal.meaning
    if meaning is Meaning.BUSY:
        return _transient(refusal, Reason.BUSY, BUSY_WAIT)
    if meaning in (Meaning.RATE, Meaning.SESSION, Meaning.ENVELOPE, Meaning.QUOTA):
        wait = QUOTA_WAIT if meaning is Meaning.QUOTA else RATE_WAIT
        return _transient(refusal, Reason.RATE_LIMITED, wait)
    if not refusal.is_permanent:
        return _transient(refusal, _put_off(refusal))
    if meaning in (Meaning.SERVER, Meaning.LATER):
        return _transient(refusal, Reason.SERVER if meaning is Meaning.SERVER else Reason.DEFERRED)
    if meaning in OURS and refusal.stage < Stage.RCPT:
        return _transient(refusal, Reason.AUTH)
    if meaning in OURS and trusted and in_a_row < SEVERAL:
        return _transient(refusal, Reason.DEFERRED)
    if meaning in OURS:
        return _transient(refusal, Reason.AUTH, DOUBT_WAIT)
    if in_a_row >= (MANY if meaning is Meaning.RECIPIENT and refusal.certain else SEVERAL):
        return TransientError(
            f"{refusal.text} (so it answered {in_a_row} different recipients in a row)",
            reason=Reason.AUTH,
            status=refusal.code,
            retry_after=DOUBT_WAIT,
            advice=f"the mail server seems to refuse us, not these mails; ask who runs it; {BY_ITSELF}",
        )
    return PermanentError(
        refusal.text, reason=Reason.CLIENT, status=refusal.code, advice=ADVICE[meaning or Meaning.CONTENT]
    )


def _transient(refusal: Refusal, reason: Reason, wait: float | None = None) -> TransientError:
    advice = ADVICE.get(refusal.meaning, "") if reason is not Reason.BUSY and refusal.meaning else ""
    return TransientError(refusal.text, reason=reason, status=refusal.code, retry_after=wait, advice=advice)


def _put_off(refusal: Refusal) -> Reason:
    """Whose matter a reply is that neither accepts nor refuses for good."""
    if not 400 <= refusal.code < 500:
        return Reason.OTHER
    server = (
        refusal.code == CLOSING or refusal.stage < Stage.RCPT or refusal.meaning in (Meaning.SERVER, *OURS)
    )
    return Reason.SERVER if server else Reason.DEFERRED
