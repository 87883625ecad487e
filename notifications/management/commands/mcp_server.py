from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from notifications.reporting.command_line import one_line_errors


def address(text: str) -> tuple[str, int]:
    """An argument such as 127.0.0.1:8765 or [::1]:8765."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Command(BaseCommand):
    help = "Serve the notifications to an AI assistant as MCP tools, over stdio unless told otherwise."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--http",
            type=address,
            metavar="HOST:PORT",
            help="serve streamable HTTP at /mcp; callers send a token of the REST interface",
        )
        parser.add_argument(
            "--allow-operate",
            action="store_true",
            help="let the tools requeue and mark as read too; without it they only look",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from notifications import mcp
        except ImportError as error:
            raise CommandError("this needs the extra: pip install 'certctl-notifications[mcp]'") from error
        with one_line_errors():
            if options["http"]:
                mcp.run_http(*options["http"], allow_operate=options["allow_operate"])
            else:
                mcp.run_stdio(allow_operate=options["allow_operate"])
