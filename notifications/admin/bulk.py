"""A verb on many notifications: ask first with counts, then say what was done and what was not."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import ModelAdmin
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Max, Q
from django.db.models.functions import Coalesce, Lower
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from ..models import NotificationEvent
from ..queryset import UNDELIVERED, NotificationQuerySet, database_now, free
from .verbs import Verb

CONFIRM_TEMPLATE = "admin/notifications/notificationevent/confirm.html"
GROUPS_SHOWN = 20


def run(
    model_admin: ModelAdmin[NotificationEvent],
    request: HttpRequest,
    rows: NotificationQuerySet,
    verb: Verb,
) -> HttpResponse | None:
    """The action itself: a page that asks, or (confirmed) None, which sends the browser back to the list."""
    refused = refusals(rows, verb)
    if "confirm" not in request.POST:
        return confirmation(model_admin, request, rows, verb, refused)
    changed, skipped = verb.on_rows(rows, by=request.user.get_username())
    told = f"{verb.done}: {counted(changed)}."
    if skipped:
        told += f" Skipped {skipped} ({because(refused, skipped)}): {rule(verb)}."
    log(request, told)
    model_admin.message_user(request, told, messages.SUCCESS if changed else messages.WARNING)
    return None


def refusals(rows: NotificationQuerySet, verb: Verb) -> dict[str, int]:
    """How many the rules will refuse, and what they are."""
    busy = Count("pk", filter=Q(status__in=UNDELIVERED) & ~free(database_now(rows.db)))
    found: dict[str, int] = {}
    per_status = rows.values_list("status").annotate(total=Count("pk"), running=busy).order_by("status")
    for status, total, running in per_status:
        if status not in verb.statuses:
            found[status] = total
        elif running:
            found["attempt running"] = running
    return found


def because(refused: dict[str, int], skipped: int) -> str:
    """The refusals in words; others may have changed between the count and the verb."""
    parts = [f"{count} {what}" for what, count in refused.items()]
    if (others := skipped - sum(refused.values())) > 0:
        parts.append(f"{others} changed in the meantime")
    return ", ".join(parts)


def counted(count: int) -> str:
    return f"{count} notification" if count == 1 else f"{count} notifications"


def rule(verb: Verb) -> str:
    return f"{verb.label.lower()} takes {' and '.join(verb.statuses)} notifications only"


def confirmation(
    model_admin: ModelAdmin[NotificationEvent],
    request: HttpRequest,
    rows: NotificationQuerySet,
    verb: Verb,
    refused: dict[str, int],
) -> TemplateResponse:
    """Ask first. select_across goes on to the answer, or `all` would shrink to one page."""
    idle = free(database_now(rows.db)) | ~Q(status__in=UNDELIVERED)
    chosen = rows.filter(idle, status__in=verb.statuses).order_by()
    channels = tallied(chosen, "folded")
    shown = tallied(chosen, "folded", "problem", limit=GROUPS_SHOWN)
    total = sum(channel["count"] for channel in channels)
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "title": f"{verb.label}: {counted(total)}?" if total else f"{verb.label}: nothing to do",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "is_nav_sidebar_enabled": False,
        "verb": verb,
        "total": total,
        "channels": channels,
        "groups": shown,
        "others": total - sum(group["count"] for group in shown),
        "refused": because(refused, 0),
        "rule": rule(verb),
        "everything": request.POST.get("select_across") == "1",
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, CONFIRM_TEMPLATE, context)


def tallied(rows: NotificationQuerySet, *keys: str, limit: int | None = None) -> list[dict[str, Any]]:
    """How many there are of each kind, most first. Old rows say `email`, new ones `Email`: one channel."""
    kinds = rows.annotate(folded=Lower("channel"), problem=Coalesce("last_error", "error")).values(*keys)
    counts: Any = kinds.annotate(name=Max("channel"), count=Count("pk"))
    return list(counts.order_by("-count", *keys)[:limit])


def log(request: HttpRequest, told: str) -> None:
    """One entry for one decision; each notification's own timeline says what happened to it."""
    filters = request.META.get("QUERY_STRING", "")
    everything = request.POST.get("select_across") == "1"
    scope = f"all that match “{filters}”" if everything else "selected rows"
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type=ContentType.objects.get_for_model(NotificationEvent),
        object_repr=told[:200],
        action_flag=CHANGE,
        change_message=f"{told} Scope: {scope}.",
    )
