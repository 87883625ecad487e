"""`certctl watch` as a person or a program meets it, and servers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest
from django.core.management import CommandError, load_command_class

from tests.certificates.servers import Servers
from tests.management.support import Ran, Run, Stdin


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers() as running:
        yield running


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`certctl watch ARGUMENTS`, with exit codes as a process would have them. given: on standard input."""

    def ran(*arguments: str, given: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", Stdin(given, terminal=False))
        out, err = io.StringIO(), io.StringIO()
        capsys.readouterr()
        code, said = _execute(arguments, out, err)
        return Ran(code, out.getvalue(), err.getvalue() + capsys.readouterr().err + said)

    return ran


def _execute(arguments: Sequence[str], out: io.StringIO, err: io.StringIO) -> tuple[int, str]:
    command = load_command_class("notifications.certificates", "watch")
    try:
        command._called_from_command_line = True
        options = vars(command.create_parser("certctl", "watch").parse_args(list(arguments)))
        command.execute(stdout=out, stderr=err, **options)
    except SystemExit as end:
        return int(end.code or 0), ""
    except CommandError as error:
        return error.returncode, f"{error}\n"
    return 0, ""
