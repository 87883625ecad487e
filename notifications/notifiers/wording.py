"""What people read of an alert: its first line, its facts, and how grave it is. One owner for every channel.

The message's own first sentence is the headline; the type is a label. What certctl puts into a text for
programs (service/notification.go: `[threshold:7]` at the end, `[EXPIRED]` in front) is read and not shown.
Pure: what time it is comes from the caller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

from django.utils import timezone

from ..database.values import UnknownTime
from ..durations import duration, timestamp
from ..text import Size, cut, one_line

SAFE_NAME = re.compile(r"[a-z0-9_-]{1,60}")  # of a type or a folder, fit for a path
LINE_LIMIT = 1_000  # characters of a first line that are looked at
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DAY = timedelta(days=1)
COMBINED_LINE = 120  # characters of each of several alerts in one message
ESCALATED = "Not delivered on "  # how the note begins that an escalation puts before the alert


class Severity(StrEnum):
    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


# Of a type, in either spelling and also of other programs'; the first that is found in it.
SEVERITIES = (
    (re.compile(r"expired|revo[ck]"), Severity.CRITICAL),
    (re.compile(r"fail|error"), Severity.ERROR),
    (re.compile(r"success|succeeded|solved|renewed|deployed|^test$"), Severity.INFO),
)
SOLVED = "solved"
LABELS = {
    "expiration_warning": "Expiry warning",
    "renewal_success": "Renewed",
    "renewal_failure": "Renewal failed",
    "deployment_success": "Deployed",
    "deployment_failure": "Deployment failed",
    "policy_violation": "Policy violation",
    "revocation": "Revoked",
    "dead_letter_digest": "Dead letters",
    SOLVED: "Solved",
}
ICONS = {
    Severity.CRITICAL: "\N{LARGE RED CIRCLE}",
    Severity.ERROR: "\N{LARGE ORANGE CIRCLE}",
    Severity.WARNING: "\N{LARGE YELLOW CIRCLE}",
    Severity.INFO: "\N{LARGE GREEN CIRCLE}",
}
COLORS = {
    Severity.CRITICAL: "#c9252d",
    Severity.ERROR: "#d9650b",
    Severity.WARNING: "#d9a300",
    Severity.INFO: "#2e8540",
}
# RFC 2156 (Importance) and what mail programs made of it (X-Priority).
IMPORTANCE = {
    Severity.CRITICAL: {"Importance": "high", "X-Priority": "1"},
    Severity.ERROR: {"Importance": "high", "X-Priority": "2"},
    Severity.WARNING: {},
    Severity.INFO: {"Importance": "low", "X-Priority": "5"},
}

TAGS = re.compile(r"\[([a-z][a-z_-]{0,30}):([^\[\]\s]{0,100})\]")
# A line of nothing else, or certctl's own, wherever it stands.
TAG_LINE = re.compile(r"^[ \t]*(?:\[[a-z][a-z_-]{0,30}:[^\[\]\s]{0,100}\][ \t]*)+$", re.MULTILINE)
THRESHOLD = re.compile(r"[ \t]?\[threshold:(-?\d{1,6})\]")
MARK = re.compile(r"\s*\[(EXPIRED|REVOKED)\][ \t]*")
# Controls, changes of direction that reach beyond the text, and halves of pairs.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
SENTENCE_END = re.compile(r"(?<=[^\s.]{2})[.!?](?=\s+[^a-z\d\s]|\s*$)|[。！？]")  # noqa: RUF001
ABBREVIATION = re.compile(r"(?:inc|ltd|corp|co|no|nr|st|dr|mrs?|ms|vs|approx|ca)\.", re.IGNORECASE)
HOST = re.compile(r"(?<![/\w.@-])(?:\*\.)?(?:[\w-]{1,63}\.){1,10}[^\W\d_]{2,63}")
CERTCTLS = re.compile(r"The certificate for (\S{1,300}) (?=[a-z])")
DATE = re.compile(
    r"\b(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?: ?(Z|UTC|[+-]\d\d:?\d\d))?)?"
)
IN_DAYS = re.compile(r"\bin (\d{1,4}) days?\b")
# What follows is when. Of other types fewer words count: a token or an account may have expired.
EXPIRING = re.compile(r"expir\w*([^\n]{0,60})", re.IGNORECASE)
EXPIRY = re.compile(r"(?:\bexpir(?:es|y)|(?:valid|renewed) until)\b([^\n]{0,60})", re.IGNORECASE)
EXPIRED = re.compile(r"\b(?:has|have|is|are) expired\b|\bexpired (?:on|at|\d)", re.IGNORECASE)


class Alert(Protocol):
    """What is asked of a message."""

    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def certificate_id(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def url(self) -> str: ...


class Expiry(NamedTuple):
    """When the certificate ends, as far as the text says it. whole_day: it names no time of the day."""

    at: datetime
    whole_day: bool

    def is_over(self, now: datetime) -> bool:
        return now >= self.at + (DAY if self.whole_day else timedelta(0))


class Fact(NamedTuple):
    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Words:
    """An alert in words.

    headline  one line that says it all
    label     what kind of alert it is: "Expiry warning"
    text      the whole message without what is meant for programs
    detail    what of it the headline does not say
    facts     label and value, each one line
    link      the notification's page, or ""
    own       the text is all of a site's own template, which says itself what is to be said of the facts
    fault     why a site's own template is not what is said here, or ""
    """

    headline: str
    label: str
    severity: Severity
    text: str
    detail: str
    facts: tuple[Fact, ...]
    link: str
    own: bool = False
    fault: str = ""

    @property
    def details(self) -> dict[str, str]:
        """The facts for a provider's own table of names and values, but for the certificate: it stands there
        as `certificate_id`."""
        return {label.lower(): value for label, value in self.facts if label != "Certificate"}

    def below(self, limit: int) -> str:
        """What to say below the headline, of which so many characters are shown."""
        return self.detail if len(self.headline) <= limit else self.text

    def body(self, limit: float = math.inf, size: Size = len) -> str:
        """Plain text with the facts aligned below it. What is beyond the limit is cut from the message."""
        if self.own:
            return self.text
        facts = (Fact("Alert", self.label), *self.facts)
        width = max(len(label) for label, _ in facts) + 1
        rest = "\n".join(f"{label + ':':<{width}} {value}" for label, value in facts)
        rest += f"\n\n{self.link}" if self.link else ""
        if not self.text:
            return rest
        room = limit - size(rest) - 2
        text = self.text if room == math.inf else cut(self.text, max(int(room), 0), size)
        return f"{text}\n\n{rest}"


def words_of(
    alert: Alert, now: datetime, *, severity: Callable[[str, Severity], Severity] = lambda _, given: given
) -> Words:
    """What is said of an alert at the time `now`. severity: what the channel makes of a type's severity."""
    reading = Reading(alert)
    label = label_of(alert.type)
    if label == LABELS["expiration_warning"] and reading.is_over(now):
        label = "Expired"
    return Words(
        headline=reading.headline(now) or label,
        label=label,
        severity=severity(alert.type, reading.severity(now)),
        text=reading.text,
        detail=reading.detail,
        facts=tuple(_facts(alert, reading.expiry, now)),
        link=alert.url,
    )


