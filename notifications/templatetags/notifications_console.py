"""What the console's templates say of a time, in the words of its cells."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from ..admin import cells

register = template.Library()


@register.filter
def ago(at: datetime) -> SafeString:
    """`3 hours ago`, with the exact time for the pointer and for programs."""
    return cells.when(at, f"{cells.apart(at, timezone.now())} ago")


@register.filter
def since(at: datetime) -> str:
    """The same beside the exact time."""
    return f"{cells.apart(at, timezone.now())} ago"
