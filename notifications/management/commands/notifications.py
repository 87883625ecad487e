"""The operator's command line: `notifications VERB`. It calls the verbs of the QuerySet and has no rules."""

from __future__ import annotations

import getpass
import os
import sys
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from notifications import conf
from notifications.database import database_now
from notifications.engine import trial
from notifications.management import arguments, changing, creating, display, holding
from notifications.management.cli import (
    Progress,
    add_verbs,
    configured,
    count,
    page_size,
    stop_on_signals,
    terminal,
)
from notifications.models import NotificationEvent, Status
from notifications.operations import filters, prune
from notifications.operations.verbs import MARK_READ, REQUEUE, RESTORE
from notifications.operations.walk import NEWEST
from notifications.reporting import snapshot as stats
from notifications.reporting.command_line import one_line_errors
from notifications.reporting.contract import EVENT, fields
from notifications.reporting.preview import preview
from notifications.reporting.verdict import verdict

PRUNABLE = (Status.SENT, Status.READ)
VERBS = {
    "create": "raise an alert",
    "list": "what there is, newest first",
    "show": "one notification with its attempts as a timeline",
    "preview": "what a channel would send of one notification",
    "requeue": "give dead letters a fresh budget of attempts",
    "read": "mark as seen (sent) or dismissed (dead)",
    "restore": "take dismissals back: dead letters again",
    "status": "one sentence: what is wrong now, or that nothing is",
    "stats": "how things stand",
    "test": "send one test alert through a channel, and say what the provider answered",
    "holds": "endpoints that are held, paused or on their way back",
    "pause": "send nothing to a channel or a recipient for a time",
    "lift": "end a hold or a pause now",
    "prune": "delete old notifications that are sent or read, a batch at a time",
}


