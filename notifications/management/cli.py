"""What the commands share: arguments, a stop flag for signals, progress."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from django.core.management.base import CommandError, CommandParser

from notifications import conf

MOST = 2**31 - 1  # rows


def count(text: str) -> int:
    """An argument that is a whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number


def page_size(text: str) -> int:
    """The same, where more than the databases count is no more than that."""
    return min(count(text), MOST)


def configured(settings: conf.Conf, name: str) -> str:
    """The channel that `name` means, as the settings spell it. Raises CommandError where there is none."""
    channel = settings.channel(name)
    if channel is None:
        known = ", ".join(settings.channels) or "none"
        raise CommandError(f"the channel {name} is not configured; configured: {known}")
    return channel


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """A function that answers whether SIGTERM or SIGINT has come; in other threads than the main: never."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set
        return

    def stop(*_: Any) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A bar on a terminal once the work takes longer than a second; nothing anywhere else."""

    def __init__(self, stream: TextIO, what: str, total: int) -> None:
        self._stream = stream
        self._what = what
        self._total = total
        self._since = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int) -> None:
        if self._bar is None:
            if not self._stream.isatty() or time.monotonic() - self._since < 1:
                return
            self._bar = self._start()
        self._bar.update(self._task, completed=done)

    def _start(self) -> Any:
        # Imported late: it costs a tenth of a second that a sweep from cron need not spend.
        from rich.console import Console
        from rich.progress import Progress as Bar

        bar = Bar(console=Console(file=self._stream), transient=True)
        self._task = bar.add_task(self._what, total=self._total)
        bar.start()
        return bar


def terminal() -> TextIO:
    """Where progress goes: standard error, so that standard output stays for results."""
    return sys.stderr


def add_verbs(parser: CommandParser, verbs: Mapping[str, str], command: object) -> None:
    """A command's verbs, each with what it does, and with the arguments that `add_VERB_arguments` of the
    command gives it. Django's own options may also follow the verb."""
    parsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, does in verbs.items():
        verb: CommandParser = parsers.add_parser(name, help=does, description=f"{does.capitalize()}.")
        getattr(command, f"add_{name}_arguments")(verb)
        verb.add_argument("--json", action="store_true", help="JSON on one line, for programs")
        for flag in ("--traceback", "--no-color", "--force-color"):
            verb.add_argument(flag, action="store_true", default=SUPPRESS, help=SUPPRESS)
        for option in ("--settings", "--pythonpath"):
            verb.add_argument(option, default=SUPPRESS, help=SUPPRESS)
        verb.add_argument("-v", "--verbosity", type=int, default=SUPPRESS, help=SUPPRESS)
