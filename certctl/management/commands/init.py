"""From nothing to a test alert: the environment file, then what an operator would type, under it."""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from certctl import environment_file
from certctl.environment import variables
from notifications.notifiers.base import Notifier
from notifications.notifiers.shipped import SHIPPED

SYSTEM = Path("/etc/certctl/certctl.env")
HEADING = "Made by `certctl init`. What else may be set: docs/operating.md, Settings, and docs/channels.md."


def variable(text: str) -> tuple[str, str]:
    """An argument such as CERTCTL_SMTP_HOST=mail.example.com."""
    name, sign, value = text.partition("=")
    if not sign or not environment_file.TAKEN.fullmatch(name):
        raise argparse.ArgumentTypeError(f"{name!r} is not NAME=VALUE of a variable that certctl reads")
    return name, value


def recipient(text: str) -> tuple[str, str]:
    """An argument such as Slack:#pki."""
    channel, sign, to = text.partition(":")
    if not sign or not channel or not to:
        raise argparse.ArgumentTypeError(f"{text!r} is not CHANNEL:RECIPIENT")
    return channel, to


class Command(BaseCommand):
    help = "From nothing to a test alert: secret, environment file, tables, operator. It asks; or --yes."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--file",
            type=Path,
            metavar="PATH",
            help=f"the environment file (default: {SYSTEM} for root, else ./certctl.env)",
        )
        parser.add_argument(
            "--database",
            metavar="URL",
            help="default: DATABASE_URL or DATABASE_URL_FILE, else SQLite beside the file",
        )
        parser.add_argument(
            "--base-url",
            metavar="URL",
            help="the console's public address (default: plain http on this machine)",
        )
        parser.add_argument(
            "--set",
            type=variable,
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a channel's variable; may be repeated",
        )
        parser.add_argument(
            "--operator",
            metavar="NAME",
            help="who may log in; the password is asked for, or made and shown once",
        )
        parser.add_argument(
            "--test", type=recipient, metavar="CHANNEL:RECIPIENT", help="send a test alert there"
        )
        parser.add_argument(
            "--yes", action="store_true", help="ask nothing: what is not given has its default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.asks = not options["yes"]
        if self.asks and not sys.stdin.isatty():
            raise CommandError(
                "there is nobody to ask: give --yes, and flags for what has no default", returncode=2
            )
        try:
            self._run(options)
        except (KeyboardInterrupt, EOFError):
            raise CommandError("interrupted; what was done before is done", returncode=130) from None

    def _run(self, options: dict[str, Any]) -> None:
        path = self._path(options["file"]).absolute()
        if path.exists():
            self._keep(path, options)
        else:
            self._write(path, self._values(path, options))
        self._must(path, "migrate", "--verbosity=0", "--skip-checks")
        self.stdout.write("The tables are made.")
        if name := options["operator"] or self._ask("Who may log in? (a user name; Enter: nobody yet)", ""):
            self._operator(path, name)
        if test := options["test"] or self._asked_test():
            self._must(path, "notifications", "test", *test)
        self._say_what_next(path)

    # The file

    def _path(self, given: Path | None) -> Path:
        default = (
            SYSTEM
            if os.access(SYSTEM.parent if SYSTEM.parent.exists() else "/etc", os.W_OK)
            else Path("certctl.env")
        )
        return given or Path(self._ask("Where shall the settings be?", str(default)))

    def _keep(self, path: Path, options: dict[str, Any]) -> None:
        """What is there is never overwritten."""
        if options["database"] or options["base_url"] or options["set"]:
            raise CommandError(f"{path} is there already and is not changed: edit it, or name another --file")
        self.stdout.write(f"{path} is there already, and is used as it is.")

    def _values(self, path: Path, options: dict[str, Any]) -> dict[str, str]:
        database = self._database(path, options["database"])
        base_url = options["base_url"] or self._ask(
            "The console's public address? (Enter: plain http, here)", ""
        )
        values = {**database, "CERTCTL_SECRET_KEY": secrets.token_urlsafe(50)}
        values |= {"CERTCTL_BASE_URL": base_url} if base_url else {}
        # gunicorn speaks plain http: where the public sees https, a proxy is in front.
        values |= (
            {"CERTCTL_BEHIND_PROXY": "1"}
            if urlsplit(base_url).scheme == "https"
            else {"CERTCTL_INSECURE_HTTP": "1"}
        )
        return values | (dict(options["set"]) or dict(self._asked_channel()))

    def _database(self, path: Path, given: str | None) -> dict[str, str]:
        if not given and (file := os.environ.get("DATABASE_URL_FILE")):
            return {"DATABASE_URL_FILE": file}  # whoever keeps it there wants it nowhere else
        named = os.environ.get("DATABASE_URL") or os.environ.get("CERTCTL_DATABASE_URL")
        default = named or f"sqlite:///{quote(str(path.with_name('certctl.sqlite3')))}"
        asked = given or self._ask("The database? postgresql://USER:PASSWORD@HOST/NAME", default)
        return {"DATABASE_URL": asked}

    def _write(self, path: Path, values: dict[str, str]) -> None:
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            environment_file.write(path, values, HEADING)
        except (OSError, ValueError) as error:
            raise CommandError(f"{path} cannot be written: {error}") from None
        self.stdout.write(f"{path} is written, for its owner's eyes only.")

    # Questions

    def _ask(self, question: str, default: str) -> str:
        if not self.asks:
            return default
        return input(f"{question}{f' [{default}]' if default else ''} ").strip() or default

    def _asked_channel(self) -> Iterator[tuple[str, str]]:
        """The variables without which one channel is off."""
        by_name = {notifier.title().lower(): notifier for notifier in SHIPPED if needed(notifier)}
        names = ", ".join(notifier.title() for notifier in by_name.values())
        chosen = self._ask(f"A first channel? ({names}; Enter: none yet)", "").lower()
        if chosen and chosen not in by_name:
            raise CommandError(f"there is no channel {chosen!r} to set up here; there are {names}")
        for option in needed(by_name[chosen]) if chosen else []:
            ask = getpass.getpass if option.secret else input
            yield option.env, ask(f"  {option.env} ({option.help}): ").strip()

    def _asked_test(self) -> tuple[str, str] | None:
        said = self._ask("Send a test alert? (CHANNEL:RECIPIENT, such as Slack:#pki; Enter: no)", "")
        try:
            return recipient(said) if said else None
        except argparse.ArgumentTypeError as error:
            raise CommandError(str(error)) from None

    # What an operator would type

    def _operator(self, path: Path, name: str) -> None:
        given = os.environ.get("DJANGO_SUPERUSER_PASSWORD")
        password = given or (getpass.getpass("  A password for it (Enter: make one): ") if self.asks else "")
        made = "" if password else secrets.token_urlsafe(12)
        named = ("--username", name, "--email=", "--noinput", "--skip-checks", "--verbosity=0")
        ran = self._run_with(
            path, "createsuperuser", *named, quiet=True, DJANGO_SUPERUSER_PASSWORD=password or made
        )
        if ran.returncode and "already taken" in ran.stderr:
            self.stdout.write(f"{name} may log in already, with the password of before.")
        elif ran.returncode:
            raise CommandError(ran.stderr.strip().splitlines()[-1])
        else:
            self.stdout.write(
                f"{name} may log in{f' with the password {made} (shown once)' if made else ''}."
            )

    def _must(self, path: Path, *command: str) -> None:
        if self._run_with(path, *command).returncode:
            raise CommandError(
                f"`certctl --env-file {path} {command[0]}` failed: mend it, then run init again"
            )

    def _run_with(
        self, path: Path, *command: str, quiet: bool = False, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """In a process of its own: that has the file's settings, and this one has none."""
        self.stdout.flush()
        ours = environment_file.TAKEN
        clean = {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}
        return subprocess.run(  # noqa: S603 (our own program)
            [sys.executable, "-m", "certctl", "--env-file", str(path), *command],
            env=clean | more,
            check=False,
            capture_output=quiet,
            text=True,
            umask=0o077,
        )

    def _say_what_next(self, path: Path) -> None:
        self._run_with(path, "check")
        self.stdout.write(f"Next: certctl --env-file {path} run_notifications, and gunicorn for the console.")
        self.stdout.write("docs/install.md has both as services.")


def needed(notifier: type[Notifier]) -> list[Any]:
    """The options without which the channel is off; those that the project cannot set make none."""
    return [option for option in variables(notifier) if option.required]
