"""What `manage.py check` refuses, each with an id and a way out."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from . import conf


@register()
def check_settings(**_: Any) -> list[CheckMessage]:
    given = getattr(settings, "NOTIFICATIONS", {})
    return [
        Error(fault, hint="See docs/operating.md, Settings.", id="notifications.E001")
        for fault in conf.faults(given)
    ]
