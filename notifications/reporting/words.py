"""What people read of a time, a count, a notification and a sweep: each said here, once, for every surface.

Plain text: the surface escapes it, colours it, and adds what only it has, such as a link.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ..database.values import UNKNOWN, UnknownTime
from ..deaths.fingerprints import FOLD
from ..durations import at_most as at_most
from ..durations import clock as clock
from ..durations import date as date
from ..durations import duration as duration
from ..durations import exact_duration as exact_duration
from ..durations import expires
from ..durations import minute as minute
from ..durations import timestamp as timestamp
from ..models import AttemptOutcome, NotificationEvent, Status, SweepRun, Worker
from ..models.fields import REQUEUEABLE
from ..notifiers.wording import LINE_LIMIT, Reading, label_of
from ..operations.filters import (
    DISMISSED,
    NOT_DELIVERED,
    PROBABLY_DELIVERED,
    RETRYING,
    SEEN,
    STRANDED,
    WITHDRAWN,
    Filters,
    Meaningless,
    of_query,
)
from ..operations.filters import (
    REFUSED as REFUSED_STATUS,
)
from ..queue.beside import Terms
from ..text import TRACEBACK, isolated, one_line, revealed, telling

REFUSED = "the database refuses every change of them; the log says why"
NEXT_DELIVERY = "with the next delivery"
NO_WORKER = "No always-on worker was seen in the last minute. Sweeps by cron have none."


class Waits(NamedTuple):
    """For what a notification waits, until when, and why: `paused by ada`. See held.noted."""

    text: str
    until: datetime
    why: str


# Times and numbers


def age(at: datetime, now: datetime) -> str:
    if isinstance(at, UnknownTime):
        return UNKNOWN
    return duration(max(0, int((now - at).total_seconds())))


def ago(at: datetime, now: datetime) -> str:
    return UNKNOWN if isinstance(at, UnknownTime) else f"{age(at, now)} ago"


def count(number: int, *, estimated: bool = False, most: int | None = None) -> str:
    """`12,000`; `about 12,000` of an estimate; `10,000+` where no more than `most` were counted."""
    if most is not None and number > most:
        return f"{most:,}+"
    return f"{'about ' if estimated else ''}{number:,}"


def pace(median: float | None, p95: float | None) -> str:
    """`half within 500 ms, 95 of 100 within 6 s`; "" where nothing was delivered."""
    if median is None or p95 is None:
        return ""
    return f"half within {duration(median)}, 95 of 100 within {duration(p95)}"


def decided(by: str, via: str) -> str:
    """Who decided something: `ada via cli`."""
    return f"{isolated(by) or 'somebody unnamed'} via {isolated(via)}"


# A notification


class _Said(NamedTuple):
    """What its headline is made of."""

    id: str
    type: str
    message: str
    certificate_id: str | None
    created_at: datetime
    url: str = ""


def headline(event: NotificationEvent, now: datetime) -> str:
    """Its message's first sentence, as those read it whom it is sent to; else what kind of alert it is.

    Of a row that was read with the beginning of its message only, `message_start`, no more is asked for.
    """
    text = vars(event).get("message_start")
    text = revealed((event.message if text is None else text)[:LINE_LIMIT])
    said = _Said(event.pk, event.type, text, event.certificate_id, event.created_at)
    return Reading(said).headline(now) or label_of(event.type)


def kind(event: NotificationEvent) -> str:
    """The row's status, but for a sent one that was not delivered, a failed one that probably was, and what
    is read: a delivery that somebody saw, a dead letter that somebody dismissed, or what was withdrawn."""
    if event.not_delivered:
        return NOT_DELIVERED
    if event.status == Status.READ:
        return DISMISSED if event.dismissed else WITHDRAWN if event.withdrawn else SEEN
    return PROBABLY_DELIVERED if event.probably_delivered else event.status


def status(event: NotificationEvent) -> str:
    """The kind, as people read it."""
    return kind(event).replace("_", " ")


def retries(event: NotificationEvent, budget: int) -> str:
    """`3/5`: of a failed notification the retries so far, of a dead one the attempt that it died on."""
    if event.status not in REQUEUEABLE:
        return ""
    number = event.attempt_number if event.status == Status.DEAD else event.retry_count
    return f"{number}/{budget}"


def died(event: NotificationEvent) -> str:
    """`died on attempt 1`; "" of what is not dead."""
    return f"died on attempt {event.attempt_number}" if event.status == Status.DEAD else ""


def error(event: NotificationEvent) -> str:
    """What is wrong with it. A sent one has an error where nothing was delivered after all."""
    return (event.last_error if event.status in REQUEUEABLE else None) or event.error or ""


def problem(error: str) -> str:
    """What an error says, in one line."""
    return one_line(revealed(telling(error)))


OUTCOMES: dict[str, str] = {
    AttemptOutcome.TRANSIENT: "failed, and may succeed later",
    AttemptOutcome.PERMANENT: "failed, and would fail again",
    AttemptOutcome.UNKNOWN: "not answered, and may have arrived",
    AttemptOutcome.INTERRUPTED: "interrupted, as its worker died",
    AttemptOutcome.NO_NOTIFIER: "nothing was delivered",
}


def outcome(attempt_outcome: str) -> str:
    """An attempt's, in plain words."""
    return OUTCOMES.get(attempt_outcome, attempt_outcome)


ALIKE = 8  # words of a fingerprint that tell it from others


def alike(print_: str) -> str:
    """A fingerprint for readers, without markup, and what changes named once: `HTTP 503 from …`."""
    if print_.startswith(TRACEBACK):
        return "a Python traceback"
    words = [word for word in print_.split() if "<" not in word and ">" not in word]
    kept = [word for word, before in zip(words, ["", *words], strict=False) if not word == before == FOLD]
    text = " ".join(kept[:ALIKE])
    return f"{text.removesuffix(FOLD).rstrip()} {FOLD}" if kept[ALIKE:] else text or FOLD


