"""How settings.py reads the environment: parsers that name what is wrong and never repeat a value."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvValidationError, ValidationError

from notifications import durations

LONGEST = timedelta(days=366)

Database = dict[str, Any]


class Environment(Env):
    """environs with this project's parsers; a variable that is set to nothing counts as not set."""

    def __init__(self) -> None:
        super().__init__(eager=False)
        self.add_parser("secret_key", secret_key)
        self.add_parser("duration", duration)
        self.add_parser("database", database)
        self.add_parser("http_url", http_url)
        self.add_parser("words", words)
        self.add_parser("networks", networks)
        self.add_parser("folder", folder)
        self.add_parser("texts", texts)

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        if isinstance(value, str) and not value.strip():
            return default
        return value

    def close(self) -> None:
        """End reading. Raises ImproperlyConfigured with every fault in one line."""
        try:
            self.seal()
        except EnvValidationError as error:
            faults = error.error_messages
            pairs = faults.items() if isinstance(faults, dict) else [("environment", faults)]
            raise ImproperlyConfigured(
                "; ".join(f"{name}: {' '.join(map(str, said)).rstrip('.')}" for name, said in pairs)
            ) from None


# What a channel needs to be on, and how the names of all its variables begin.
NEEDED = {
    "Email": ("CERTCTL_SMTP_", ("CERTCTL_SMTP_HOST", "CERTCTL_SMTP_FROM_ADDRESS")),
    "Slack": ("CERTCTL_SLACK_", ("CERTCTL_SLACK_WEBHOOK_URL",)),
    "Teams": ("CERTCTL_TEAMS_", ("CERTCTL_TEAMS_WEBHOOK_URL",)),
    "PagerDuty": ("CERTCTL_PAGERDUTY_", ("CERTCTL_PAGERDUTY_ROUTING_KEY",)),
    "OpsGenie": ("CERTCTL_OPSGENIE_", ("CERTCTL_OPSGENIE_API_KEY",)),
}
LOGIN = ("CERTCTL_SMTP_USERNAME", "CERTCTL_SMTP_PASSWORD")


def half_configured(environment: Mapping[str, str]) -> list[str]:
    """The channels that are off although somebody set a part of them up, a sentence each."""
    given = sorted(name for name, value in environment.items() if value.strip())
    found = []
    for channel, (prefix, needed) in NEEDED.items():
        mine = [name for name in given if name.startswith(prefix)]
        missing = [name for name in needed if name not in given]
        if mine and missing:
            found.append(f"the channel {channel} is off: {missing[0]} is not set, but {', '.join(mine)}")
    missing = [name for name in LOGIN if name not in given]
    if len(missing) == 1:
        found.append(f"mails are sent without logging in: {missing[0]} is not set, its counterpart is")
    return found


def secret_key(text: str) -> str:
    """A key to sign sessions with; there is no default outside debugging."""
    if not text:
        raise ValidationError(
            "Not set: give it 50 or more random characters, such as "
            "`python -c 'import secrets; print(secrets.token_urlsafe(50))'` prints."
        )
    return text


def duration(text: str) -> timedelta:
    """`90s`, `2m`, `1h`, and what certctl's own language writes: `1m30s`, `1.5h`."""
    try:
        span = durations.parse(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if span > LONGEST:
        raise ValidationError("A duration must be at most a year.")
    return span


def http_url(text: str) -> str:
    """An absolute http or https URL; "" stays "", for "not set"."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", text):
        raise ValidationError("Not an http or https URL.")
    return text


def words(text: str) -> list[str]:
    """The parts of a comma-separated list, blanks around them and empty ones dropped."""
    return [word for part in text.split(",") if (word := part.strip())]


def networks(text: str) -> list[str]:
    """A comma-separated list of networks in CIDR notation, as canonical strings."""
    try:
        return [str(ipaddress.ip_network(word, strict=False)) for word in words(text)]
    except ValueError:
        raise ValidationError("Not a comma-separated list of networks such as 10.0.0.0/8.") from None


def folder(text: str) -> list[str]:
    """The one folder that is named, or none."""
    if text and not Path(text).is_dir():
        raise ValidationError("Not a folder.")
    return [text] if text else []


def texts(text: str) -> dict[str, str]:
    """A JSON object of strings; "" is an empty one."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValidationError('Not a JSON object of strings, such as {"Slack": "Email:oncall@example.com"}.')
    return found


def database(url: str) -> Database:
    """What DATABASES["default"] holds for a `postgresql://` or `sqlite://` URL."""
    try:
        parsed: Database = {**dj_database_url.parse(url)}
    except ValueError:
        parsed = {}
    engine = parsed.get("ENGINE", "").rpartition(".")[2]
    if engine == "postgresql":
        return _postgresql(parsed)
    if engine == "sqlite3":
        return _sqlite(parsed)
    raise ValidationError(
        "Not a database URL: write postgresql://USER:PASSWORD@HOST:5432/NAME or sqlite:////path/to/file, "
        "with special characters percent-encoded."
    )


# A server that vanished without a word (its machine, a failover, the network between) is given up after a
# minute; the operating system would keep its connection for a quarter of an hour, or two hours when idle.
GIVE_UP = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def _postgresql(parsed: Database) -> Database:
    options = {**GIVE_UP, **parsed.get("OPTIONS", {})}
    if not parsed["NAME"] and "service" not in options:
        raise ValidationError(
            "The URL names no database; special characters in a password must be percent-encoded."
        )
    return {**parsed, "OPTIONS": options}


def _sqlite(parsed: Database) -> Database:
    if parsed.get("HOST"):
        raise ValidationError("Write sqlite:/// before a relative path and sqlite://// before a full one.")
    options = {
        # Writers queue for the lock at BEGIN instead of failing when a reader turns into a writer.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;",
        **parsed.get("OPTIONS", {}),
    }
    return {**parsed, "OPTIONS": options}


def pooled(config: Database, size: int) -> Database:
    """`config` with a pool of at most `size` connections; as it was for size 0 and for SQLite.

    For processes with many threads (a web server): Django otherwise connects once per request.
    """
    if not size or not config["ENGINE"].endswith("postgresql"):
        return config
    pool = {"min_size": 1, "max_size": size, "timeout": 10}
    return {**config, "CONN_HEALTH_CHECKS": True, "OPTIONS": {**config["OPTIONS"], "pool": pool}}
