"""Forks management commands from a process that has loaded Django once: a worker costs no second to start.

Orders are JSON lines on stdin, one answer each on stdout: {"command": […], "log": path, "shift": seconds}
starts one and answers its pid; {"poll": pid} answers its exit code, or null. All end with stdin.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import django
import time_machine


def main() -> None:
    django.setup()
    preload()
    children: set[int] = set()
    try:
        for line in sys.stdin:
            print(json.dumps(obey(json.loads(line), children)), flush=True)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def preload() -> None:
    """What every child would otherwise import for itself."""
    from notifications import conf
    from notifications.engine import sender as attempts
    from notifications.engine import worker
    from notifications.management.commands import notifications, retry_notifications, run_notifications

    assert all((worker, notifications, retry_notifications, run_notifications))
    attempts.load_all(conf.current())


def obey(order: dict[str, Any], children: set[int]) -> int | None:
    if "poll" in order:
        return poll(order["poll"], children)
    pid = os.fork()
    if pid == 0:
        become(order)
    children.add(pid)
    return pid


def poll(pid: int, children: set[int]) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    children.discard(pid)
    return os.waitstatus_to_exitcode(status)


def become(order: dict[str, Any]) -> NoReturn:
    """In the child: the command line, with the sender's pid in every request."""
    from django.conf import settings

    from certctl.__main__ import main as certctl

    code = 0
    try:
        redirect(order["log"])
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "BASE_URL": f"http://worker-{os.getpid()}.test"}
        sys.argv = ["certctl", *order["command"]]
        if order.get("shift"):
            then = datetime.now(UTC) + timedelta(seconds=order["shift"])
            time_machine.travel(then, tick=True).start()
        certctl()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def redirect(log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


if __name__ == "__main__":
    main()
