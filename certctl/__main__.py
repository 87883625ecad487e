"""The command line: `certctl COMMAND` is `python manage.py COMMAND`."""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from pathlib import Path
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from notifications.text import one_line

from . import environment_file, front_page

OURS = "certctl.settings"


def main() -> None:
    """Run the command in sys.argv.

    What an operator can mend (settings, a database that is away or not migrated) is one line on stderr
    and exit code 1. `--traceback` shows everything.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", OURS)
    if Path(sys.argv[0]).name == "__main__.py":
        sys.argv[0] = "certctl"
    try:
        take_environment_file(sys.argv)
        answer(sys.argv)
    except Exception as error:
        explanation = explain(error)
        if explanation is None or "--traceback" in sys.argv:
            raise
        fail(explanation)


def take_environment_file(argv: list[str]) -> None:
    """`--env-file PATH` before the command: out of argv, and its variables into the environment."""
    flag, _, path = argv[1].partition("=") if len(argv) > 1 else ("", "", "")
    if flag != "--env-file":
        return
    path = path or (argv[2] if len(argv) > 2 else "")
    if not path:
        fail("--env-file needs a path", code=2)
    del argv[1 : 2 if "=" in argv[1] else 3]
    environment_file.load(Path(path))


def answer(argv: list[str]) -> None:
    """Run the command, or say what there is: that needs no settings at all."""
    command = argv[1] if len(argv) > 1 else "help"
    settings_are_ours = os.environ["DJANGO_SETTINGS_MODULE"] == OURS
    if settings_are_ours and (command == "version" or "--version" in argv):
        print(front_page.version())
        return
    if settings_are_ours and ({"-h", "--help"} & set(argv) or command == "help"):
        forget_settings()
    if settings_are_ours and command == "init":
        os.environ.setdefault("CERTCTL_SECRET_KEY", secrets.token_urlsafe(50))  # until it has made one
    if settings_are_ours:
        importlib.import_module(OURS)  # Django would hold back why it cannot be
    if settings_are_ours and (command in ("-h", "--help") or argv[1:] in ([], ["help"])):
        print(front_page.text())
        return
    execute_from_command_line(argv)


def forget_settings() -> None:
    """Only help is wanted, and faulty settings must not be in its way."""
    for name in [name for name in os.environ if environment_file.TAKEN.fullmatch(name)]:
        del os.environ[name]
    os.environ["CERTCTL_SECRET_KEY"] = secrets.token_urlsafe(50)


def explain(error: Exception) -> str | None:
    """What an operator should know about `error`, in one line without secrets; None for a bug."""
    if isinstance(error, ImproperlyConfigured):
        return f"bad configuration: {error}"
    if isinstance(error, ModuleNotFoundError):
        missing = str(error.name).partition(".")[0]
        needed = "the certctl project needs more than the app: pip install 'certctl-notifications[project]'"
        return None if missing in ("certctl", "notifications") else f"{needed} ({missing} is not installed)"
    # Imported late: they need the settings, and those may be what is broken.
    from django.db import Error

    from notifications.reporting.command_line import explained

    return explained(error) if isinstance(error, Error) else None


def fail(explanation: str, code: int = 1) -> NoReturn:
    """End the program with `explanation` as one line on stderr."""
    sys.stderr.write(f"certctl: {one_line(explanation)}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