def together(alerts: Sequence[Words]) -> Words:
    """Several alerts in one message: a line for each, the gravest first, short enough to be shown whole."""
    ranks = list(Severity)
    alerts = sorted(alerts, key=lambda words: ranks.index(words.severity))
    text = "\n".join(f"- {cut(words.headline, COMBINED_LINE)}" for words in alerts)
    return Words(
        headline=f"{len(alerts)} alerts that waited together",
        label="Several alerts",
        severity=alerts[0].severity,
        text=text,
        detail=text,
        facts=(),
        link="",
        own=True,
    )


class Reading:
    """What a message says.

    tags       what it holds for programs, by name
    text       the rest of it
    escalated  it begins with an escalation's note
    sentence   the first of what was raised, without its full stop
    """

    __slots__ = ("alert", "escalated", "expired", "expiry", "sentence", "tags", "text")

    def __init__(self, alert: Alert) -> None:
        self.alert = alert
        self.text, self.tags = without_tags(clean(alert.message))
        raised = self.text
        while raised.startswith(ESCALATED) and "\n\n" in raised:
            raised = raised.partition("\n\n")[2].lstrip()
        self.escalated = len(raised) < len(self.text)
        mark = MARK.match(raised)
        if mark:
            raised = raised[mark.end() :].lstrip()
            self.text = raised if not self.escalated else self.text
        self.sentence = first_sentence(raised)
        expires = kind_of(alert.type) == "expiration_warning"
        self.expired = expires and bool(
            mark or self.tags.get("threshold", "1").startswith(("-", "0")) or EXPIRED.search(self.sentence)
        )
        beginning = raised[:LINE_LIMIT]
        told = [found[1] for found in (EXPIRING if expires else EXPIRY).finditer(beginning)]
        told += [beginning] if expires else []
        times = (expiry_in(text, alert.created_at) for text in told)
        self.expiry = next((expiry for expiry in times if expiry), None)

    @property
    def detail(self) -> str:
        """What follows the sentence; everything where that is not the text's beginning, or is cut itself."""
        if self.escalated or not self.text.startswith(self.sentence) or len(self.sentence) >= LINE_LIMIT:
            return self.text
        rest = self.text[len(self.sentence) :]
        return (rest[1:] if rest[:1] in (".", "。") else rest).lstrip()

    def severity(self, now: datetime) -> Severity:
        """Of the type; where the certificate has expired, nothing but a success is less than critical."""
        given = severity_of_type(self.alert.type)
        return Severity.CRITICAL if self.is_over(now) and given is not Severity.INFO else given

    def is_over(self, now: datetime) -> bool:
        """Whether the certificate has expired, as far as that is said."""
        return self.expired or (self.expiry is not None and self.expiry.is_over(now))

    def headline(self, now: datetime) -> str:
        """The first sentence, what it is about in front where it does not say so, and the day that "in 7
        days" means: a retry can be late. "" where there is nothing to say but the kind."""
        certificate = one_line(clean(self.alert.certificate_id or ""))
        if not self.sentence:
            return f"{label_of(self.alert.type)}: {isolated(certificate)}" if certificate else ""
        line = one_line(self.sentence)
        if (named := CERTCTLS.match(line)) and HOST.fullmatch(named[1]):
            line = named[1] + line[named.end(1) :]
        says = certificate.casefold() in line.casefold() or HOST.search(line)
        parts = [isolated(line)]
        if self.expiry and IN_DAYS.search(line) and not DATE.search(line):
            parts.append(f" ({day(self.expiry.at, now)})")
        return "".join(parts) if says else f"{isolated(certificate)}: {''.join(parts)}"


