"""Holds from a shell: what waits and why, and an operator's pauses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from notifications import conf
from notifications.database import database_now
from notifications.endpoints import holds
from notifications.models import Hold

from . import arguments
from .display import Screen, as_json

LISTED = 100
COUNTED = 10_000


def add_pause_arguments(verb: CommandParser) -> None:
    verb.add_argument("channel", metavar="CHANNEL", type=arguments.text, help="without regard to case")
    verb.add_argument(
        "recipient", metavar="RECIPIENT", nargs="?", default="", type=arguments.text, help="default: all"
    )
    verb.add_argument(
        "--prefix", action="store_true", help="all recipients that begin with RECIPIENT: a host"
    )
    verb.add_argument(
        "--for",
        dest="span",
        metavar="TIME",
        type=arguments.duration,
        default=timedelta(hours=1),
        help="30m, 1h (default: 1h), at most HOLD_LIMIT",
    )
    verb.add_argument("--reason", type=arguments.text, default="", metavar="TEXT", help="why, for the record")


def show(screen: Screen, *, as_one_line: bool) -> None:
    now = database_now()
    found = [described(hold, now) for hold in Hold.objects.order_by("endpoint", "pk")[:LISTED]]
    if as_one_line:
        return screen.plain(as_json(found))
    if not found:
        return screen.plain("every endpoint is open")
    names = ("number", "scope", "state", "until", "waiting", "why")
    rows = [tuple("" if hold[name] is None else hold[name] for name in names) for hold in found]
    screen.table(tuple(name.upper() for name in names), rows)


def described(hold: Hold, now: datetime) -> dict[str, Any]:
    state = "recovering" if hold.reopened_at else "paused" if hold.reason == holds.PAUSED else "held"
    waiting = holds.waiting(hold, COUNTED)
    why = ": ".join(part for part in (f"by {hold.by}" if hold.by else hold.reason, hold.error) if part)
    return {
        "number": hold.pk,
        "endpoint": hold.endpoint,
        "scope": holds.scope(hold),
        "state": state,
        "since": hold.since,
        "until": hold.until,
        "waiting": f"{COUNTED}+" if waiting > COUNTED else waiting,
        "why": why,
    }


def pause(screen: Screen, options: dict[str, Any], *, by: str) -> None:
    settings = conf.current()
    channel = settings.channel(options["channel"])
    if channel is None:
        known = ", ".join(settings.channels) or "none"
        raise CommandError(f"the channel {options['channel']} is not configured; configured: {known}")
    if options["prefix"] and not options["recipient"]:
        raise CommandError("--prefix needs a RECIPIENT", returncode=2)
    try:
        hold = holds.pause(
            channel,
            options["recipient"],
            exact=not options["prefix"],
            span=options["span"],
            limit=settings.hold_limit,
            by=by,
            why=options["reason"],
        )
    except ValueError as error:
        raise CommandError(str(error), returncode=2) from error
    if options["json"]:
        screen.plain(as_json(described(hold, database_now())))
    else:
        screen.plain(f"{holds.scope(hold)} paused until {hold.until:%Y-%m-%d %H:%M:%S %Z} (number {hold.pk})")


def lift(screen: Screen, options: dict[str, Any], *, by: str) -> None:
    hold = Hold.objects.filter(pk=options["number"]).first()
    if hold is None or not holds.lift(hold, by=by):
        raise CommandError(f"there is no hold {options['number']}; it may have ended")
    if options["json"]:
        screen.plain(as_json({"lifted": holds.scope(hold)}))
    else:
        screen.plain(f"{holds.scope(hold)} lifted")
