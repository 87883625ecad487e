"""What `manage.py check` refuses of this app."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.db import router

from ..database import alias
from .models import Watch


@register()
def check_database(**_: Any) -> list[CheckMessage]:
    """An alert and the record that it was raised are one transaction."""
    if router.allow_migrate_model(alias(), Watch):
        return []
    text = f"the app's tables are not allowed in {alias()!r}, the database of the notifications"
    hint = (
        "Let the router's allow_migrate answer for notifications_certificates as it does for notifications."
    )
    return [Error(text, hint=hint, id="notifications_certificates.E001")]
