"""The project as an app: it has nothing but a check of its environment."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

MISSPELT = "See docs/channels.md, and what is set: a name may be misspelt."
UNREAD = "docs/operating.md, Settings, and docs/channels.md list all that is read."
MEND = "Until it is mended, what is raised on this channel dies and says why; then requeue it."


logger = logging.getLogger(__name__)


class CertctlConfig(AppConfig):
    name = "certctl"

    def ready(self) -> None:
        # Also where another package has overwritten the app's own apps.py, which is what they find.
        import notifications.checks  # noqa: F401

        register(check_environment)
        if settings.UNKNOWN and sys.argv[1:2] != ["check"]:
            logger.warning("%s", "; ".join(settings.UNKNOWN))
        if settings.NOTIFICATIONS["DISPATCH"] == "celery":
            from notifications.delivery import enqueue_of

            enqueue_of("celery")  # says in one line that Celery is not installed
            from . import celery  # noqa: F401  (what enqueues must know its broker)


def check_environment(**_: Any) -> list[CheckMessage]:
    """Of a channel that is off or refused for one variable nobody would hear otherwise."""
    half = [Warning(text, hint=MISSPELT, id="certctl.W001") for text in settings.HALF_CONFIGURED]
    refused = [Warning(text, hint=MEND, id="certctl.W002") for text in settings.REFUSED]
    unread = [Warning(text, hint=UNREAD, id="certctl.W003") for text in settings.UNKNOWN]
    return [*half, *refused, *unread]
