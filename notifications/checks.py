"""What `manage.py check` refuses or warns of, each with an id and a way out.

E001  the settings dict, USE_TZ    W001  a retired Teams connector
E002  a channel's options          W002  OpsGenie's API, which ends on 2027-04-05
E003  a notifier that is no class  W003  undelivered rows on a channel without a notifier (--database)
E004  a task engine without ours   W004  a webhook without a secret: receivers cannot tell who sent it
E005  two packages of our name     W005  an escalation from a channel that is not configured
                                   W006  a notifier that declares its options in the old way
                                   W007  a database that is not UTF-8 (--database)
                                   W008  rows that were lately sent, but not delivered (--database)
                                   W009  BESIDE where certctl is not (--database)
                                   W010  a grace that certctl's own sending can outlast (--database)
                                   W011  a database without the guard that BESIDE relies on (--database)
                                   W012  a site's own template that fails: the plain words go out
                                   W013  a mail server's password that goes over the network in clear
                                   W014  a channel's TLS file that cannot be used, or what has no effect

W001, W002, W004 and W013 are the channels' own: see `warnings` in their files.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import packages_distributions
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.models import Count
from django.utils import timezone

from . import conf
from .database import alias, encoding_fault
from .delivery import enqueue_of
from .exceptions import TransientError
from .models import NotificationEvent
from .models.fields import UNDELIVERED
from .notifiers.base import Notifier
from .notifiers.loading import load, notifier_class
from .notifiers.tls import TlsFiles
from .queue import beside

BESIDE_HINT = "See docs/adopting.md, Two ways to live together."
CHANNELS_HINT = "See docs/channels.md."
WAY_HINT = "See docs/channels.md, In a company's network."
SITE = "docs/python.md, A site's settings"
DISTRIBUTION = "certctl-notifications"
LATELY = timedelta(days=7)
MOST_LATELY = 10_000  # of the newest sent notifications with an error
OLD_DECLARATIONS = ("known", "required")


@register()
def check_settings(**_: Any) -> list[CheckMessage]:
    given = getattr(settings, "NOTIFICATIONS", {})
    return [
        Error(fault, hint=f"See docs/operating.md, Settings, and {SITE}.", id="notifications.E001")
        for fault in conf.faults(given)
    ]


@register()
def check_task_engine(**_: Any) -> list[CheckMessage]:
    given = getattr(settings, "NOTIFICATIONS", {})
    if conf.faults(given) or conf.made(given).dispatch == "inline":
        return []
    try:
        enqueue_of(conf.made(given).dispatch)
    except ImproperlyConfigured as error:
        return [Error(str(error), hint=f"See {SITE}.", id="notifications.E004")]
    return []


@register()
def check_package(**_: Any) -> list[CheckMessage]:
    """Of two packages of one name each has overwritten files of the other."""
    others = sorted(set(packages_distributions().get("notifications", ())) - {DISTRIBUTION})
    hint = f"One environment can have one of them. Uninstall both, then install the one you need: {SITE}."
    return [
        Error(
            f"the package `notifications` is also that of {other}: either has overwritten files of the other",
            hint=hint,
            id="notifications.E005",
        )
        for other in others
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
    if alias() not in (databases or ()) or conf.faults(getattr(settings, "NOTIFICATIONS", {})):
        return []
    known = conf.current()
    rows = NotificationEvent.objects.order_by()
    lately = rows.filter(sent_at__gte=timezone.now() - LATELY).not_delivered(among=MOST_LATELY)
    try:
        channels = sorted(rows.filter(status__in=UNDELIVERED).values_list("channel", flat=True).distinct())
        lost = sorted(lately.values_list("channel").annotate(Count("pk")))
    except DatabaseError:
        return []  # not migrated yet, or not reachable: other checks and commands say so
    waiting = [_orphaned(channel, known) for channel in channels if known.channel(channel) is None]
    return [*waiting, *(_not_delivered(channel, count) for channel, count in lost)]


@register(Tags.database)
def check_encoding(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Only with `--database`, as Django asks."""
    try:
        fault = encoding_fault() if alias() in (databases or ()) else None
    except DatabaseError:
        return []  # not reachable: other checks and commands say so
    hint = "Alerts and errors in other scripts cannot be kept there: make the database with ENCODING 'UTF8'."
    return [Warning(fault, hint=hint, id="notifications.W007")] if fault else []


