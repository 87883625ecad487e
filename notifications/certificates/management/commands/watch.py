"""The operator's command line for certificates: `watch VERB`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from notifications import durations
from notifications.certificates import schedule, shown, state, targets, told, watcher
from notifications.certificates.claims import claim_these
from notifications.certificates.models import Sighting, Watch
from notifications.database import database_now
from notifications.durations import minute, timestamp
from notifications.management import arguments
from notifications.management.cli import Progress, add_verbs, count, page_size, stop_on_signals, terminal
from notifications.management.display import Screen, as_json, printable
from notifications.notifiers.usable import Doubts
from notifications.reporting.command_line import one_line_errors
from notifications.text import cut

VERBS = {
    "add": "watch targets, or change how they are watched",
    "list": "what is watched, what ends first in front",
    "show": "one target: what was seen there, and what was raised of it",
    "check": "look now: at what is due, or at the targets that are named",
    "remove": "watch targets no more",
    "apply": "make what is watched be what a file says, and nothing else",
}
STDIN = "-"
MOST_LINES = 100_000


def several(given: str) -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in arguments.text(given).split(",") if part.strip()]


def seconds(given: str) -> float:
    span = arguments.duration(given)
    if not timedelta(milliseconds=100) <= span <= timedelta(minutes=5):
        raise argparse.ArgumentTypeError("a server may take from 100ms to 5m")
    return span.total_seconds()


class Command(BaseCommand):
    help = "Watch certificates: servers and files whose certificates raise alerts by themselves."
    requires_system_checks = []

    # Arguments

    def add_arguments(self, parser: CommandParser) -> None:
        add_verbs(parser, VERBS, self)

    def add_add_arguments(self, verb: CommandParser) -> None:
        self._take_targets(verb, "+")
        verb.add_argument(
            "--notify",
            action="append",
            default=[],
            type=arguments.text,
            metavar="CHANNEL:RECIPIENT",
            help="whom to tell, such as Slack:#pki; may be said several times",
        )
        verb.add_argument(
            "--at",
            type=several,
            default=[],
            metavar="33%,15%,5%,0",
            help="when: shares of the lifetime that are left, or times (30d,7d)",
        )
        verb.add_argument(
            "--every", type=arguments.duration, default=schedule.INTERVAL, help="how often (default: 12h)"
        )
        verb.add_argument("--host", type=arguments.text, default="", help="only this machine looks")
        verb.add_argument("--password-file", type=arguments.text, default="", help="for PKCS#12")
        verb.add_argument(
            "--ca-file", type=arguments.text, default="", help="roots to trust besides the system's"
        )
        verb.add_argument(
            "--served-by",
            action="append",
            default=[],
            type=arguments.text,
            metavar="HOST:PORT",
            help="of files: an endpoint that serves them; may be said several times",
        )
        verb.add_argument("--on-change", action="store_true", help="tell of another issuer or key")
        verb.add_argument("--on-renewal", action="store_true", help="tell of a renewal's success")
        verb.add_argument("--dry-run", action="store_true", help="say what it would do; change nothing")

    def add_list_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("--limit", type=page_size, default=50, help="at most this many (default: 50)")

    def add_show_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("target", metavar="TARGET", type=arguments.text)

    def add_check_arguments(self, verb: CommandParser) -> None:
        self._take_targets(verb, "*")
        verb.add_argument("--all", action="store_true", help="every target, due or not")
        verb.add_argument("--concurrency", type=count, default=watcher.AT_ONCE, help="at once (default: 100)")
        verb.add_argument(
            "--timeout", type=seconds, default="10s", help="that one server may take (default: 10s)"
        )
        verb.add_argument(
            "--fail-on-problem", action="store_true", help="exit code 2 where something could not be read"
        )

    def add_remove_arguments(self, verb: CommandParser) -> None:
        self._take_targets(verb, "+")
        verb.add_argument("--dry-run", action="store_true", help="say what it would do; change nothing")

    def add_apply_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("file", metavar="FILE", type=arguments.text, help="TOML; - reads standard input")
        verb.add_argument("--dry-run", action="store_true", help="say what it would do; change nothing")

    def _take_targets(self, verb: CommandParser, number: str) -> None:
        said = "host[:port], protocol://host, or a path; - reads standard input, one a line"
        verb.add_argument("targets", nargs=number, metavar="TARGET", type=arguments.text, help=said)

    # Verbs

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with one_line_errors():
                getattr(self, f"do_{options['verb']}")(options)
                self.stdout.flush()
        except KeyboardInterrupt:
            raise CommandError("interrupted; what was done before is done", returncode=130) from None

    def do_add(self, options: dict[str, Any]) -> None:
        how = {name: options[name] for name in state.OPTIONS if name in options}
        how["interval"] = options["every"]
        wanted, refused = dict[str, Watch](), list[str]()
        for text in self._named(options["targets"]):
            try:
                watch = state.made(text, **how)
            except ValidationError as error:
                if set(error.message_dict) != {"target"}:
                    raise CommandError(_as_options(state.faults(error)), returncode=2) from error
                refused.append(f"{printable(text)[:100]}: {' '.join(error.message_dict['target'])}")
            else:
                wanted[watch.target] = watch
        self._carry_out(state.planned(wanted.values(), whole=False), options, refused)
        self._warn(wanted.values())
        if refused:
            raise CommandError("; ".join(refused), returncode=2)

    def do_apply(self, options: dict[str, Any]) -> None:
        try:
            wanted = state.read(_read(options["file"]))
        except state.BadState as error:
            raise CommandError(printable(error)) from error
        self._carry_out(state.planned(wanted, whole=True), options)
        self._warn(wanted, whole=True)

    def do_remove(self, options: dict[str, Any]) -> None:
        found, unknown = self._known(options["targets"])
        plan = state.Plan([state.Change("removed", watch) for watch in found])
        self._carry_out(plan, options, unknown)
        if unknown:
            raise CommandError("; ".join(unknown))

    def do_list(self, options: dict[str, Any]) -> None:
        limit, now = options["limit"], database_now()
        found = list(shown.soonest_first(Watch.objects.all())[: limit + 1])
        rows, there = found[:limit], shown.current(found[:limit])
        if options["json"]:
            self._say_json([shown.watch_fields(watch, there.get(watch.pk, ()), now) for watch in rows])
            return
        if not rows:
            self.stdout.write("nothing is watched")
            return
        screen = self._screen(options)
        heads = ("TARGET", "CERTIFICATE", "LEFT", "STATE", "LOOKED", "NOTIFY")
        screen.table(heads, [_row(watch, there.get(watch.pk, ()), now) for watch in rows])
        if len(found) > limit:
            screen.line(f"The first {limit}; there are more (--limit).", "dim")

    def do_show(self, options: dict[str, Any]) -> None:
        found, unknown = self._known([options["target"]])
        if unknown:
            raise CommandError(unknown[0])
        [watch] = found
        now = database_now()
        rows = list(watch.sightings.select_related("certificate")[: shown.MOST_SIGHTINGS])
        raised = told.of({row.certificate_id for row in rows}, watch)
        there = [row for row in rows if row.current]
        if options["json"]:
            fields = shown.watch_fields(watch, there, now)
            former = [shown.sighting_fields(row) for row in rows if not row.current]
            self._say_json({**fields, "former": former, "raised": [one.fields() for one in raised]})
        else:
            self._show(self._screen(options), watch, rows, raised)
        self._warn_of(shown.unwatched([watch]))

    def _show(self, screen: Screen, watch: Watch, rows: list[Sighting], raised: list[told.Told]) -> None:
        now = database_now()
        screen.line(watch.target, "bold")
        screen.line(f"  {shown.state(watch, [row for row in rows if row.current], now)}")
        looked = f"looked at {timestamp(watch.checked_at)}, " if watch.checked_at else ""
        screen.line(f"  {looked}next at {timestamp(watch.next_check_at)}")
        screen.line(
            f"  at {', '.join(shown.thresholds_of(watch))}; tells {', '.join(watch.tells) or 'nobody'}"
        )
        if watch.endpoints:
            screen.line(f"  served by {', '.join(watch.endpoints)}")
        for row in rows:
            gone = "" if row.current else f", gone since {minute(row.last_seen)}"
            screen.line(f"{row.certificate.title}: {shown.left(row.certificate, now)}{gone}", "bold")
            screen.line(f"  valid until {minute(row.certificate.not_after)}, serial {row.certificate.serial}")
            screen.line(f"  issuer {row.certificate.issuer}, {row.certificate.algorithm}")
            screen.line(f"  seen at {row.place} since {minute(row.first_seen)}")
        for one in raised:
            alert, came = one.row, one.delivered_at
            screen.line(
                f"{minute(alert.at)}  {one.what}, to {alert.recipient} on {alert.channel}: {one.status}"
                f"{f' {minute(came)}' if came else ''} ({alert.event})"
            )

    def do_check(self, options: dict[str, Any]) -> None:
        began, unknown = time.monotonic(), list[str]()
        how = {"at_once": options["concurrency"], "seconds": options["timeout"]}
        if options["targets"] or options["all"]:
            found, unknown = self._known(options["targets"])
            found = list(Watch.objects.all()) if options["all"] else found
            ids = [watch.pk for watch in found]
            done = watcher.check(claim_these(ids, database_now()), **how)
            self._tell_problems(Watch.objects.filter(pk__in=ids), options)
        else:
            done = self._check_due(how)
            self._tell_problems(Watch.objects.all(), options)
        spent = time.monotonic() - began
        if options["json"]:
            self._say_json({**done.as_dict(), "notifications": done.raised, "seconds": round(spent, 3)})
        else:
            self.stdout.write(f"{done} in {durations.duration(spent)}")
        if unknown:
            raise CommandError("; ".join(unknown))
        if done.problems and options["fail_on_problem"]:
            raise CommandError(f"{done.problems} could not be read", returncode=2)

    def _check_due(self, how: dict[str, Any]) -> watcher.Round:
        now = database_now()
        total = Watch.objects.filter(next_check_at__lte=now).count() if terminal().isatty() else 0
        with stop_on_signals() as stop, Progress(terminal(), "look", total) as bar:
            return watcher.check_due(stop=stop, progress=lambda done: bar.update(done.watches), **how)

    def _tell_problems(self, watches: QuerySet[Watch], options: dict[str, Any]) -> None:
        if options["json"]:
            return
        for watch in watches.exclude(problem="").order_by("target")[:MOST_LINES]:
            self.stderr.write(f"{printable(watch.target)}: {printable(watch.problem)}")

    # What the verbs share

    def _named(self, given: Iterable[str]) -> list[str]:
        """The targets; on standard input one a line, without blank ones and what a # begins."""
        found = list[str]()
        for text in given:
            lines = sys.stdin.read(state.MOST_BYTES).splitlines() if text == STDIN else [text]
            found += [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not found:
            raise CommandError("no target is named", returncode=2)
        return found[:MOST_LINES]

    def _known(self, given: list[str]) -> tuple[list[Watch], list[str]]:
        """(those that are watched, why others are not)."""
        wanted, unknown = dict[str, None](), list[str]()
        for text in self._named(given) if given else []:
            try:
                wanted[str(targets.parse(text))] = None
            except targets.BadTarget as error:
                unknown.append(f"{printable(text)[:100]}: {error}")
        rows = {watch.target: watch for watch in Watch.objects.filter(target__in=list(wanted))}
        unknown += [f"{printable(text)} is not watched" for text in wanted if text not in rows]
        return [rows[text] for text in wanted if text in rows], unknown

    def _carry_out(self, plan: state.Plan, options: dict[str, Any], refused: Iterable[str] = ()) -> None:
        if not options["dry_run"]:
            state.carry_out(plan)
        if options["json"]:
            done = {kind: [watch.target for watch in plan.of(kind)] for kind in plan.counts()}
            refused = list(refused)
            self._say_json({**done, "refused": refused, "dry_run": options["dry_run"]})
            return
        for change in plan.changes:
            if change.kind != "same":
                what = f": {', '.join(change.what)}" if change.what else ""
                self.stdout.write(f"{change.kind} {printable(change.watch.target)}{what}")
        self.stdout.write(f"{plan}; nothing was changed" if options["dry_run"] else str(plan))

    def _warn(self, watches: Iterable[Watch], *, whole: bool = False) -> None:
        """What would keep an alert from being raised or delivered, each once.

        whole  nothing else is watched
        """
        watches = list(watches)
        addressees = {to: None for watch in watches for to in watch.addressees}
        doubts = Doubts()
        found = [doubt for to in addressees for doubt in doubts.about(*to)]
        if any(not watch.tells for watch in watches):
            found.append("nobody is told of what is seen: see --notify")
        self._warn_of(*found, shown.unwatched(watches, whole=whole))

    def _warn_of(self, *doubts: str) -> None:
        for doubt in dict.fromkeys(filter(None, doubts)):
            self.stderr.write(f"warning: {printable(doubt)}")

    def _say_json(self, value: Any) -> None:
        self.stdout.write(as_json(value))

    def _screen(self, options: dict[str, Any]) -> Screen:
        color = False if options["no_color"] else True if options["force_color"] else None
        return Screen(self.stdout, color=color)


def _row(watch: Watch, sightings: Any, now: Any) -> tuple[str, ...]:
    first = sightings[0].certificate if sightings else None
    more = f" and {len(sightings) - 1} more" if len(sightings) > 1 else ""
    return (
        watch.target,
        f"{first.title}{more}" if first else "",
        shown.left(first, now) if first else "",
        shown.state(watch, sightings, now),
        minute(watch.checked_at) if watch.checked_at else "",
        ", ".join(watch.tells),
    )


def _as_options(text: str) -> str:
    return f"--{text.replace('_', '-')}"


def _read(name: str) -> str:
    """Raises BadState, which names the file, for what is no text, or cannot be read."""
    shown = "standard input" if name == STDIN else cut(printable(name), 200)
    try:
        if name == STDIN:
            return sys.stdin.read(state.MOST_BYTES)
        path = Path(name)
        if not path.exists() or path.is_dir():
            raise state.BadState(f"{shown}: there is no such file")
        with path.open("rb") as file:
            data = file.read(state.MOST_BYTES + 1)
        if len(data) > state.MOST_BYTES:
            raise state.BadState(f"{shown}: the file is longer than 16 MiB")
        return data.decode("utf-8-sig")
    except UnicodeError as error:
        raise state.BadState(f"{shown}: the file is not UTF-8") from error
    except OSError as error:
        raise state.BadState(f"{shown}: the file cannot be read: {error.strerror}") from error
