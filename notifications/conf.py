"""The app's settings: one dict, `settings.NOTIFICATIONS`, with these defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

MISSING_NOTIFIER_CHOICES = ("sent", "dead")
DISPATCH_CHOICES = ("inline", "tasks")


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
    dispatch: str = "inline"
    task_batch: int = 100
    retry_interval: timedelta = timedelta(minutes=2)
    process_interval: timedelta = timedelta(minutes=1)
    base_url: str = ""
    channels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def channel(self, name: str) -> str | None:
        """The configured channel that `name` means, without regard to case; None when there is none."""
        if name in self.channels:
            return name
        wanted = name.casefold()
        return next((known for known in self.channels if known.casefold() == wanted), None)


FIELDS = {f.name.upper(): f for f in fields(Conf)}
DURATIONS = {
    "BACKOFF_BASE",
    "BACKOFF_CAP",
    "SEND_TIMEOUT",
    "LEASE",
    "RETRY_INTERVAL",
    "PROCESS_INTERVAL",
    "HOLD_LIMIT",
}
LONGEST = timedelta(days=3653)
COUNTS = {"MAX_ATTEMPTS", "SWEEP_LIMIT", "CONCURRENCY", "ENDPOINT_CONCURRENCY", "TASK_BATCH"}


def current() -> Conf:
    """What settings.NOTIFICATIONS says now.

    Raises ImproperlyConfigured with every fault in one message.
    """
    given = getattr(settings, "NOTIFICATIONS", {})
    found = faults(given)
    if found:
        raise ImproperlyConfigured("; ".join(found))
    return made(given)


def made(given: Mapping[str, Any]) -> Conf:
    """The values of a dict without faults."""
    return Conf(**{name.lower(): _value(name, value) for name, value in given.items()})


def faults(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the dict, a sentence each; empty when nothing is."""
    if not isinstance(given, Mapping):
        return [f"NOTIFICATIONS must be a dict, not {given!r}"]
    found = [
        f"NOTIFICATIONS has no setting {name!r}; the settings are {', '.join(FIELDS)}"
        for name in given
        if name not in FIELDS
    ]
    found += [fault for name, value in given.items() if name in FIELDS and (fault := _fault(name, value))]
    if not found:
        found += _contradictions(made(given))
    return found


def _fault(name: str, value: Any) -> str | None:
    where = f"NOTIFICATIONS[{name!r}]"
    if name in COUNTS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        return f"{where} must be a whole number of 1 or more, not {value!r}"
    if name in DURATIONS and not _is_duration(value):
        return f"{where} must be a positive timedelta or number of seconds, at most ten years, not {value!r}"
    if name == "MISSING_NOTIFIER" and value not in MISSING_NOTIFIER_CHOICES:
        return f"{where} must be one of {', '.join(MISSING_NOTIFIER_CHOICES)}, not {value!r}"
    if name == "DISPATCH" and value not in DISPATCH_CHOICES:
        return f"{where} must be one of {', '.join(DISPATCH_CHOICES)}, not {value!r}"
    if name == "BASE_URL" and not isinstance(value, str):
        return f"{where} must be a string, not {value!r}"
    if name == "CHANNELS":
        return _channels_fault(where, value)
    return None


def _channels_fault(where: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"{where} must be a dict of channels"
    if odd := [name for name in value if not isinstance(name, str)]:
        return f"{where}: a channel's name is a string, not {odd[0]!r}"
    folded = [name.casefold() for name in value]
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


def _contradictions(conf: Conf) -> list[str]:
    found = []
    if conf.lease < 2 * conf.send_timeout:
        found.append(
            f"NOTIFICATIONS: LEASE ({conf.lease}) must be at least twice SEND_TIMEOUT ({conf.send_timeout}), "
            "or a slow attempt could outlive its lease and be repeated"
        )
    return found


def _is_duration(value: Any) -> bool:
    if isinstance(value, timedelta):
        return timedelta(0) < value <= LONGEST
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= LONGEST.total_seconds()


def _value(name: str, value: Any) -> Any:
    if name in DURATIONS and not isinstance(value, timedelta):
        return timedelta(seconds=value)
    return value
