"""The Celery app, where CERTCTL_NOTIFICATION_DISPATCH says `celery`: `celery -A certctl worker`."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "certctl.settings")

app = Celery("certctl")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()  # in a web server's threads, too
