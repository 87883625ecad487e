"""The command line as a person or a program meets it, without the second that a new process takes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.management import CommandError, load_command_class


@dataclass(frozen=True)
class Ran:
    """What came of it: exit code, standard output and error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


class Stdin(io.StringIO):
    def __init__(self, text: str, terminal: bool) -> None:
        super().__init__(text)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`certctl notifications ARGUMENTS`, with exit codes as a process would have them.

    given     on standard input
    terminal  whether that is a person's
    """

    def ran(*arguments: str, given: str = "", terminal: bool = False) -> Ran:
        monkeypatch.setattr("sys.stdin", Stdin(given, terminal))
        out, err = io.StringIO(), io.StringIO()
        capsys.readouterr()
        code, said = _execute(arguments, out, err)
        usage = capsys.readouterr().err
        return Ran(code, out.getvalue(), err.getvalue() + usage + said)

    return ran


def _execute(arguments: Sequence[str], out: io.StringIO, err: io.StringIO) -> tuple[int, str]:
    """What BaseCommand.run_from_argv does, but for closing the test's connection."""
    command = load_command_class("notifications", "notifications")
    try:
        command._called_from_command_line = True
        parser = command.create_parser("certctl", "notifications")
        options = vars(parser.parse_args(list(arguments)))
        command.execute(stdout=out, stderr=err, **options)
    except SystemExit as end:
        return int(end.code or 0), ""
    except CommandError as error:
        return error.returncode, f"{error}\n"
    return 0, ""
