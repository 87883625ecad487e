"""What the operator's command line takes: types of arguments, and the filters that choose notifications."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from ssl import cert_time_to_seconds
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from notifications import durations
from notifications.models import Status
from notifications.operations import filters

FILTERS = (
    "channel",
    "type",
    "certificate",
    "recipient",
    "search",
    "error",
    "alike",
    "since",
    "until",
    "dead_since",
    "outage",
    "operation",
)


def text(given: str) -> str:
    """An argument that the database can hold: a shell may pass any bytes."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("the text is not valid Unicode") from None
    if "\x00" in given:
        raise argparse.ArgumentTypeError("the text has a NUL character in it")
    return given


def duration(given: str) -> timedelta:
    """How long: 30m, 1h."""
    try:
        return durations.parse(given)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def when(given: str) -> datetime:
    """A time: how long ago (2h, 7d), or a date with or without a time of day, UTC unless it says so."""
    try:
        return _when(given).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{given!r} is neither a duration (2h, 7d) nor a time (2026-11-24, 2026-11-24T08:00)"
        ) from None


def _when(given: str) -> datetime:
    day = parse_date(given)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else parse_datetime(given)
    if at is None:
        return timezone.now() - durations.parse(given)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def past(given: str) -> datetime:
    """A time before now."""
    at = when(given)
    if at > timezone.now():
        raise argparse.ArgumentTypeError(f"{given!r} is in the future")
    return at


def end(given: str) -> datetime:
    """When a certificate ends: a time, UTC unless it says so, or what `openssl x509 -enddate` prints."""
    try:
        return _end(given.removeprefix("notAfter="))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{given!r} is no time, such as 2026-12-24T10:00Z or 'Dec 24 10:00:00 2026 GMT'"
        ) from None


def _end(given: str) -> datetime:
    day = parse_date(given)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else parse_datetime(given)
    if at is None:
        return datetime.fromtimestamp(cert_time_to_seconds(given), UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def one_of(*choices: str) -> Any:
    """A comma-separated list of some of the choices."""

    def words(given: str) -> list[str]:
        found = [word.strip() for word in given.split(",") if word.strip()]
        if unknown := [word for word in found if word not in choices]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(choices)}")
        if not found:
            raise argparse.ArgumentTypeError(f"name one of {', '.join(choices)}")
        return found

    return words


def add_filters(parser: CommandParser, which: str) -> None:
    """The filters of operations.filters, as options. which: what they are about, for the help."""
    parser.add_argument("--channel", type=text, help=f"{which} on this channel, without regard to case")
    parser.add_argument("--type", type=text, help=f"{which} of this type")
    parser.add_argument("--certificate", type=text, metavar="ID", help=f"{which} about this certificate")
    parser.add_argument("--recipient", type=text, help=f"{which} to just this recipient")
    parser.add_argument(
        "--search", type=text, metavar="TEXT", help=f"{which} of this id or certificate, or with these words"
    )
    parser.add_argument("--error", type=text, metavar="TEXT", help=f"{which} whose last error contains TEXT")
    parser.add_argument(
        "--alike", type=text, metavar="ERROR", help=f"{which} whose last error is like this one, but for …"
    )
    for name, what in (("since", "raised since"), ("until", "raised until"), ("dead-since", "dead since")):
        said = f"{which} {what}: 2h, 7d, 2026-11-24"
        parser.add_argument(f"--{name}", type=when, metavar="WHEN", help=said)
    parser.add_argument("--outage", type=text, metavar="NUMBER", help=f"{which} that died of this outage")
    parser.add_argument(
        "--operation", type=text, metavar="NUMBER", help=f"{which} that this operation changed"
    )


def add_selection(parser: CommandParser, *statuses: str) -> None:
    """Which notifications a verb means: ids, or filters on those of a status, the first unless given."""
    choices = statuses or (Status.DEAD.value, filters.NOT_DELIVERED)
    parser.add_argument("ids", nargs="*", metavar="ID", type=text, help="which notifications")
    add_filters(parser, f"{choices[0]} ones")
    parser.add_argument(
        "--status",
        choices=choices,
        help=f"which ones the filters choose: the {choices[0]}, unless given",
    )
    parser.add_argument("--all", action="store_true", help="all of that status, within the other filters")
    parser.add_argument("--reason", type=text, default="", metavar="TEXT", help="why, for the record")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do; change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def check_selection(options: dict[str, Any]) -> None:
    """Refuse what names nothing, or two different things. Raises CommandError with exit code 2."""
    given = [f"--{name.replace('_', '-')}" for name in (*FILTERS, "all") if options[name]]
    if options["ids"] and (given or options["status"]):
        raise CommandError(f"name ids or filters, not both ({[*given, '--status'][0]})", returncode=2)
    if not options["ids"] and not given:
        raise CommandError("name ids, or a filter; --all means every dead notification", returncode=2)


def chosen_filters(options: dict[str, Any]) -> filters.Filters:
    """The filters among the options. Raises CommandError with exit code 2 for what one does not know."""
    try:
        return filters.parse(options, timezone.now())
    except filters.Meaningless as error:
        raise CommandError(f"--{error.name.replace('_', '-')}: {error}", returncode=2) from error
