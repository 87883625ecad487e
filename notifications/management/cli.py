"""What the commands share: arguments, one-line errors, a stop flag for signals, progress."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error

from notifications import conf
from notifications.database import connection
from notifications.rights import REFUSED, sqlstate, who_must
from notifications.text import one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def count(text: str) -> int:
    """An argument that is a whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return number


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what can go wrong outside our code into a CommandError: one line, exit code 1.

    PostgreSQL's connection errors name host, port and user, never the password. A reader of our output
    that has gone (`| head`) is no error.
    """
    try:
        yield
    except ImproperlyConfigured as error:
        raise CommandError(_one_line(error)) from error
    except Error as error:
        raise CommandError(f"the database did not do it: {_one_line(error)}{_way_out(error)}") from error
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise CommandError(f"the output cannot be written: {error.strerror}") from error


def _way_out(error: BaseException) -> str:
    absent = ("42P01", "42703")  # a table, a column
    if sqlstate(error) in absent or "no such table" in str(error):
        return "; run `manage.py migrate` first"
    return f"; {who_must(connection())}" if sqlstate(error) in REFUSED else ""


def _one_line(error: BaseException) -> str:
    return one_line(str(error)) or type(error).__name__


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
