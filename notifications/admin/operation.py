"""The pages of operations: one while it runs and after, and what was done lately."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404

from ..models import BulkOperation, NotificationEvent
from ..operations import bulk
from ..operations.bulk import MEANWHILE, RUNNING
from ..operations.survey import many
from ..operations.verbs import Verb, verb_of
from .console import Console

LISTED = 100


def page(console: Console, request: HttpRequest, operation_id: int) -> HttpResponse:
    """GET shows how far it is. POST does the next step, as whoever may do such things."""
    operation = get_object_or_404(BulkOperation, pk=operation_id)
    verb = verb_of(operation.kind)
    may = verb.allowed_to(request.user)
    if request.method == "POST":
        if not may:
            raise PermissionDenied
        return _go_on(console, request, operation)
    context = {
        "title": f"{verb.label}: {'done' if operation.ended_at else 'in progress'}",
        "operation": operation,
        "verb": verb,
        "may": may,
        "scope": scope(operation),
        "requested": f"{operation.requested:,}",
        "progress": progress(operation),
        "back": console.url("changelist") + (f"?{operation.filters}" if operation.filters else ""),
    }
    return console.respond(request, "operation.html", context)


def begin(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse | None:
    """Its first step, and the page where it goes on; None, and a message, where that was all."""
    operation = bulk.step(operation.pk)
    if operation.ended_at is None:
        return HttpResponseRedirect(console.url("operation", operation.pk))
    log(request, operation)
    level = messages.SUCCESS if operation.changed else messages.WARNING
    console.message_user(request, report(operation), level)
    return None


def _go_on(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    running = operation.ended_at is None
    if "stop" in request.POST:
        bulk.stop(operation.pk, by=request.user.get_username())
        operation.refresh_from_db()
    else:
        operation = bulk.step(operation.pk)
    if running and operation.ended_at:
        log(request, operation)
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse(progress(operation))
    if running and operation.ended_at:
        console.message_user(request, report(operation), messages.SUCCESS)
    return HttpResponseRedirect(console.url("operation", operation.pk))


def listing(console: Console, request: HttpRequest) -> HttpResponse:
    """The newest operations, whoever began them."""
    newest = list(BulkOperation.objects.defer("ids")[:LISTED])
    rows = [
        (
            operation,
            console.url("operation", operation.pk),
            report(operation),
            scope(operation),
        )
        for operation in newest
    ]
    context = {"title": "Operations", "rows": rows, "listed": LISTED}
    return console.respond(request, "operations.html", context)


def log(request: HttpRequest, operation: BulkOperation) -> None:
    """One entry for one decision; each notification's own timeline says what happened to it."""
    text = report(operation)
    reason = f" Reason: {operation.reason}" if operation.reason else ""
    log_text(request, text, f" Scope: {scope(operation)}.{reason}")


def log_text(request: HttpRequest, text: str, more: str = "") -> None:
    """An entry of the admin's log that is about no single notification."""
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type=ContentType.objects.get_for_model(NotificationEvent),
        object_repr=text[:200],
        action_flag=CHANGE,
        change_message=text + more,
    )


# In words


def counted(count: int) -> str:
    return "1 notification" if count == 1 else f"{count:,} notifications"


def skipped(operation: BulkOperation) -> int:
    return sum(operation.skips.values())


def because(skips: dict[str, int]) -> str:
    """Why how many were left as they are: `1 attempt running, 10,000+ sent`."""
    return ", ".join(f"{many(count)} {why}" for why, count in sorted(skips.items()))


def rule(verb: Verb) -> str:
    *most, last = (status.replace("_", " ") for status in verb.statuses)
    return f"{verb.label.lower()} takes {', '.join(most)} and {last} notifications only"


def report(operation: BulkOperation) -> str:
    """What was done, in one honest sentence or two."""
    verb = verb_of(operation.kind)
    text = f"{verb.done}: {counted(operation.changed)}."
    if operation.skips:
        text += f" Skipped {many(skipped(operation))} ({because(operation.skips)}): {rule(verb)}."
    if operation.stopped_by:
        text += f" Stopped by {operation.stopped_by}."
    return text


def scope(operation: BulkOperation) -> str:
    if operation.ids is not None:
        return "selected rows"
    return f"all that match “{operation.filters}”" if operation.filters else "all notifications"


def progress(operation: BulkOperation) -> dict[str, Any]:
    """For the progress page and its script."""
    done = operation.changed + sum(operation.skips.get(why, 0) for why in (RUNNING, MEANWHILE))
    finished = operation.ended_at is not None and not operation.stopped_by
    return {
        "ended": operation.ended_at is not None,
        "changed": operation.changed,
        "done": done,
        "most": done if finished else max(operation.requested, done, 1),
        "at_least": operation.at_least,
        "report": report(operation),
    }
