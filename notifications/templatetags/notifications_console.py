"""What the console's templates say of a time, in the words of all surfaces."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from ..admin import cells
from ..reporting import words

register = template.Library()
register.filter("timestamp", words.timestamp)
register.filter("minute", words.minute)


@register.filter
def ago(at: datetime) -> SafeString:
    """`3 h ago`, with the exact time for the pointer and for programs."""
    return cells.when(at, since(at))


@register.filter
def since(at: datetime) -> str:
    """The same, where the exact time is shown too."""
    return words.ago(at, timezone.now())
