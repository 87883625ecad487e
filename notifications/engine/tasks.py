"""The hand-over to a site's own task engine, through Django's Tasks API.

With DISPATCH = "tasks" a sweep claims and enqueues batches; the engine's workers deliver them. The
lease in the table travels with the batch and stays the truth: a batch that its engine lost is due again
when the lease ends, and one that comes late finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..queue.claim import Claimed, still_held
from .loop import Engine
from .sweep import Options, Source, SweepResult

try:  # Django 6; before, its backport
    from django.tasks import task
except ImportError:
    try:
        from django_tasks import task  # type: ignore[no-redef, import-not-found, unused-ignore]
    except ImportError as error:
        raise ImproperlyConfigured(
            'NOTIFICATIONS["DISPATCH"] = "tasks" needs the package django-tasks on Django 5.2'
        ) from error

QUEUE = "notifications"


@task(queue_name=QUEUE)
def deliver_batch(ids: list[str], leased_until: str) -> dict[str, float | str]:
    """Deliver the notifications that are still under the lease they were claimed with.

    ids           of at most TASK_BATCH notifications
    leased_until  ISO 8601, as the claim wrote it
    Answers the counts of a sweep.
    """
    mine = still_held(ids, datetime.fromisoformat(leased_until))
    settings = conf.current()
    source = Source("batch", rows=mine)
    Engine(settings, Options(limit=len(ids), log=False), [source]).run()
    return source.result.as_dict()


def dispatch(kind: str, settings: conf.Conf, options: Options) -> SweepResult:
    """One sweep that claims and enqueues; `claimed` is what was handed over.

    Raises what the task engine raised when it could not take a batch; that batch is given back.
    """
    engine = Engine(settings, options, [Source(kind)])
    return engine.dispatch(partial(enqueue), settings.task_batch)


def enqueue(batch: Sequence[Claimed]) -> None:
    deliver_batch.enqueue([event.id for event in batch], batch[0].leased_until.isoformat())
