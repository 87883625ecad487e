"""Probes: /healthz (the process answers) and /readyz (it can work, for READYZ_ACCESS). Without details."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from .. import database
from ..database import database_now, without_transaction
from ..text import one_line
from . import activity
from .access import refusal
from .metrics import answers

logger = logging.getLogger(__name__)


@without_transaction
@csrf_exempt
@require_safe
@never_cache
def alive(request: HttpRequest) -> JsonResponse:
    """200: the process answers. It looks at nothing else, so that a database outage restarts nobody."""
    return JsonResponse({"status": "ok"})


@without_transaction
@csrf_exempt
@require_safe
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """200 with each part's state; 503 when a part is not ready.

    A database that does not answer at all is found out in two seconds: probes that wait for it would
    take the threads that `alive` and /metrics need.
    """
    if (refused := refusal("READYZ_ACCESS", request)) is not None:
        return refused
    there = answers()
    parts = {name: checked(name, check) if there else {"ok": False} for name, check in CHECKS.items()}
    is_ready = all(part["ok"] for part in parts.values())
    return JsonResponse(
        {"status": "ready" if is_ready else "not ready", "checks": parts}, status=200 if is_ready else 503
    )


def checked(name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check()
    except (DatabaseError, InterfaceError) as error:
        # Why is for the log: a database's words can name hosts and users.
        logger.warning("readiness: the check of %s failed: %s", name, one_line(str(error)))
        return {"ok": False}


def reachable() -> dict[str, Any]:
    """Not a server that was failed over from, which takes no change."""
    return {"ok": not database.is_read_only()}


def migrations() -> dict[str, Any]:
    executor = MigrationExecutor(database.connection())
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return {"ok": not missing, "missing": missing}


def sweep() -> dict[str, Any]:
    """Of the kind that swept last: a site may run one of them only."""
    longest = activity.longest_pause()
    last = max(activity.last_ends(), default=None)
    age = database_now() - last if last else None
    ok = age is not None and age <= longest
    return {"ok": ok, **seconds_ago(age), "at_most": round(longest.total_seconds())}


def workers() -> dict[str, Any]:
    """Not ready: there was an always-on worker, it fell silent, and nobody swept since.

    Sites that sweep by cron have none, and a worker that was told to end is not missed.
    """
    now = database_now()
    found = activity.workers(now)
    age = now - found.seen_at if found.seen_at else None
    return {"ok": not found.went_silent(activity.last_ends()), "alive": found.alive, **seconds_ago(age)}


def seconds_ago(age: timedelta | None) -> dict[str, int | None]:
    return {"seconds_ago": None if age is None else round(max(age, timedelta(0)).total_seconds())}


CHECKS = {"database": reachable, "migrations": migrations, "sweep": sweep, "workers": workers}
