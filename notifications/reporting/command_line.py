"""What every command says, in one line, of what went wrong outside our code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error

from ..database import connection
from ..database.rights import REFUSED, sqlstate, who_must
from ..text import one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
