"""What every command says, in one line, of what went wrong outside our code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error, InterfaceError, OperationalError

from ..database import connection
from ..database.rights import REFUSED, sqlstate, who_must
from ..text import one_line

ABSENT = ("42P01", "42703")  # a table, a column
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what can go wrong outside our code into a CommandError: one line, exit code 1.

    A reader of our output that has gone (`| head`) is no error.
    """
    try:
        yield
    except ImproperlyConfigured as error:
        raise CommandError(_one_line(error)) from error
    except Error as error:
        raise CommandError(explained(error)) from error
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise CommandError(f"the output cannot be written: {error.strerror}") from error


def explained(error: Error) -> str:
    """What an operator should know of it, in one line without passwords."""
    said = _without_passwords(_one_line(error))
    if sqlstate(error) in ABSENT or "no such table" in said:
        return f"the database has not been migrated (the command `migrate` does it): {said}"
    if sqlstate(error) in REFUSED:
        return f"{who_must(connection())}: {said}"
    if isinstance(error, OperationalError | InterfaceError):
        return f"the database cannot be used: {said}"
    return f"the database did not do it: {said}"


def _without_passwords(text: str) -> str:
    for database in settings.DATABASES.values():
        for secret in (database.get("PASSWORD"), database.get("OPTIONS", {}).get("password")):
            text = text.replace(str(secret), "***") if secret else text
    return text


def _one_line(error: BaseException) -> str:
    return one_line(str(error)) or type(error).__name__
