"""Probes: /healthz (the process answers) and /readyz (it can work). Public, and without details."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Max, Q
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from .. import conf, database
from ..database import database_now
from ..engine.heartbeat import FORGOTTEN, LATE
from ..models import SweepKind, SweepRun, Worker
from .metrics import answers

logger = logging.getLogger(__name__)

MISSED_SWEEPS = 3


@csrf_exempt
@require_safe
@never_cache
def alive(request: HttpRequest) -> JsonResponse:
    """200: the process answers. It looks at nothing else, so that a database outage restarts nobody."""
    return JsonResponse({"status": "ok"})


@csrf_exempt
@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """200 with each part's state; 503 when a part is not ready.

    A database that does not answer at all is found out in two seconds: probes that wait for it would
    take the threads that `alive` and /metrics need.
    """
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
        logger.warning("readiness: the check of %s failed: %s", name, " ".join(str(error).split()))
        return {"ok": False}


def reachable() -> dict[str, Any]:
    with database.connection().cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"ok": True}


def migrations() -> dict[str, Any]:
    executor = MigrationExecutor(database.connection())
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    return {"ok": not missing, "missing": missing}


def sweep() -> dict[str, Any]:
    """Of the kind that swept last: a site may run one of them only."""
    settings = conf.current()
    longest = MISSED_SWEEPS * max(settings.retry_interval, settings.process_interval)
    last = last_sweep()
    age: timedelta | None = database_now() - last if last else None
    ok = age is not None and age <= longest
    return {"ok": ok, **waited(age), "at_most": round(longest.total_seconds())}


def last_sweep() -> datetime | None:
    # One look into the index for each kind; asked for both at once, it would read the whole table.
    ends = SweepRun.objects.order_by("-ended_at").values_list("ended_at", flat=True)
    return max((end for kind in SweepKind if (end := ends.filter(kind=kind).first())), default=None)


def workers() -> dict[str, Any]:
    """The always-on workers' heartbeats. Not ready: there was one, it fell silent, and nobody swept since.

    Sites that sweep by cron have none, and a worker that was told to end is not missed.
    """
    now = database_now()
    seen = Worker.objects.filter(seen_at__gt=now - FORGOTTEN).aggregate(
        last=Max("seen_at"), alive=Count("pk", filter=Q(seen_at__gte=now - LATE))
    )
    silent = seen["last"] is not None and not seen["alive"]
    swept = last_sweep() if silent else None
    ok = not silent or (swept is not None and swept > seen["last"] + LATE)
    return {"ok": ok, "alive": seen["alive"], **waited(now - seen["last"] if seen["last"] else None)}


def waited(age: timedelta | None) -> dict[str, int | None]:
    return {"seconds_ago": None if age is None else round(max(age, timedelta(0)).total_seconds())}


CHECKS = {"database": reachable, "migrations": migrations, "sweep": sweep, "workers": workers}
