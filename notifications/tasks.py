"""The task of DISPATCH = "celery". Celery looks for tasks in a module of this name.

Batches travel as those of task_api do. Its queue is Celery's default one; a site routes it by its name.
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from .engine import handover

try:
    from celery import shared_task
except ImportError as error:
    raise ImproperlyConfigured('NOTIFICATIONS["DISPATCH"] = "celery" needs the package celery') from error


@shared_task(name="notifications.deliver_batch", ignore_result=True)  # type: ignore[untyped-decorator]
def deliver_batch(ids: list[str], leased_until: str) -> dict[str, float | str]:
    """See engine.handover.deliver_batch."""
    return handover.deliver_batch(ids, leased_until)
