"""Batches go to the site's own Celery, which runs them at once."""

from celery import Celery

from tests.hosts.site import *  # noqa: F403
from tests.hosts.site import NOTIFICATIONS

NOTIFICATIONS["DISPATCH"] = "celery"
CELERY_TASK_ALWAYS_EAGER = CELERY_TASK_EAGER_PROPAGATES = True

app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