class Command(BaseCommand):
    help = "The operator's command line."
    # As in sweeps: bad settings are refused in one line, and the checks' warnings belong to `check`.
    requires_system_checks = []

    # Arguments

    def add_arguments(self, parser: CommandParser) -> None:
        add_verbs(parser, VERBS, self)

    def add_create_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("--type", type=arguments.text, help="such as ExpirationWarning")
        verb.add_argument("--channel", type=arguments.text, help="such as Slack")
        verb.add_argument("--recipient", type=arguments.text)
        verb.add_argument("--message", type=arguments.text, help="- reads standard input")
        verb.add_argument("--certificate", type=arguments.text, metavar="ID")
        verb.add_argument(
            "--not-after",
            type=arguments.end,
            metavar="TIME",
            help="when the certificate ends: 2026-12-24T10:00Z, or as openssl writes it",
        )
        verb.add_argument(
            "--dedup-key", type=arguments.text, metavar="KEY", help="the same key raises no second alert"
        )
        verb.add_argument(
            "--strict",
            action="store_true",
            help="raise nothing that cannot be delivered, as far as it shows",
        )
        verb.add_argument(
            "--from",
            dest="source",
            metavar="FILE",
            help="raise many, all or none: a JSON object a line, such as"
            ' {"type": "…", "channel": "…", "recipient": "…", "message": "…", "dedup_key": "…"};'
            " - reads standard input",
        )

    def add_list_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("--status", choices=filters.STATUSES)
        arguments.add_filters(verb, "those")
        verb.add_argument("--limit", type=page_size, default=50, help="at most this many (default: 50)")
        verb.add_argument(
            "--order",
            choices=("newest", "ends"),
            default="newest",
            help="ends: by when the certificates end, the first in front (default: newest)",
        )

    def add_show_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("id", metavar="ID", type=arguments.text)

    def add_preview_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("id", metavar="ID", type=arguments.text)
        verb.add_argument("--channel", type=arguments.text, help="another one than its own")

    def add_requeue_arguments(self, verb: CommandParser) -> None:
        arguments.add_selection(verb)
        verb.add_argument(
            "--renewed", action="store_true", help="also those whose certificates were renewed since"
        )

    def add_read_arguments(self, verb: CommandParser) -> None:
        arguments.add_selection(verb)

    def add_restore_arguments(self, verb: CommandParser) -> None:
        arguments.add_selection(verb, filters.DISMISSED)

    def add_status_arguments(self, verb: CommandParser) -> None:
        pass

    def add_stats_arguments(self, verb: CommandParser) -> None:
        pass

    def add_test_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("channel", metavar="CHANNEL", type=arguments.text, help="without regard to case")
        verb.add_argument("recipient", metavar="RECIPIENT", type=arguments.text)
        verb.add_argument("--type", default=trial.TYPE, type=arguments.text)
        verb.add_argument("--message", type=arguments.text, default=trial.TEXT)

    def add_holds_arguments(self, verb: CommandParser) -> None:
        pass

    def add_pause_arguments(self, verb: CommandParser) -> None:
        holding.add_pause_arguments(verb)

    def add_lift_arguments(self, verb: CommandParser) -> None:
        verb.add_argument("number", metavar="NUMBER", type=count, help="as `holds` lists it")

    def add_prune_arguments(self, verb: CommandParser) -> None:
        verb.add_argument(
            "--older-than", required=True, type=arguments.past, metavar="AGE", help="90d, or a date"
        )
        verb.add_argument(
            "--status",
            type=arguments.one_of(*PRUNABLE),
            default=list(PRUNABLE),
            help="sent, read, or both (default: sent,read)",
        )
        verb.add_argument(
            "--batch", type=count, default=prune.BATCH, help="rows a transaction (default: 5000)"
        )
        verb.add_argument("--dry-run", action="store_true", help="count what would go; delete nothing")

    # Verbs

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with one_line_errors():
                getattr(self, f"do_{options['verb']}")(options)
                self.stdout.flush()
        except KeyboardInterrupt:
            raise CommandError("interrupted; what was done before is done", returncode=130) from None

    def do_create(self, options: dict[str, Any]) -> None:
        creating.check(options)
        conf.current()  # bad settings are refused
        if options["source"] is not None:
            self.create_many(options)
            return
        names = ("type", "channel", "recipient", "message", "dedup_key", "not_after")
        given = {name: options[name] for name in names}
        if given["message"] == "-":
            given["message"] = sys.stdin.read().strip()
        if options["strict"]:
            creating.refuse_doubtful([given])
        try:
            event, created = NotificationEvent.objects.notify(**given, certificate_id=options["certificate"])
        except ValidationError as error:
            raise CommandError(creating.faults(error), returncode=2) from error
        for warning in event.warnings:
            self.stderr.write(f"warning: {display.printable(warning)}")
        if options["json"]:
            self.say_json({**fields(event, EVENT), "created": created})
        else:
            self.stdout.write(f"{event.pk} raised" if created else f"{event.pk} had been raised before")

    def create_many(self, options: dict[str, Any]) -> None:
        alerts = creating.read(options["source"])
        if options["strict"]:
            creating.refuse_doubtful(alerts)
        try:
            raised = NotificationEvent.objects.notify_many(alerts)
        except ValidationError as error:
            raise CommandError(creating.faults_of_many(error), returncode=2) from error
        for warning in sorted({warning for event, _ in raised for warning in event.warnings}):
            self.stderr.write(f"warning: {display.printable(warning)}")
        if options["json"]:
            self.say_json([{"id": event.pk, "created": created} for event, created in raised])
        else:
            new = sum(created for _, created in raised)
            self.stdout.write(f"{new} raised, {len(raised) - new} had been raised before")

    def do_list(self, options: dict[str, Any]) -> None:
        rows, limit = filters.matching(arguments.chosen_filters(options)), options["limit"]
        ordered = rows.soonest_first() if options["order"] == "ends" else rows.order_by(*NEWEST)
        found = ordered.with_kind().in_page(limit + 1)
        shown = found[:limit]
        if options["json"]:
            self.say_json([fields(event, EVENT) for event in shown])
            return
        if not shown:
            self.stdout.write("nothing matches")
            return
        screen = self.screen(options)
        display.show_list(screen, shown, conf.current().max_attempts, database_now())
        if len(found) > limit:
            which = "first to end" if options["order"] == "ends" else "newest"
            screen.line(f"The {which} {limit}; there are more (--limit).", "dim")

    def do_show(self, options: dict[str, Any]) -> None:
        event = self.known(options["id"])
        if options["json"]:
            self.say_json(display.whole(event))
        else:
            display.show_event(self.screen(options), event, conf.current().max_attempts, database_now())

    def do_preview(self, options: dict[str, Any]) -> None:
        event, settings = self.known(options["id"]), conf.current()
        shown = preview(event, configured(settings, options["channel"] or event.channel), settings)
        if options["json"]:
            self.say_json(display.previewed(shown))
        elif not shown.fault:
            display.show_preview(self.screen(options), shown)
        if shown.fault:
            raise CommandError(f"cannot be sent on {shown.channel}: {display.printable(shown.fault)}")

    def known(self, pk: str) -> NotificationEvent:
        event: NotificationEvent | None = NotificationEvent.objects.filter(pk=pk).first()
        if event is None:
            raise CommandError(changing.unknown(pk))
        return event

    def do_requeue(self, options: dict[str, Any]) -> None:
        changing.run(REQUEUE, options, self.screen(options), by=operator())

    def do_read(self, options: dict[str, Any]) -> None:
        changing.run(MARK_READ, options, self.screen(options), by=operator())

    def do_restore(self, options: dict[str, Any]) -> None:
        changing.run(RESTORE, options, self.screen(options), by=operator())

    def do_status(self, options: dict[str, Any]) -> None:
        """Fails where it cannot be known; what is wrong is said, and is no failure."""
        NotificationEvent.objects.exists()  # else the database's own words would be lost
        shown = stats.snapshot()
        said = verdict(shown, shown.at or timezone.now(), recipients=True)
        if options["json"]:
            self.say_json({"text": said.text, "bad": said.bad})
        else:
            self.screen(options).plain(display.printable(said.text))
        if shown.counts is None:
            raise CommandError("the notifications could not be counted; the log says why")

    def do_stats(self, options: dict[str, Any]) -> None:
        NotificationEvent.objects.exists()  # else each figure would say what is wrong
        shown = stats.snapshot()
        if options["json"]:
            self.say_json(stats.summary(shown))
        else:
            display.show_stats(self.screen(options), shown, shown.at or timezone.now())
        if shown.counts is None:
            raise CommandError("the notifications could not be counted; the log says why")

    def do_test(self, options: dict[str, Any]) -> None:
        settings = conf.current()
        channel = configured(settings, options["channel"])
        tried = trial.send(channel, options["recipient"], options["message"], options["type"], settings)
        self._say_tried(tried, options)
        if tried.error:
            raise CommandError(
                f"not delivered: {display.printable(tried.error)} (after {tried.seconds:.2f} s)"
            )
        if lifted := trial.lift_holds(tried):
            self.stderr.write(f"{lifted} held endpoint{'s' if lifted > 1 else ''} opened again")

    def do_holds(self, options: dict[str, Any]) -> None:
        holding.show(self.screen(options), for_programs=options["json"])

    def do_pause(self, options: dict[str, Any]) -> None:
        holding.pause(self.screen(options), options, by=operator())

    def do_lift(self, options: dict[str, Any]) -> None:
        holding.lift(self.screen(options), options, by=operator())

    def do_prune(self, options: dict[str, Any]) -> None:
        before, statuses = options["older_than"], options["status"]
        if options["dry_run"]:
            would = prune.count(before, statuses)
            self._say_pruned(would, "would be deleted; nothing was", options)
            return
        pruned = prune.Pruned()
        total = prune.finished(before, statuses).count() if terminal().isatty() else 0
        with stop_on_signals() as stop, Progress(terminal(), "prune", total) as bar:
            for pruned in prune.prune(before, statuses, batch=options["batch"], stop=stop):
                bar.update(pruned.notifications)
        self._say_pruned(pruned, "deleted", options)

    # What the verbs share

    def _say_tried(self, tried: trial.Trial, options: dict[str, Any]) -> None:
        error, delivered = tried.error, tried.delivered
        if options["json"]:
            self.say_json(
                {
                    "delivered": delivered is not None,
                    "channel": tried.message.channel,
                    "seconds": round(tried.seconds, 3),
                    "status": error.status if error else delivered and delivered.status,
                    "detail": error.text if error else delivered and delivered.detail,
                    "reason": str(error.reason) if error else "",
                    "advice": error.advice if error else "",
                    "dialogue": tried.dialogue,
                }
            )
            return
        if delivered:
            answer = " ".join(str(part) for part in (delivered.status, delivered.detail) if part)
            said = f": {display.printable(answer)}" if answer else ""
            self.stdout.write(f"delivered on {tried.message.channel} in {tried.seconds:.2f} s{said}")
        for line in tried.dialogue:
            self.stdout.write(f"  {display.printable(line)}")

    def _say_pruned(self, pruned: prune.Pruned, what: str, options: dict[str, Any]) -> None:
        if options["json"]:
            self.say_json({**pruned.as_dict(), "dry_run": options["dry_run"]})
        else:
            self.stdout.write(f"{pruned} {what}")

    def say_json(self, value: Any) -> None:
        self.stdout.write(display.as_json(value))

    def screen(self, options: dict[str, Any]) -> display.Screen:
        color = False if options["no_color"] else True if options["force_color"] else None
        return display.Screen(self.stdout, color=color)


def operator() -> str:
    """The person at the keyboard, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
