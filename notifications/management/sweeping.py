"""The command that retry_notifications and send_notifications both are."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Min

from notifications import conf, delivery
from notifications.database import database_now
from notifications.models import NotificationEvent, NotificationQuerySet, SweepKind
from notifications.queue.beside import terms
from notifications.reporting import words

from ..reporting.command_line import one_line_errors
from .cli import Progress, count, stop_on_signals, terminal


class SweepCommand(BaseCommand):
    kind: ClassVar[SweepKind]
    # A sweep refuses bad settings itself, in one line; the checks' warnings would be in every mail from cron.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--limit", type=count, help="at most this many notifications (default: 1000)")
        parser.add_argument(
            "--max-attempts", type=count, help="attempts in all before one is dead (default: 5)"
        )
        parser.add_argument("--channel", help="only this channel, without regard to case")
        parser.add_argument("--concurrency", type=count, help="how many to send at once (default: 100)")
        if self.kind == SweepKind.RETRY:
            parser.add_argument(
                "--include-unscheduled",
                action="store_true",
                help="also take failed notifications without a next retry, as certctl leaves them, but for"
                " its e-mails",
            )
            parser.add_argument(
                "--include-probably-delivered",
                action="store_true",
                help="also take the e-mails that certctl left failed: most likely they were delivered",
            )
        parser.add_argument("--dry-run", action="store_true", help="say what is due; send and change nothing")
        parser.add_argument(
            "--json", action="store_true", help="the result as one JSON object on the last line"
        )
        parser.add_argument(
            "--fail-on-dead",
            action="store_true",
            help="exit with 2 when a notification died, or was not delivered because its channel has no"
            " notifier",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            if options["dry_run"]:
                self.report_due(options)
            else:
                self.sweep(options)

    def sweep(self, options: dict[str, Any]) -> None:
        limit = options["limit"] or conf.current().sweep_limit
        with stop_on_signals() as stop, Progress(terminal(), f"{self.kind} sweep", limit) as bar:
            result = delivery.sweep(
                self.kind,
                limit=limit,
                max_attempts=options["max_attempts"],
                concurrency=options["concurrency"],
                channel=options["channel"],
                include_unscheduled=options.get("include_unscheduled", False),
                include_probably_delivered=options.get("include_probably_delivered", False),
                stop=stop,
                progress=lambda so_far: bar.update(so_far.finished),
            )
        with one_line_errors():
            self.stdout.write(json.dumps(result.as_dict()) if options["json"] else str(result))
        if options["fail_on_dead"] and result.undelivered:
            raise CommandError(result.undelivered, returncode=2)

    def report_due(self, options: dict[str, Any]) -> None:
        settings, now = conf.current(), database_now()
        rows: NotificationQuerySet = NotificationEvent.objects.all()
        if options["channel"]:
            rows = rows.on_channel(options["channel"])
        due = delivery.due(self.kind, rows, now, options["max_attempts"] or settings.max_attempts)
        beside = terms(settings)
        if self.kind == SweepKind.PENDING:
            due = beside.claimable(due, now)
        by_channel = due.order_by("channel").values("channel")
        found: Any = by_channel.annotate(due=Count("pk"), oldest=Min("created_at"))
        channels: list[dict[str, Any]] = list(found)
        stranded = 0
        if self.kind == SweepKind.RETRY:
            left_failed = beside.left_failed(
                rows,
                now,
                unscheduled=options["include_unscheduled"],
                probably_delivered=options["include_probably_delivered"],
            )
            stranded = sum(left.count() for left in left_failed)
        if options["json"]:
            self.say_due_to_programs(channels, stranded)
        else:
            self.say_due(channels, stranded, options["limit"] or settings.sweep_limit, now)

    def say_due_to_programs(self, channels: list[dict[str, Any]], stranded: int) -> None:
        report = {
            "kind": str(self.kind),
            "dry_run": True,
            "due": sum(row["due"] for row in channels),
            "unscheduled": stranded,
            "channels": {row["channel"]: row["due"] for row in channels},
        }
        self.stdout.write(json.dumps(report))

    def say_due(self, channels: list[dict[str, Any]], stranded: int, limit: int, now: datetime) -> None:
        for row in channels:
            raised = words.ago(row["oldest"], now)
            self.stdout.write(f"{row['channel']}: {row['due']} due, the oldest raised {raised}")
        total = sum(row["due"] for row in channels)
        unscheduled = f" and {stranded} unscheduled" if stranded else ""
        self.stdout.write(
            f"{self.kind} sweep, dry run: {total} due{unscheduled}, at most {limit} a sweep;"
            " nothing sent or changed"
        )