def clean(text: str) -> str:
    """Without what could leave its place, each replaced by a mark that shows; line breaks are \\n."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text).replace("\u2028", "\n").replace("\u2029", "\n")


def without_tags(text: str) -> tuple[str, dict[str, str]]:
    """The text for people, and the tags for programs."""
    if "[" not in text or ":" not in text:
        return text.strip(), {}
    tags: dict[str, str] = {}
    for line in TAG_LINE.findall(text):
        tags.update(TAGS.findall(line))
    tags.update(("threshold", number) for number in THRESHOLD.findall(text))
    if tags:
        text = re.sub(r"\n{3,}", "\n\n", THRESHOLD.sub("", TAG_LINE.sub("", text)))
    return text.strip(), tags


def first_sentence(text: str) -> str:
    line = text.lstrip()[:LINE_LIMIT].partition("\n")[0].rstrip()
    for end in SENTENCE_END.finditer(line):
        sentence = line[: end.end()]
        if not ABBREVIATION.fullmatch(sentence.rpartition(" ")[2]):
            return sentence.rstrip(".。")
    return line


def expiry_in(text: str, raised: datetime) -> Expiry | None:
    """The first date in it; else the days that it counts from when it was raised."""
    if found := DATE.search(text):
        return _expiry(found)
    counted = IN_DAYS.search(text)
    if counted is None or isinstance(raised, UnknownTime):
        return None
    try:
        return Expiry(timezone.localtime(aware(raised)) + int(counted[1]) * DAY, whole_day=True)
    except OverflowError:
        return None


def _expiry(found: re.Match[str]) -> Expiry | None:
    *numbers, zone = found.groups()
    year, month, on, hour, minute, second = (int(number or 0) for number in numbers)
    try:
        at = datetime(year, month, on, hour, minute, second, tzinfo=UTC)
        if zone and zone not in ("Z", "UTC"):
            at = datetime.fromisoformat(f"{at:%Y-%m-%dT%H:%M:%S}{zone}").astimezone(UTC)
        return Expiry(at, whole_day=numbers[3] is None) if 1 < at.year < 9999 else None
    except (ValueError, OverflowError):
        return None


def _facts(alert: Alert, expiry: Expiry | None, now: datetime) -> Iterator[Fact]:
    if certificate := one_line(clean(alert.certificate_id or "")):
        yield Fact("Certificate", certificate)
    if expiry:
        shown = f"{expiry.at:%Y-%m-%d}" if expiry.whole_day else timestamp(expiry.at)
        over = "Expired" if expiry.is_over(now) else "Expires"
        yield Fact(over, f"{shown} ({distance(expiry.at, now, expiry.whole_day)})")
    if isinstance(alert.created_at, UnknownTime):
        yield Fact("Raised", f"{alert.created_at:%Y}")
    else:
        raised = aware(alert.created_at)
        yield Fact("Raised", f"{timestamp(raised)} ({distance(raised, now)})")
    if not alert.url:
        yield Fact("Notification", one_line(clean(alert.id)))


def distance(at: datetime, now: datetime, whole_day: bool = False) -> str:
    """`in 6 days`, `2 min ago`; of a day also `today`."""
    if whole_day:
        days = (at.date() - now.astimezone(at.tzinfo).date()).days
        if abs(days) < 2:
            return ("yesterday", "today", "tomorrow")[days + 1]
        return f"in {days} days" if days > 0 else f"{-days} days ago"
    seconds = (at - now).total_seconds()
    if abs(seconds) < 10:
        return "just now"
    return f"in {duration(int(seconds))}" if seconds > 0 else f"{duration(int(-seconds))} ago"


def day(at: datetime, now: datetime) -> str:
    """`2 Dec`; the year where it is another one."""
    local = timezone.localtime(at)
    year = f" {local.year}" if local.year != timezone.localtime(now).year else ""
    return f"{local.day} {MONTHS[local.month - 1]}{year}"


def aware(at: datetime) -> datetime:
    return timezone.make_aware(at) if at.tzinfo is None else at


def isolated(text: str) -> str:
    """So that what is written from right to left keeps its own order and no one else's."""
    if text.isascii() or not RIGHT_TO_LEFT.search(text):
        return text
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


@lru_cache(maxsize=256)
def kind_of(type: str) -> str:
    """ExpirationWarning and expiration_warning are both expiration_warning."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type).lower()


@lru_cache(maxsize=256)
def label_of(type: str) -> str:
    kind = kind_of(type)
    plain = one_line(clean(kind.replace("_", " ")))
    return LABELS.get(kind) or plain[:1].upper() + plain[1:] or "Alert"


@lru_cache(maxsize=256)
def severity_of_type(type: str) -> Severity:
    kind = kind_of(type)
    return next((severity for sign, severity in SEVERITIES if sign.search(kind)), Severity.WARNING)


def severities_in(value: object) -> Mapping[str, Severity]:
    """What the option SEVERITY says, by kind; under "" where it is one for all."""
    if isinstance(value, str):
        return {"": Severity(value)} if value else {}
    if isinstance(value, Mapping):
        return {kind_of(str(type).strip()): Severity(one) for type, one in value.items()}
    return {}
