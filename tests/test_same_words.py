"""One environment file for certctl and for us: the variables and values of the table in docs/adopting.md.

What certctl reads is from its internal/config/config.go and docs/reference (certctl-io/certctl, 2026-05).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest

from notifications.notifiers.shipped import SHIPPED
from notifications.notifiers.webhook import WebhookNotifier
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "adopting.md").read_text()
ROWS = re.findall(r"^\| `((?:CERTCTL|POSTGRES)_\w+)` \| ((?:`[^`]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
TABLE = {variable: re.findall("`([^`]+)`", values) for variable, values in ROWS}
# What certctl's server reads from its environment that has to do with notifications, logs or the database.
CERTCTLS = {
    "CERTCTL_DATABASE_URL",
    "CERTCTL_LOG_LEVEL",
    "CERTCTL_LOG_FORMAT",
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL",
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL",
    "POSTGRES_PASSWORD",
    *(f"CERTCTL_SMTP_{name}" for name in ("HOST", "PORT", "USERNAME", "PASSWORD", "FROM_ADDRESS", "USE_TLS")),
    *(f"CERTCTL_SLACK_{name}" for name in ("WEBHOOK_URL", "CHANNEL", "USERNAME")),
    "CERTCTL_TEAMS_WEBHOOK_URL",
    *(f"CERTCTL_PAGERDUTY_{name}" for name in ("ROUTING_KEY", "SEVERITY")),
    *(f"CERTCTL_OPSGENIE_{name}" for name in ("API_KEY", "PRIORITY")),
    *(f"CERTCTL_WEBHOOK_{name}" for name in ("URL", "SECRET")),
}
# As certctl's .env files have them, with all channels on.
SERVED = {
    "CERTCTL_SECRET_KEY": "x" * 60,
    "CERTCTL_DATABASE_URL": "postgres://certctl:pw@postgres:5432/certctl?sslmode=disable",
    "CERTCTL_SMTP_HOST": "smtp.gmail.com",
    "CERTCTL_SMTP_USERNAME": "admin@example.com",
    "CERTCTL_SMTP_PASSWORD": "app-password-123",
    "CERTCTL_SMTP_FROM_ADDRESS": "certctl@example.com",
    "CERTCTL_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/X",
    "CERTCTL_TEAMS_WEBHOOK_URL": "https://outlook.webhook.office.com/webhookb2/x",
    "CERTCTL_PAGERDUTY_ROUTING_KEY": "your-routing-key",
    "CERTCTL_OPSGENIE_API_KEY": "your-api-key",
    "CERTCTL_WEBHOOK_URL": "https://alerts.example.com/hook",
    "CERTCTL_WEBHOOK_SECRET": "correct horse, battery staple",
}
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
SECONDS = {"1m": 60, "30s": 30, "2m": 120, "1h30m": 5400, "1.5h": 5400, "90s": 90}
TRUE = {"true": True, "false": False, "1": True, "yes": True}

Settings = dict[str, Any]
Read = Callable[..., Settings]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The project's settings, in an environment of the given variables and no others of ours."""

    def settings(**variables: str) -> Settings:
        for name in os.environ:
            if name.startswith(("CERTCTL_", "POSTGRES_")) or name == "DATABASE_URL":
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        spec = find_spec("certctl.settings")
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return vars(module)

    return settings


def database(settings: Settings) -> tuple[Any, ...]:
    one = settings["DATABASES"]["default"]
    return tuple(one[name] for name in ("USER", "PASSWORD", "HOST", "NAME"))


def mail(settings: Settings, name: str) -> Any:
    """However this version of Django is told."""
    if "MAILERS" in settings:
        return settings["MAILERS"]["default"]["OPTIONS"][name]
    names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    return settings[f"EMAIL_{names.get(name, name.upper())}"]


def channels_option(channel: str, option: str, settings: Settings) -> Any:
    return settings["NOTIFICATIONS"]["CHANNELS"][channel][option]


