"""One sweep at a time, for cron, commands and Python callers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import conf
from .engine.loop import Engine
from .engine.sweep import Options, Source, SweepResult, due
from .models import SweepKind

__all__ = ["SweepResult", "due", "retry_failed", "send_pending", "sweep"]


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

    The other options are those of sweeps.Options. Raises ImproperlyConfigured for bad settings and
    django.db's errors when the database is away; a notification's own failure raises nothing.
    """
    settings = conf.current()
    settings = replace(
        settings,
        sweep_limit=limit or settings.sweep_limit,
        max_attempts=max_attempts or settings.max_attempts,
        concurrency=concurrency or settings.concurrency,
    )
    run_options = Options(limit=settings.sweep_limit, **options)
    if settings.dispatch == "tasks":
        from .engine.tasks import dispatch  # where there is no task engine, nothing of it is needed

        return dispatch(kind, settings, run_options)
    source = Source(kind)
    Engine(settings, run_options, [source]).run()
    return source.result
