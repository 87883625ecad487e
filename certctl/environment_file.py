"""The file with the variables of a deployment: read as data, so that whoever may write it runs nothing."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# What the project reads. PATH, PYTHONPATH or LD_PRELOAD would be the file's writer's way into our process.
TAKEN = re.compile(
    r"CERTCTL_\w+|DATABASE_URL(_FILE)?|POSTGRES_PASSWORD(_FILE)?|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY"
    r"|SSL_CERT_(FILE|DIR)"
)


def load(path: Path) -> None:
    """Take the file's variables into the environment; those that are set there win.

    Raises ImproperlyConfigured where it cannot be read.
    """
    for name, value in read(path).items():
        os.environ.setdefault(name, value)


def read(path: Path) -> dict[str, str]:
    """The variables of the file that are this project's, others left out.

    Lines of NAME=value as a shell quotes them, with nothing that it would run or replace. Raises
    ImproperlyConfigured where it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ImproperlyConfigured(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}") from None
    found = dict(variable(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if is_variable(line))
    return {name: value for name, value in found.items() if TAKEN.fullmatch(name)}


def is_variable(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def variable(line: str, where: str) -> tuple[str, str]:
    """Its name and value. Raises ImproperlyConfigured, without the value."""
    try:
        first, *rest = shlex.split(line.strip().removeprefix("export "))
    except ValueError:
        raise ImproperlyConfigured(f"{where}: a quote is open") from None
    if "=" not in first or (rest and not rest[0].startswith("#")):
        raise ImproperlyConfigured(f"{where}: write NAME=value, in single quotes where it has a space")
    name, _, value = first.partition("=")
    return name, value


def write(path: Path, values: Mapping[str, str], heading: str) -> None:
    """A new file that its owner alone can read. Raises FileExistsError where there is one already."""
    lines = [f"# {heading}", *(f"{name}={quoted(value)}" for name, value in values.items())]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, ""]))


def quoted(value: str) -> str:
    """As a shell, systemd and this module read it alike. Raises ValueError for what has several lines."""
    if not value.isprintable():
        raise ValueError("a value in the environment file is one line")
    return shlex.quote(value)
