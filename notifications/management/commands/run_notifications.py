from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from notifications.delivery import run_worker
from notifications.management.cli import count, stop_on_signals
from notifications.reporting.command_line import one_line_errors


class Command(BaseCommand):
    help = "Deliver notifications until told to stop (SIGTERM or SIGINT): the always-on worker."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--grace",
            type=count,
            metavar="SECONDS",
            help="what is in flight may take so long after a stop (default: the send timeout and 5 s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        grace = timedelta(seconds=options["grace"]) if options["grace"] else None
        with one_line_errors(), stop_on_signals() as stop:
            run_worker(stop=stop, grace=grace)
