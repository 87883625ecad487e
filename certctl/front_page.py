"""What `certctl --help` and `certctl --version` say: our commands first."""

from __future__ import annotations

import platform
import textwrap
from importlib.metadata import version as version_of

import django
from django.core.management import get_commands, load_command_class

OWN = ("certctl", "notifications", "notifications.")
USUAL = ("check", "migrate", "createsuperuser")  # Django's that everybody needs
WIDTH = 100


def version() -> str:
    """This distribution's, and what it runs on."""
    ours = version_of("certctl-notifications")
    return f"certctl-notifications {ours} (Django {django.__version__}, Python {platform.python_version()})"


def text() -> str:
    """The page. Django must be configured; it is set up here."""
    django.setup()
    commands = get_commands()
    own = sorted(name for name, app in commands.items() if str(app).startswith(OWN))
    others = sorted(set(commands) - {*own, *USUAL})
    return "\n".join(
        [
            "Certificate alerts that are never silently dropped.",
            "",
            "usage: certctl [--env-file PATH] COMMAND …    (certctl COMMAND --help; certctl --version)",
            "",
            *_listed(own, commands),
            "",
            "Of Django's commands:",
            *_listed(USUAL, commands),
            *textwrap.wrap(f"and {', '.join(others)}.", WIDTH, initial_indent="  ", subsequent_indent="  "),
        ]
    )


def _listed(names: tuple[str, ...] | list[str], commands: dict[str, str]) -> list[str]:
    return [f"  {name:22} {_purpose(name, commands[name])}" for name in names]


def _purpose(name: str, app: str) -> str:
    """The first sentence of its help."""
    said = " ".join(str(load_command_class(app, name).help).split())
    return textwrap.shorten(said.partition(". ")[0].rstrip("."), WIDTH - 24, placeholder=" …")
