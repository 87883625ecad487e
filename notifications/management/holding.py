"""Holds from a shell: what waits and why, and an operator's pauses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from notifications import conf
from notifications.database import database_now
from notifications.endpoints import holds
from notifications.models import Hold
from notifications.operations import pausing
from notifications.reporting import held
from notifications.reporting.channels import settings

from . import arguments
from .cli import configured
from .display import Screen, as_json, printable

LISTED = 100


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
        dest="length",
        metavar="TIME",
        type=arguments.duration,
        default=timedelta(hours=1),
        help="30m, 1h (default: 1h), at most HOLD_LIMIT",
    )
    verb.add_argument("--reason", type=arguments.text, default="", metavar="TEXT", help="why, for the record")


def show(screen: Screen, *, for_programs: bool) -> None:
    now = database_now()
    found = list(held.in_force(now)[:LISTED])
    if for_programs:
        return screen.plain(as_json([described(hold, now) for hold in found]))
    if not found:
        return screen.plain(held.ALL_OPEN)
    rows = []
    for hold in found:
        said = held.in_words(hold, now, settings().hold_limit)
        rows.append((hold.pk, said.scope, said.state, said.until, held.waiting(hold), said.why))
    screen.table(("NUMBER", "SCOPE", "STATE", "UNTIL", "WAITING", "WHY"), rows)


def described(hold: Hold, now: datetime) -> dict[str, Any]:
    """For programs."""
    said = held.in_words(hold, now, settings().hold_limit)
    return {
        "number": hold.pk,
        "endpoint": hold.endpoint,
        "scope": said.scope,
        "state": said.state,
        "since": hold.since,
        "until": hold.until,
        "waiting": held.waiting(hold),
        "why": said.why,
    }


def pause(screen: Screen, options: dict[str, Any], *, by: str) -> None:
    current = conf.current()
    channel = configured(current, options["channel"])
    if options["prefix"] and not options["recipient"]:
        raise CommandError("--prefix needs a RECIPIENT", returncode=2)
    try:
        meant = pausing.covered(channel, options["recipient"], exact=not options["prefix"])
        hold = holds.pause(
            channel,
            meant.recipient,
            exact=meant.exact,
            length=options["length"],
            limit=current.hold_limit,
            by=by,
            why=options["reason"],
        )
    except ValueError as error:
        raise CommandError(str(error), returncode=2) from error
    if options["json"]:
        screen.plain(as_json(described(hold, database_now())))
    else:
        screen.plain(printable(f"{held.paused(hold)} (number {hold.pk}). {held.covers(meant)}"))


def lift(screen: Screen, options: dict[str, Any], *, by: str) -> None:
    hold = Hold.objects.filter(pk=options["number"]).first()
    if hold is None or not holds.lift(hold, by=by):
        raise CommandError(f"there is no hold {options['number']}; it may have ended")
    if options["json"]:
        screen.plain(as_json({"lifted": holds.scope(hold)}))
    else:
        screen.plain(printable(held.lifted(hold)))
