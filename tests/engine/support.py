"""Processes that begin together, a task engine in this one, one sweep, and answers that are lost."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import django
from django.db import OperationalError, connection, transaction

from notifications import conf
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options, SweepResult
from notifications.models import SweepKind
from tests.fixtures import Configure
from tests.processes import PATIENCE

AT_ONCE = 5  # attempts under way at an endpoint that has not answered yet
Beside = Callable[[Callable[[], object]], "Future[None]"]
TASKS = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


def hand_over(settings: Any, configure: Configure) -> None:
    """Sweeps hand over, to tasks that run at once, in this process."""
    backend = f"{TASKS}.backends.immediate.ImmediateBackend"
    settings.TASKS = {"default": {"BACKEND": backend, "QUEUES": ["default", "notifications"]}}
    configure(DISPATCH="tasks", TASK_BATCH=10)


def at_once(commands: list[list[str]], environment: dict[str, str]) -> list[dict[str, Any]]:
    """Run them all together; what each answered as JSON. All must succeed."""
    with starting_line(len(commands)) as started:
        for command in commands:
            started.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
    results = []
    for process in started:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        results.append(json.loads(output.splitlines()[-1]))
    return results


@contextmanager
def starting_line(runners: int) -> Iterator[list[subprocess.Popen[str]]]:
    """On PostgreSQL the processes started inside wait at the table until all of them are there."""
    started: list[subprocess.Popen[str]] = []
    if connection.vendor != "postgresql":
        yield started
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE notification_events IN EXCLUSIVE MODE")
        yield started
        deadline = time.monotonic() + PATIENCE
        while waiting_for_the_table(cursor) < runners:
            assert time.monotonic() < deadline, "the processes did not come to the table"
            assert [process.poll() for process in started] == [None] * runners, "a process ended too early"
            time.sleep(0.01)


def waiting_for_the_table(cursor: Any) -> int:
    cursor.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = 'notification_events'::regclass AND NOT granted"
    )
    count: int = cursor.fetchone()[0]
    return count


def lost_once(act: Callable[..., Any]) -> Callable[..., Any]:
    """Does as it should; the first answer does not come."""
    answers: list[Any] = []

    def acting(*args: Any, **options: Any) -> Any:
        answers.append(act(*args, **options))
        if len(answers) == 1:
            raise OperationalError("the server closed the connection unexpectedly")
        return answers[-1]

    return acting


def deliver_patiently() -> SweepResult:
    """One sweep, by an engine that waits for a database that is away."""
    settings, options = conf.current(), Options(limit=100, patient=True)
    schedule = Schedule(DueRows(SweepKind.PENDING, settings, options))
    Engine(settings, options, [schedule]).run()
    assert schedule.result
    return schedule.result
