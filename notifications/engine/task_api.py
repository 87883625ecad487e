"""The task of DISPATCH = "tasks", for an engine behind Django's Tasks API.

A sweep claims and enqueues batches (engine.handover); the engine's workers deliver them. The lease in the
table travels with the batch and stays the truth: a batch that its engine lost is due again when the lease
ends, and one that comes late finds nothing to do.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from . import handover

try:  # Django 6; before, its backport
    from django.tasks import task
    from django.tasks.exceptions import TaskException
except ImportError:
    try:
        from django_tasks import task  # type: ignore[no-redef, import-not-found, unused-ignore]
        from django_tasks.exceptions import TaskException  # type: ignore[assignment, import-not-found, no-redef, unused-ignore]
    except ImportError as error:
        raise ImproperlyConfigured(
            'NOTIFICATIONS["DISPATCH"] = "tasks" needs the package django-tasks on Django 5.2'
        ) from error

QUEUE = "notifications"


def queued(function: Any) -> Any:
    """The task. Raises ImproperlyConfigured where the site's engine would not take it."""
    try:
        return task(queue_name=QUEUE)(function)
    except TaskException as error:
        raise ImproperlyConfigured(
            f'NOTIFICATIONS["DISPATCH"] = "tasks" needs the queue {QUEUE!r}: add it to'
            f' TASKS["default"]["QUEUES"], and have a worker run it ({error})'
        ) from error


@queued
def deliver_batch(ids: list[str], leased_until: str) -> dict[str, float | str]:
    """See engine.handover.deliver_batch."""
    return handover.deliver_batch(ids, leased_until)
