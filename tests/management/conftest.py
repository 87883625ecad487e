from __future__ import annotations

import io

import pytest

from tests.management.support import Ran, Run, Stdin, execute


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
        code, said = execute(arguments, out, err)
        usage = capsys.readouterr().err
        return Ran(code, out.getvalue(), err.getvalue() + usage + said)

    return ran
