"""Workers say in the table that they live."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from ..database import database_now
from ..models import Worker
from ..text import one_line
from .sweep import worker_name

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
FORGOTTEN = timedelta(days=1)  # and for so long: nobody waits for it any more


LATE = timedelta(seconds=6 * BEAT_SECONDS)  # a worker that was not seen for so long is gone


def beat(in_flight: int) -> None:
    """Say in the table that this worker lives; its rows are the console's and /readyz's heartbeat."""
    now = database_now()
    Worker.objects.update_or_create(
        name=worker_name(),
        defaults={"seen_at": now, "in_flight": in_flight},
        create_defaults={"started_at": now, "seen_at": now, "in_flight": in_flight},
    )
    Worker.objects.filter(seen_at__lt=now - FORGOTTEN).delete()


def farewell() -> None:
    """A worker that ends in order is not missed."""
    try:
        Worker.objects.filter(name=worker_name()).delete()
    except Exception as error:
        logger.warning("the heartbeat could not be taken away: %s", one_line(str(error)))


def heartbeats(now: datetime | None = None) -> list[Worker]:
    """The workers that were seen lately, newest first."""
    since = (now or database_now()) - LATE
    return list(Worker.objects.filter(seen_at__gte=since).order_by("-seen_at")[:100])


def lives_here() -> bool:
    """Whether a worker of this host was seen lately."""
    host = worker_name().rpartition(":")[0]
    return any(worker.name.rpartition(":")[0] == host for worker in heartbeats())
