"""What the console's templates say of a time, in the words of all surfaces."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from ..admin import cells
from ..admin.console import under_way
from ..reporting import words
from ..reporting.snapshot import snapshot
from ..reporting.verdict import verdict

register = template.Library()
register.filter("timestamp", words.timestamp)
register.filter("minute", words.minute)
register.filter("number", words.count)


@register.inclusion_tag("admin/notifications/notificationevent/verdict.html")
def how_things_stand() -> dict[str, Any]:
    """For the admin's first page, whose reader may look at notifications."""
    shown = snapshot()
    return {"verdict": verdict(shown, shown.at or timezone.now(), recipients=True)}


@register.simple_tag
def operations_under_way() -> str:
    """`2 under way`; "" where none is."""
    return under_way() or ""


@register.filter
def ago(at: datetime) -> SafeString:
    """`3 h ago`, with the exact time for the pointer and for programs."""
    return cells.when(at, since(at))


@register.filter
def since(at: datetime) -> str:
    """The same, where the exact time is shown too."""
    return words.ago(at, timezone.now())


register.filter("problem", words.problem)
register.filter("outcome", words.outcome)
register.filter("channel", cells.channel)
register.filter("shortened", cells.shortened)
