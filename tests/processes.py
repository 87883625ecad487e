"""Real processes for tests: started, watched by what they do, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.db import connections

from tests.settings import TEST_DATABASE

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds for what takes a moment: the machine may be busy with other things
MANAGE = [sys.executable, str(ROOT / "manage.py")]


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `condition` answers as soon as that is true; a failure that says `what` when it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return answer


def current_database_url() -> str:
    """The URL of the database that this test's connection uses (its test database)."""
    used = connections["default"].settings_dict
    name = quote(str(used["NAME"]))
    if TEST_DATABASE == "sqlite":
        return f"sqlite:///{name}"
    server = {"host": used["HOST"], "port": used["PORT"]} | dict(used.get("OPTIONS", {}))
    login = f"{quote(used['USER'], safe='')}:{quote(used['PASSWORD'], safe='')}"
    return f"postgresql://{login}@/{name}?{urlencode({k: v for k, v in server.items() if v})}"


class Process:
    """One process; its output is in a file."""

    def __init__(self, command: Iterable[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                list(command), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.pid = self._popen.pid

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Ask it to end, wait until it has, and answer its exit code."""
        self.send(number)
        return self.wait(seconds)

    def wait(self, seconds: float = PATIENCE) -> int:
        eventually(lambda: self.code() is not None, f"the end of a process that said {self.log}", seconds)
        code = self.code()
        assert code is not None
        return code

    def kill(self) -> None:
        if self.code() is None:
            self._popen.kill()
            self._popen.wait()


class Launcher:
    """Starts management commands in one environment; ends with all that it started."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = dict(environment)
        self.folder = folder
        self.started: list[Process] = []

    def start(self, *command: str, **environment: str) -> Process:
        """`manage.py COMMAND` with these variables besides the environment's."""
        return self.run([*MANAGE, *command], **environment)

    def run(self, command: list[str], **environment: str) -> Process:
        log = self.folder / f"process-{len(self.started) + 1}.log"
        process = Process(command, self.environment | environment, log)
        self.started.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.started:
            process.kill()

    def transcript(self) -> str:
        """What all of them said, for a test that failed."""
        return "\n".join(f"--- {process.log.name}\n{process.said[-3000:]}" for process in self.started)


def hang_up(process: subprocess.Popen[str]) -> None:
    """End a process that reads orders until its standard input is closed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(20)
    process.stdout.close()
