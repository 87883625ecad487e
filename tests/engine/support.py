"""Processes that begin together, and a task engine in this one. Settings import it: no models here."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.db import connection, transaction

from tests.fixtures import Configure
from tests.processes import PATIENCE

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
