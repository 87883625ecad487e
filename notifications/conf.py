"""The app's settings: one dict, `settings.NOTIFICATIONS`, with these defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from . import durations
from .text import fold

MISSING_NOTIFIER_CHOICES = ("sent", "dead")
DISPATCH_CHOICES = ("inline", "tasks", "celery")
BESIDE_CHOICES = ("rescue", "takeover", "off")
ACCESS_CHOICES = ("anyone", "viewers", "nobody")


class Addressee(NamedTuple):
    """Whom, on which channel. Written `Email:oncall@example.com`."""

    channel: str
    recipient: str


class Digest(NamedTuple):
    """Where the digest of dead letters goes, and how often at most."""

    to: Addressee
    interval: timedelta


@dataclass(frozen=True, slots=True)
class Conf:
    """The values that the app works with. Durations are timedeltas; in the dict also seconds."""

    # Only the names are upper case in the dict: MAX_ATTEMPTS and so on.
    max_attempts: int = 5
    backoff_base: timedelta = timedelta(minutes=1)
    backoff_cap: timedelta = timedelta(hours=1)
    sweep_limit: int = 1000
    concurrency: int = 100
    endpoint_concurrency: int = 50
    send_timeout: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(minutes=2)
    missing_notifier: str = "sent"
    hold_limit: timedelta = timedelta(hours=4)
    database_timeout: timedelta = timedelta(seconds=30)
    recovery_rate: int = 20
    redrive_on_recovery: bool = False
    withdraw_renewed: bool = True
    solved_on: Sequence[str] = ()  # the channels where people are told that an alert is solved
    dispatch: str = "inline"
    task_batch: int = 100
    retry_interval: timedelta = timedelta(minutes=2)
    process_interval: timedelta = timedelta(minutes=1)
    beside: str = ""  # one of BESIDE_CHOICES; "": rescue where certctl is, else off
    beside_grace: timedelta = timedelta(minutes=5)
    metrics_access: str = "anyone"  # these four: one of ACCESS_CHOICES
    readyz_access: str = "anyone"
    schema_access: str = "anyone"
    docs_access: str = "anyone"
    base_url: str = ""
    escalation: Mapping[str, Addressee] = field(default_factory=dict)  # by folded channel
    digest: Digest | None = None
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def channel(self, name: str) -> str | None:
        """The configured channel that `name` means, without regard to case; None when there is none."""
        if name in self.channels:
            return name
        wanted = fold(name)
        return next((known for known in self.channels if fold(known) == wanted), None)

    def fallback(self, channel: str) -> Addressee | None:
        """Where what dies on this channel is escalated to."""
        return self.escalation.get(fold(channel))


FIELDS = {f.name.upper(): f for f in fields(Conf)}
DURATIONS = {
    "BACKOFF_BASE",
    "BACKOFF_CAP",
    "SEND_TIMEOUT",
    "LEASE",
    "RETRY_INTERVAL",
    "PROCESS_INTERVAL",
    "BESIDE_GRACE",
    "HOLD_LIMIT",
    "DATABASE_TIMEOUT",
}
LONGEST = timedelta(days=3653)
LONGEST_RECIPIENT = 255
NO_TIME_ZONES = (
    "USE_TZ must be True: leases and retries are compared by times, and times without a zone"
    " go through one hour of the year twice"
)
HOW_TO_ADDRESS = "write it as Channel:recipient, such as 'Email:oncall@example.com'"
COUNTS = {"MAX_ATTEMPTS", "SWEEP_LIMIT", "CONCURRENCY", "ENDPOINT_CONCURRENCY", "TASK_BATCH", "RECOVERY_RATE"}


def current() -> Conf:
    """What settings.NOTIFICATIONS says now.

    Raises ImproperlyConfigured with every fault in one message.
    """
    given = getattr(settings, "NOTIFICATIONS", {})
    if found := _faults(given):
        raise ImproperlyConfigured("; ".join(found))
    conf = made(given)
    if found := _contradictions(conf):
        raise ImproperlyConfigured("; ".join(found))
    return conf


def access(name: str) -> str:
    """Who may see a page, as this setting of the dict says by itself: a fault elsewhere opens nothing."""
    given = getattr(settings, "NOTIFICATIONS", {})
    value = given.get(name, "anyone") if isinstance(given, Mapping) else "nobody"
    return value if value in ACCESS_CHOICES else "nobody"


def made(given: Mapping[str, Any]) -> Conf:
    """The values of a dict without faults."""
    return Conf(**{name.lower(): _value(name, value) for name, value in given.items()})


def faults(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the dict, a sentence each; empty when nothing is."""
    return _faults(given) or _contradictions(made(given))


