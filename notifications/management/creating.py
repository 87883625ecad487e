"""What `notifications create` is given: the options of one alert, or a file of many."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from ..models import Alert
from ..models.raising import KNOWN, NEEDED, names_fault
from ..notifiers.usable import Doubts
from .arguments import end
from .display import printable

ALONE = (*NEEDED, "certificate", "dedup_key", "not_after")  # the options of one alert


def check(options: Mapping[str, Any]) -> None:
    """Raises CommandError where neither one alert is described nor a file of many named, or both."""
    given = [name for name in ALONE if options[name] is not None]
    if options["source"] is not None and given:
        raise CommandError(f"--from goes without {_options(given)}", returncode=2)
    if options["source"] is None and (missing := [name for name in NEEDED if name not in given]):
        raise CommandError(f"the following arguments are required: {_options(missing)}", returncode=2)


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.removesuffix('_id').replace('_', '-')}" for name in names)


def read(source: str) -> list[Alert]:
    """The alerts of a file, or of standard input. Raises CommandError, which names the line."""
    try:
        with nullcontext(sys.stdin) if source == "-" else open(source, encoding="utf-8") as lines:
            return list(_alerts(lines))
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{printable(source)} cannot be read: {printable(str(error))}") from error


def _alerts(lines: Iterable[str]) -> Iterator[Alert]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise CommandError(f"line {number} is empty", returncode=2)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"line {number} is no JSON: {printable(str(error))}", returncode=2) from error
        if fault := _fault(found):
            raise CommandError(f"line {number} {printable(fault)}", returncode=2)
        yield _with_times(found, number)


def _with_times(alert: dict[str, Any], number: int) -> Any:
    """Raises CommandError."""
    if alert.get("not_after") is None:
        return alert
    try:
        return alert | {"not_after": end(alert["not_after"])}
    except ArgumentTypeError as error:
        raise CommandError(f"line {number}: not_after: {printable(str(error))}", returncode=2) from error


def _fault(found: Any) -> str:
    if not isinstance(found, dict):
        return "is no JSON object"
    optional = {name for name in KNOWN if name not in NEEDED}
    given = {name: value for name, value in found.items() if not (value is None and name in optional)}
    odd = [name for name, value in given.items() if not isinstance(value, str)]
    return names_fault(found) or (f"has a {odd[0]} that is no string" if odd else "")


def refuse_doubtful(alerts: Iterable[Mapping[str, Any]]) -> None:
    """Raises CommandError where something is known against delivering one of them."""
    doubts = Doubts()
    for alert in alerts:
        if found := doubts.about(alert["channel"], alert["recipient"]):
            raise CommandError(f"{printable('; '.join(found))}; nothing was raised")


def faults(error: ValidationError) -> str:
    """What the table cannot hold, in terms of the options."""
    return "; ".join(f"{_options([field])}: {' '.join(said)}" for field, said in error.message_dict.items())


def faults_of_many(error: ValidationError) -> str:
    """The same in terms of the file's lines."""
    named = ((*field.partition("."), said) for field, said in error.message_dict.items())
    return "; ".join(f"line {int(place) + 1}: {field}: {' '.join(said)}" for place, _, field, said in named)
