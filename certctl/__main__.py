"""The command line: `certctl COMMAND` is `python manage.py COMMAND`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from notifications.text import one_line


def main() -> None:
    """Run the command in sys.argv.

    What an operator can mend (settings, a database that is away or not migrated) is one line on stderr
    and exit code 1. `--traceback` shows everything.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "certctl.settings")
    if Path(sys.argv[0]).name == "__main__.py":
        sys.argv[0] = "certctl"
    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        explanation = explain(error)
        if explanation is None or "--traceback" in sys.argv:
            raise
        fail(explanation)


def explain(error: Exception) -> str | None:
    """What an operator should know about `error`, in one line without secrets; None for a bug."""
    if isinstance(error, ImproperlyConfigured):
        return f"bad configuration: {error}"
    # Imported late: they need the settings, and those may be what is broken.
    from django.db import Error

    from notifications.reporting.command_line import explained

    return explained(error) if isinstance(error, Error) else None


def fail(explanation: str) -> NoReturn:
    """End the program with exit code 1 and `explanation` as one line on stderr."""
    sys.stderr.write(f"certctl: {one_line(explanation)}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