def _faults(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values, each by itself, and with the site's own."""
    if not isinstance(given, Mapping):
        return [f"NOTIFICATIONS must be a dict, not {given!r}"]
    found = [] if settings.USE_TZ else [NO_TIME_ZONES]
    found += [
        f"NOTIFICATIONS has no setting {name!r}; the settings are {', '.join(FIELDS)}"
        for name in given
        if name not in FIELDS
    ]
    found += [fault for name, value in given.items() if name in FIELDS and (fault := _fault(name, value))]
    return found


def _fault(name: str, value: Any) -> str | None:
    where = f"NOTIFICATIONS[{name!r}]"
    if name in COUNTS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        return f"{where} must be a whole number of 1 or more, not {value!r}"
    if name in DURATIONS and not _is_duration(value):
        return f"{where} must be a positive timedelta or number of seconds, at most ten years, not {value!r}"
    if name in ("REDRIVE_ON_RECOVERY", "WITHDRAW_RENEWED") and not isinstance(value, bool):
        return f"{where} must be True or False, not {value!r}"
    if name == "MISSING_NOTIFIER" and value not in MISSING_NOTIFIER_CHOICES:
        return f"{where} must be one of {', '.join(MISSING_NOTIFIER_CHOICES)}, not {value!r}"
    if name == "DISPATCH" and value not in DISPATCH_CHOICES:
        return f"{where} must be one of {', '.join(DISPATCH_CHOICES)}, not {value!r}"
    if name == "BESIDE" and value not in ("", *BESIDE_CHOICES):
        return f"{where} must be one of {', '.join(BESIDE_CHOICES)}, not {value!r}"
    if name.endswith("_ACCESS") and value not in ACCESS_CHOICES:
        return f"{where} must be one of {', '.join(ACCESS_CHOICES)}, not {value!r}"
    if name == "BASE_URL" and not isinstance(value, str):
        return f"{where} must be a string, not {value!r}"
    if name == "SOLVED_ON" and not (
        isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    ):
        return f"{where} must be a list of channels, not {value!r}"
    special = {"CHANNELS": _channels_fault, "ESCALATION": _escalation_fault, "DIGEST": _digest_fault}
    return special[name](where, value) if name in special else None


def _channels_fault(where: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where} must be a dict of channels"
    if odd := [name for name in value if not isinstance(name, str)]:
        return f"{where}: a channel's name is a string, not {odd[0]!r}"
    folded = [fold(name) for name in value]
    if len(set(folded)) < len(folded):
        return f"{where} names a channel twice; case does not tell channels apart"
    without = [
        name
        for name, options in value.items()
        if not isinstance(options, Mapping) or "NOTIFIER" not in options
    ]
    if without:
        return f"{where}[{without[0]!r}] must be a dict with a NOTIFIER, the dotted path of a class"
    return None


def _escalation_fault(where: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where} must be a dict from channels to their fallbacks"
    if odd := [name for name in value if not isinstance(name, str)]:
        return f"{where}: a channel's name is a string, not {odd[0]!r}"
    if len({fold(name) for name in value}) < len(value):
        return f"{where} names a channel twice; case does not tell channels apart"
    faults = (_addressee_fault(f"{where}[{name!r}]", text) for name, text in value.items())
    return next((fault for fault in faults if fault), None)


def _digest_fault(where: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where} must be a dict with TO and INTERVAL"
    if odd := [name for name in value if name not in ("TO", "INTERVAL")]:
        return f"{where} has no setting {odd[0]!r}; the settings are TO, INTERVAL"
    if value and "TO" not in value:
        return f"{where} says not whom to send it TO; {HOW_TO_ADDRESS}"
    if "INTERVAL" in value and not _is_duration(_parsed(value["INTERVAL"])):
        return f"{where}['INTERVAL'] must be a positive duration, such as '1h', not {value['INTERVAL']!r}"
    return _addressee_fault(f"{where}['TO']", value["TO"]) if value else None


def _addressee_fault(where: str, value: Any) -> str | None:
    """The recipient is not repeated: a URL can be a secret."""
    if not isinstance(value, str):
        return f"{where} must be a string, not {type(value).__name__}; {HOW_TO_ADDRESS}"
    channel, recipient = addressee(value)
    if not channel or not recipient:
        return f"{where} names no {'recipient' if channel else 'channel'}; {HOW_TO_ADDRESS}"
    if len(recipient) > LONGEST_RECIPIENT or not recipient.isprintable():
        return f"{where}: a recipient is at most {LONGEST_RECIPIENT} printable characters"
    return None


def addressee(text: str) -> Addressee:
    channel, _, recipient = text.partition(":")
    return Addressee(channel.strip(), recipient.strip())


def _contradictions(conf: Conf) -> list[str]:
    found = [
        f"NOTIFICATIONS{where} names the channel {to.channel!r}, which is not configured"
        for where, to in _addressees(conf)
        if conf.channel(to.channel) is None
    ]
    found += [
        f"NOTIFICATIONS['ESCALATION']: the channel {to.channel!r} falls back to itself"
        for channel, to in conf.escalation.items()
        if fold(to.channel) == channel
    ]
    found += _solved_on(conf)
    if conf.lease < 2 * conf.send_timeout:
        found.append(
            f"NOTIFICATIONS: LEASE ({conf.lease}) must be at least twice SEND_TIMEOUT ({conf.send_timeout}), "
            "or a slow attempt could outlive its lease and be repeated"
        )
    elif conf.lease < conf.send_timeout + conf.database_timeout:
        found.append(
            f"NOTIFICATIONS: LEASE ({conf.lease}) must be at least SEND_TIMEOUT ({conf.send_timeout}) and "
            f"DATABASE_TIMEOUT ({conf.database_timeout}) together, or an attempt whose record has to wait "
            "for the database could outlive its lease and be repeated"
        )
    return found


def _solved_on(conf: Conf) -> Iterator[str]:
    for name in conf.solved_on:
        if conf.channel(name) is None:
            yield f"NOTIFICATIONS['SOLVED_ON'] names the channel {name!r}, which is not configured"


def _addressees(conf: Conf) -> Iterator[tuple[str, Addressee]]:
    for channel, to in conf.escalation.items():
        yield f"['ESCALATION'][{channel!r}]", to
    if conf.digest:
        yield "['DIGEST']['TO']", conf.digest.to


def _parsed(value: Any) -> Any:
    """A duration that is written out, as in the environment, as a timedelta; all else as it is."""
    try:
        return durations.parse(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_duration(value: Any) -> bool:
    if isinstance(value, timedelta):
        return timedelta(0) < value <= LONGEST
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= LONGEST.total_seconds()


def _value(name: str, value: Any) -> Any:
    if name in DURATIONS and not isinstance(value, timedelta):
        return timedelta(seconds=value)
    if name == "ESCALATION":
        return {fold(channel): addressee(to) for channel, to in value.items()}
    if name == "DIGEST":
        return _digest(value)
    return value


def _digest(value: Mapping[str, Any]) -> Digest | None:
    if not value:
        return None
    interval = _parsed(value.get("INTERVAL", timedelta(hours=1)))
    if not isinstance(interval, timedelta):
        interval = timedelta(seconds=interval)
    return Digest(addressee(value["TO"]), interval)