def next_attempt(event: NotificationEvent, now: datetime) -> tuple[str, datetime | None]:
    """When an undelivered notification is attempted next, in words, and the exact time where there is one.

    What waits for an endpoint, and what is left to certctl, shows where held.noted was asked before.
    """
    if event.leased_until and event.leased_until > now:
        return "attempt running", None
    if event.probably_delivered:
        return "probably delivered by certctl", None
    if waits := waits_for(event):
        return waits.text, waits.until
    terms: Terms = vars(event).get("terms", Terms())
    ends = terms.grace_ends(event, now)
    if ends and ends > now:
        sends = "certctl is sending" if event.status == Status.PENDING else "left to certctl"
        return f"{sends}, taken up in {age(now, ends)}", ends
    if event.status == Status.PENDING:
        return NEXT_DELIVERY, None
    if event.next_retry_at is None:
        return NEXT_DELIVERY if ends else "not scheduled", None
    if event.next_retry_at <= now:
        return "due now", event.next_retry_at
    return f"next in {age(now, event.next_retry_at)}", event.next_retry_at


def waits_for(event: NotificationEvent) -> Waits | None:
    """The hold or the pause that keeps it back."""
    found: Waits | None = vars(event).get("waits")
    return found


def sent_at(event: NotificationEvent) -> datetime | None:
    """When it was sent. certctl also writes a time, the year 1, into what it could not send."""
    return event.sent_at if event.status in (Status.SENT, Status.READ) else None


def ends(event: NotificationEvent, now: datetime) -> str:
    """`expires in 3 h`; "" where it is not known when its certificate ends."""
    return expires(event.not_after, now) if event.not_after else ""


def facts(event: NotificationEvent, budget: int, now: datetime) -> list[tuple[str, str]]:
    """What the row says, but for its type, status, message and errors: (label, text)."""
    sent = sent_at(event)
    found = (
        ("Channel", event.channel),
        ("Recipient", event.recipient),
        ("Certificate", event.certificate_id),
        ("Ends", f"{timestamp(event.not_after)} ({ends(event, now)})" if event.not_after else ""),
        ("Raised", f"{timestamp(event.created_at)} ({ago(event.created_at, now)})"),
        ("Sent", f"{timestamp(sent)} ({ago(sent, now)})" if sent else ""),
        ("Retry", retries(event, budget)),
        ("Delivered", f"on attempt {event.attempt_number}" if sent and not event.error else ""),
        ("Id", event.pk),
        ("Deduplication key", event.dedup_key),
    )
    return [(label, text) for label, text in found if text]


# Many notifications

NOUNS: dict[str, str] = {
    "": "notifications",
    Status.PENDING: "pending notifications",
    Status.SENT: "sent notifications",
    Status.FAILED: "failed notifications",
    Status.DEAD: "dead letters",
    Status.READ: "read notifications",
    RETRYING: "failed notifications that will be retried",
    STRANDED: "stranded notifications",
    PROBABLY_DELIVERED: "probably delivered e-mails",
    NOT_DELIVERED: "notifications that were not delivered",
    DISMISSED: "dismissed dead letters",
    SEEN: "seen notifications",
    WITHDRAWN: "withdrawn alerts",
    REFUSED_STATUS: "notifications that the database refuses to change",
}


def matching(query: str, now: datetime) -> str:
    """Which notifications a query string means: `all dead letters on Slack, with the error “HTTP 503: …”`.

    now: when that was asked, for "in the last hour". What cannot be read is shown as it is.
    """
    try:
        filters = of_query(query, now)
    except Meaningless:
        return f"all that match “{isolated(query)}”"
    if query and filters == Filters():
        return f"all that match “{isolated(query)}”"
    said = [text.format(_value(value)) for text, value in _conditions(filters) if value]
    on_channel = f" {said.pop(0)}" if filters.channel else ""
    return ", ".join([f"all {NOUNS[filters.status]}{on_channel}", *said])


def _conditions(filters: Filters) -> tuple[tuple[str, object], ...]:
    return (
        ("on {}", filters.channel),
        ("of the type {}", filters.type),
        ("to {}", filters.recipient),
        ("about the certificate {}", filters.certificate_id),
        ("found by “{}”", filters.search),
        ("with “{}” in the error", filters.error),
        ("with the error “{}”", filters.alike and alike(filters.alike)),
        ("raised since {}", filters.since),
        ("raised until {}", filters.until),
        ("dead since {}", filters.dead_since),
        ("dead because of outage {}", filters.outage),
        ("changed by operation {}", filters.operation),
        ("never requeued by themselves", filters.redriven),
        ("left as they were by operation {}", " and ".join(map(str, filters.left_by))),
    )


def _value(value: object) -> str:
    return timestamp(value) if isinstance(value, datetime) else isolated(str(value))


# Who delivers


SWEPT = {"claimed": "taken up", "sent": "sent", "rescheduled": "to be tried again", "dead": "dead"}


def sweep(run: SweepRun | None, now: datetime) -> str:
    """The last sweep of a kind: how long ago, and what it did."""
    if run is None:
        return "never"
    counts = ", ".join(f"{count(getattr(run, name))} {said}" for name, said in SWEPT.items())
    return f"{ago(run.ended_at, now)}, {counts}, by {run.worker}"


def worker(worker: Worker, now: datetime) -> str:
    return f"seen {ago(worker.seen_at, now)}, {count(worker.in_flight)} being sent"
