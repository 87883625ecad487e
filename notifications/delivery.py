"""One sweep at a time, for cron, commands and Python callers, and the worker that sweeps for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.apps import apps

from . import conf
from .engine import worker
from .engine.handover import Enqueue, HandOverSender
from .engine.heartbeat import beat
from .engine.loop import AnySender, Engine, delivering
from .engine.source import DueRows, Schedule
from .engine.sweep import Options, SweepResult, due
from .models import SweepKind

logger = logging.getLogger(__name__)

__all__ = ["SweepResult", "due", "retry_failed", "run_worker", "send_pending", "sweep"]


def retry_failed(**options: Any) -> SweepResult:
    """One sweep of the failed notifications that are due. See `sweep` for the options."""
    return sweep(SweepKind.RETRY, **options)


def send_pending(**options: Any) -> SweepResult:
    """One sweep of the pending notifications. See `sweep` for the options."""
    return sweep(SweepKind.PENDING, **options)


def sweep(
    kind: str,
    *,
    limit: int | None = None,
    max_attempts: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> SweepResult:
    """Run one sweep and answer its counts; limit, max_attempts and concurrency override the settings.

    The other options are those of engine.sweep.Options. Raises ImproperlyConfigured for bad settings, and
    django.db's errors when the database is away; a notification's own failure raises nothing. With
    a task engine (DISPATCH) it claims and enqueues, and raises what the engine raised when it could not take
    a batch; that batch is given back.
    """
    settings = conf.current()
    settings = replace(
        settings,
        sweep_limit=limit or settings.sweep_limit,
        max_attempts=max_attempts or settings.max_attempts,
        concurrency=concurrency or settings.concurrency,
    )
    run_options = Options(limit=settings.sweep_limit, **options)
    schedule = Schedule(DueRows(kind, settings, run_options))
    Engine(settings, run_options, [schedule], sender_of(settings)).run()
    return schedule.result or SweepResult(kind)


def run_worker(*, stop: Callable[[], bool], grace: timedelta | None = None) -> None:
    """Deliver until `stop` says so; see engine.worker.run. Other apps do what they do beside it."""
    settings = conf.current()
    beat(0)  # what is wrong with the database is the worker's to say, and others begin after it
    with ExitStack() as others:
        _begin_beside(others)
        worker.run(settings, sender_of(settings), stop=stop, grace=grace)


def _begin_beside(others: ExitStack) -> None:
    """`beside_worker` of an app's AppConfig, a context. One that fails keeps nobody from delivering."""
    for app in apps.get_app_configs():
        try:
            if beside := getattr(app, "beside_worker", None):
                others.enter_context(beside())
        except Exception:
            logger.exception("nothing of %s is done beside the worker", app.label)


def sender_of(settings: conf.Conf) -> Callable[[Engine], AnySender]:
    """Who sends: the engine itself, or a site's own task engine."""
    return delivering if settings.dispatch == "inline" else handing_over


def handing_over(engine: Engine) -> AnySender:
    return HandOverSender(
        engine.database,
        engine.clock,
        engine.lanes,
        enqueue=enqueue_of(engine.conf.dispatch),
        settings=engine.conf,
        patient=engine.options.patient,
    )


def enqueue_of(dispatch: str) -> Enqueue:
    """How a batch is given to the site's engine. Raises ImproperlyConfigured where that cannot take any.

    Imported late: where there is no task engine, nothing of it is needed.
    """
    if dispatch == "celery":
        from . import tasks

        # Bound here, in the thread that has the site's Celery app: in others Celery finds one of its own.
        return tasks.deliver_batch.delay  # type: ignore[no-any-return]
    from .engine import task_api

    return task_api.deliver_batch.enqueue  # type: ignore[no-any-return]