@register(Tags.database)
def check_beside(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Only with `--database`, as Django asks."""
    if alias() not in (databases or ()) or conf.faults(getattr(settings, "NOTIFICATIONS", {})):
        return []
    known = conf.current()
    try:
        mode, found = beside.terms(known).mode, beside.found()
    except DatabaseError:
        return []  # not migrated yet, or not reachable: other checks and commands say so
    return [] if mode == beside.OFF else list(_beside(mode, known, found))


def _beside(mode: str, known: conf.Conf, found: beside.Found) -> Iterator[CheckMessage]:
    if not found.certctl:
        yield Warning(
            f"BESIDE is {mode!r}, and certctl is not in this database: there is no managed_certificates",
            hint="Leave BESIDE out: it is then 'rescue' where certctl is, else 'off'. " + BESIDE_HINT,
            id="notifications.W009",
        )
    if mode == beside.RESCUE and known.beside_grace < beside.LONGEST_SENDING:
        yield Warning(
            f"certctl may still be sending when BESIDE_GRACE ({known.beside_grace}) is over: then both send",
            hint=f"Give it {beside.LONGEST_SENDING} or more. " + BESIDE_HINT,
            id="notifications.W010",
        )
    if not found.guarded:
        yield Warning(
            f"BESIDE is {mode!r}, and nothing in the database keeps another program from marking as sent what"
            " nobody has delivered",
            hint=f"On PostgreSQL the trigger {beside.GUARD} does: run `migrate`, or enable it. "
            + BESIDE_HINT,
            id="notifications.W011",
        )


def _orphaned(channel: str, known: conf.Conf) -> CheckMessage:
    verdict = {"sent": "marked as sent although nothing is delivered", "dead": "dead-lettered"}
    return Warning(
        f"undelivered notifications wait for the channel {channel!r}, which has no notifier: "
        f"after ten minutes they will be {verdict[known.missing_notifier]}",
        hint=f"Configure {channel!r} in NOTIFICATIONS['CHANNELS'], or set MISSING_NOTIFIER to 'dead'. "
        + CHANNELS_HINT,
        id="notifications.W003",
    )


def _not_delivered(channel: str, count: int) -> CheckMessage:
    alerts = "1 notification was" if count == 1 else f"{count} notifications were"
    return Warning(
        f"{alerts} not delivered in the last {LATELY.days} days: the channel {channel!r} had no notifier",
        hint=f"Configure {channel!r}, then requeue them: `notifications requeue --status not_delivered "
        f"--channel {shlex.quote(channel)}`. " + CHANNELS_HINT,
        id="notifications.W008",
    )


def _channel(name: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    where = f"NOTIFICATIONS['CHANNELS'][{name!r}]"
    try:
        notifier = notifier_class(options)
    except (ImportError, TypeError) as error:
        yield Error(f"{where}: {error}", hint=CHANNELS_HINT, id="notifications.E003")
        return
    for fault in notifier.faults(options):
        yield Error(f"{where}: {fault}", hint=CHANNELS_HINT, id="notifications.E002")
    for found in notifier.warnings(options):
        yield Warning(f"{where}: {found.msg}", hint=found.hint, id=found.id)
    for text in _without_effect(notifier, options):
        yield Warning(f"{where}: {text}", hint=WAY_HINT, id="notifications.W014")
    yield from _old_declarations(where, notifier)
    yield from _templates(where, name, options)


def _without_effect(notifier: type[Notifier], options: Mapping[str, Any]) -> Iterator[str]:
    """Of the way that a channel's messages take. Until it is mended they wait, or go out without it."""
    if files := TlsFiles.made_of(options):
        try:
            files.context()
        except TransientError as error:
            yield error.text
    if options.get("TLS_KEY") and not options.get("TLS_CERT"):
        yield "TLS_KEY has no effect: TLS_CERT is not set"
    if options.get("HEADERS") and getattr(notifier, "guarded", False) and not options.get("URL"):
        yield "HEADERS has no effect: it goes to URL and its host alone, and URL is not set"


def _templates(where: str, name: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Each is compiled and tried, for every type that certctl knows."""
    try:
        tried = load(name, options, timeout=1)
    except ImproperlyConfigured:
        return  # the faults above say why
    for path, fault in tried.try_templates().items():
        yield Warning(
            f"{where}: the template {path} fails, so the plain words go out: {fault}",
            hint="Correct it: docs/channels.md, Texts, says what it is given.",
            id="notifications.W012",
        )


def _old_declarations(where: str, notifier: type[Notifier]) -> Iterator[CheckMessage]:
    if any(hasattr(notifier, name) for name in OLD_DECLARATIONS):
        yield Warning(
            f"{where}: `known` and `required` of {notifier.__name__} are not read any more",
            hint="Declare them as `declared_options`: docs/channels.md, A channel of your own.",
            id="notifications.W006",
        )