# What is in the settings for a value, where it is not the value itself.
MEANT: dict[str, Callable[[str], Any]] = {
    "CERTCTL_LOG_LEVEL": LEVELS.__getitem__,
    "CERTCTL_LOG_FORMAT": {"json": "json", "text": "plain"}.__getitem__,
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": SECONDS.__getitem__,
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL": SECONDS.__getitem__,
    "CERTCTL_SMTP_PORT": int,
    "CERTCTL_SMTP_USE_TLS": TRUE.__getitem__,
    "CERTCTL_WEBHOOK_SECRET": lambda text: [text],
}
FOUND: dict[str, Callable[[Settings], Any]] = {
    "CERTCTL_LOG_LEVEL": lambda s: s["LOGGING"]["root"]["level"],
    "CERTCTL_LOG_FORMAT": lambda s: s["LOGGING"]["handlers"]["stderr"]["formatter"],
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": lambda s: s["NOTIFICATIONS"][
        "PROCESS_INTERVAL"
    ].total_seconds(),
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL": lambda s: s["NOTIFICATIONS"]["RETRY_INTERVAL"].total_seconds(),
    "CERTCTL_SMTP_HOST": lambda s: mail(s, "host"),
    "CERTCTL_SMTP_PORT": lambda s: mail(s, "port"),
    "CERTCTL_SMTP_USERNAME": lambda s: mail(s, "username"),
    "CERTCTL_SMTP_PASSWORD": lambda s: mail(s, "password"),
    "CERTCTL_SMTP_USE_TLS": lambda s: mail(s, "use_tls"),
    **{
        option.env: partial(channels_option, kind.title(), option.name)
        for kind in SHIPPED
        for option in kind.declared_options or ()
        if option.env in CERTCTLS
    },
}
DATABASES = {
    "postgres://certctl:pw@postgres:5432/certctl?sslmode=disable": ("certctl", "pw", "postgres", "certctl"),
    "postgres://certctl:$(POSTGRES_PASSWORD)@postgres:5432/certctl?sslmode=verify-full": (
        "certctl",
        "f5",
        "postgres",
        "certctl",
    ),
    "postgres://certctl:pw@/certctl?host=/cloudsql/p:r:i&sslmode=require": (
        "certctl",
        "pw",
        "/cloudsql/p:r:i",
        "certctl",
    ),
    "postgres://certctl@server:pw@server.example.com:5432/certctl": (
        "certctl@server",
        "pw",
        "server.example.com",
        "certctl",
    ),
}


def test_the_table_has_every_variable_that_both_read() -> None:
    assert set(TABLE) == CERTCTLS
    assert set(TABLE) - {"CERTCTL_DATABASE_URL", "POSTGRES_PASSWORD"} == set(FOUND)


@pytest.mark.parametrize(
    ("variable", "value"), [(name, value) for name in FOUND for value in TABLE.get(name, ())]
)
def test_what_certctl_names_is_taken_as_it_takes_it(variable: str, value: str, read: Read) -> None:
    settings = read(**SERVED | {variable: value})
    assert FOUND[variable](settings) == MEANT.get(variable, str)(value)
    assert settings["REFUSED"] == settings["HALF_CONFIGURED"] == []
    assert len(settings["NOTIFICATIONS"]["CHANNELS"]) == 6


@pytest.mark.parametrize("url", TABLE["CERTCTL_DATABASE_URL"])
def test_certctls_database_is_ours(url: str, read: Read) -> None:
    settings = read(**SERVED | {"CERTCTL_DATABASE_URL": url, "POSTGRES_PASSWORD": "f5"})
    assert database(settings) == DATABASES[url]
    options = settings["DATABASES"]["default"]["OPTIONS"]
    assert options.get("sslmode") == (url.partition("sslmode=")[2] or None)


def test_without_a_password_its_place_stays(read: Read) -> None:
    url = "postgres://certctl:$(POSTGRES_PASSWORD)@postgres:5432/certctl"
    assert database(read(**SERVED | {"CERTCTL_DATABASE_URL": url}))[1] == "$(POSTGRES_PASSWORD)"


def test_the_format_is_set_by_a_variable_of_ours(read: Read) -> None:
    options = read(**SERVED, CERTCTL_WEBHOOK_FORMAT="certctl")["NOTIFICATIONS"]["CHANNELS"]["Webhook"]
    assert (options["FORMAT"], WebhookNotifier.faults(options)) == ("certctl", [])


SPELLED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("a, b,c", ["a, b,c"]),
        (SPELLED, [SPELLED]),
        (f"{SPELLED}, hunter2,", [SPELLED, "hunter2"]),
        (f"hunter2,{SPELLED}", ["hunter2", SPELLED]),
    ],
)
def test_several_secrets_need_one_that_is_spelled(text: str, secrets: list[str], read: Read) -> None:
    options = read(**SERVED | {"CERTCTL_WEBHOOK_SECRET": text})["NOTIFICATIONS"]["CHANNELS"]["Webhook"]
    assert options["SECRETS"] == secrets
    assert WebhookNotifier.faults(options) == []
