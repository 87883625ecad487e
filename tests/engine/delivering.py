"""One sweep in this thread, and answers of the database that are lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from django.db import OperationalError

from notifications import conf
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options, SweepResult
from notifications.models import SweepKind

AT_ONCE = 5  # attempts under way at an endpoint that has not answered yet
Beside = Callable[[Callable[[], object]], "Future[None]"]


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
