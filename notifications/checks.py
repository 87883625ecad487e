"""What `manage.py check` refuses or warns of, each with an id and a way out.

E001  the settings dict            W001  a retired Teams connector
E002  a channel's options          W002  OpsGenie's API, which ends on 2027-04-05
E003  a notifier that is no class  W003  undelivered rows on a channel without a notifier (--database)
                                   W004  a webhook without a secret: receivers cannot tell who sent it
                                   W005  an escalation from a channel that is not configured
                                   W006  a database that is not UTF-8 (--database)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError
from django.utils.module_loading import import_string

from . import conf
from .database import alias, encoding_fault
from .notifiers.base import COMMON_OPTIONS, Notifier
from .notifiers.opsgenie import SUCCESSOR, OpsGenieNotifier
from .notifiers.teams import TeamsNotifier
from .notifiers.webhook import WebhookNotifier

CHANNELS_HINT = "See docs/channels.md."
RETIRED_TEAMS = ("webhook.office.com", "outlook.office.com", "outlook.office365.com")
OPSGENIE_HOSTS = ("opsgenie.com",)


@register()
def check_settings(**_: Any) -> list[CheckMessage]:
    given = getattr(settings, "NOTIFICATIONS", {})
    return [
        Error(fault, hint="See docs/operating.md, Settings.", id="notifications.E001")
        for fault in conf.faults(given)
    ]


@register()
def check_channels(**_: Any) -> list[CheckMessage]:
    """Half a channel is worse than none: its rows would die one by one instead of today's deployment."""
    given = getattr(settings, "NOTIFICATIONS", {})
    if conf.faults(given):
        return []  # check_settings says so
    channels = given.get("CHANNELS", {})
    return [message for name, options in channels.items() for message in _channel(name, options)]


@register()
def check_escalation(**_: Any) -> list[CheckMessage]:
    """Most likely a slip of the pen, which would show when nobody is called."""
    given = getattr(settings, "NOTIFICATIONS", {})
    if conf.faults(given):
        return []  # check_settings says so
    known = conf.made(given)
    return [
        Warning(
            f"NOTIFICATIONS['ESCALATION'] has a fallback for {channel!r}, which is not configured",
            hint=f"The configured channels are {', '.join(known.channels)}.",
            id="notifications.W005",
        )
        for channel in given.get("ESCALATION", {})
        if known.channel(channel) is None
    ]


@register(Tags.database)
def check_queue(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Rows that would be finished without being delivered. Only with `--database`, as Django asks."""
    from .models import NotificationEvent
    from .models.fields import UNDELIVERED

    if alias() not in (databases or ()) or conf.faults(getattr(settings, "NOTIFICATIONS", {})):
        return []
    known = conf.current()
    rows = NotificationEvent.objects.order_by().filter(status__in=UNDELIVERED)
    try:
        channels = sorted(rows.values_list("channel", flat=True).distinct())
    except DatabaseError:
        return []  # not migrated yet, or not reachable: other checks and commands say so
    return [_orphaned(channel, known) for channel in channels if known.channel(channel) is None]


@register(Tags.database)
def check_encoding(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Only with `--database`, as Django asks."""
    try:
        fault = encoding_fault() if alias() in (databases or ()) else None
    except DatabaseError:
        return []  # not reachable: other checks and commands say so
    hint = "Alerts and errors in other scripts cannot be kept there: make the database with ENCODING 'UTF8'."
    return [Warning(fault, hint=hint, id="notifications.W006")] if fault else []


def _orphaned(channel: str, known: conf.Conf) -> CheckMessage:
    verdict = {"sent": "marked as sent although nothing is delivered", "dead": "dead-lettered"}
    return Warning(
        f"undelivered notifications wait for the channel {channel!r}, which has no notifier: "
        f"they will be {verdict[known.missing_notifier]}",
        hint=f"Configure {channel!r} in NOTIFICATIONS['CHANNELS'], or set MISSING_NOTIFIER to 'dead'. "
        + CHANNELS_HINT,
        id="notifications.W003",
    )


def _channel(name: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    where = f"NOTIFICATIONS['CHANNELS'][{name!r}]"
    try:
        notifier = import_string(options["NOTIFIER"])
    except (ImportError, AttributeError, TypeError) as error:
        yield Error(f"{where}: {error}", hint=CHANNELS_HINT, id="notifications.E003")
        return
    if not (isinstance(notifier, type) and issubclass(notifier, Notifier)):
        text = f"{where}: {options['NOTIFIER']} is not a subclass of notifications.notifiers.base.Notifier"
        yield Error(text, hint=CHANNELS_HINT, id="notifications.E003")
        return
    for fault in [*_unknown(notifier, options), *notifier.faults(options)]:
        yield Error(f"{where}: {fault}", hint=CHANNELS_HINT, id="notifications.E002")
    yield from _warnings(where, notifier, options)


def _unknown(notifier: type[Notifier], options: Mapping[str, Any]) -> Iterator[str]:
    if notifier.known is None:
        return
    known = notifier.known | COMMON_OPTIONS
    for option in options:
        if option not in known:
            yield f"there is no option {option!r}; the options are {', '.join(sorted(known))}"


def _warnings(where: str, notifier: type[Notifier], options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if issubclass(notifier, TeamsNotifier) and _on(options.get("URL"), RETIRED_TEAMS):
        yield Warning(
            f"{where}: URL is an Office 365 connector, which Microsoft retired",
            hint="In Teams add the workflow 'When a Teams webhook request is received' and set its URL.",
            id="notifications.W001",
        )
    base = options.get("BASE_URL") or "https://api.opsgenie.com"
    if issubclass(notifier, OpsGenieNotifier) and _on(base, OPSGENIE_HOSTS):
        yield Warning(
            f"{where}: OpsGenie's API ends on 2027-04-05",
            hint=f"Move to Jira Service Management and set BASE_URL to {SUCCESSOR} "
            "(CERTCTL_OPSGENIE_BASE_URL) with an API key from there; nothing else changes.",
            id="notifications.W002",
        )
    if issubclass(notifier, WebhookNotifier) and options.get("URL") and not options.get("SECRETS"):
        yield Warning(
            f"{where}: no SECRETS, so receivers cannot tell that a request is yours",
            hint="Set one (CERTCTL_WEBHOOK_SECRET): whsec_ and the base64 of 24 to 64 random bytes.",
            id="notifications.W004",
        )


def _on(url: object, domains: Sequence[str]) -> bool:
    """Whether the URL's host is one of the domains or within one."""
    try:
        host = (urlsplit(str(url or "")).hostname or "").rstrip(".")
    except ValueError:
        return False
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
