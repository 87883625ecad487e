"""The project as an app: it has nothing but a check of its environment."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

HINT = "See docs/channels.md, and what is set: a name may be misspelt."


class CertctlConfig(AppConfig):
    name = "certctl"

    def ready(self) -> None:
        register(check_environment)


def check_environment(**_: Any) -> list[CheckMessage]:
    """Of a channel that is off for want of one variable, nobody would hear otherwise."""
    return [Warning(half, hint=HINT, id="certctl.W001") for half in settings.HALF_CONFIGURED]
