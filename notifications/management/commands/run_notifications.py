from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError

from notifications.delivery import run_worker
from notifications.engine.heartbeat import lives_here
from notifications.management.cli import count, stop_on_signals
from notifications.reporting.command_line import explained, one_line_errors


class Command(BaseCommand):
    help = "Deliver notifications until told to stop (SIGTERM or SIGINT): the always-on worker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--grace",
            type=count,
            metavar="SECONDS",
            help="what is in flight may take so long after a stop (default: the send timeout and 5 s)",
        )

        parser.add_argument(
            "--probe",
            action="store_true",
            help="deliver nothing: exit with 0 where a worker of this host lives, with 1 where none does",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["probe"]:
            self._probe()
            return
        grace = timedelta(seconds=options["grace"]) if options["grace"] else None
        with one_line_errors(), stop_on_signals() as stop:
            run_worker(stop=stop, grace=grace)

    def _probe(self) -> None:
        """For a liveness probe: a database that is away is no reason to start the worker anew."""
        with one_line_errors():
            try:
                lives = lives_here()
            except (OperationalError, InterfaceError) as error:
                self.stderr.write(f"not known whether a worker lives: {explained(error)}")
                return
        if not lives:
            raise CommandError("no worker of this host has been seen for a minute")
