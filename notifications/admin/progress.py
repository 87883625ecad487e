"""The pages of operations: one while it runs and after, and what was done lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404

from ..models import BulkOperation
from . import bulk, operations
from .verbs import verb_of

if TYPE_CHECKING:
    from . import NotificationAdmin

TEMPLATES = "admin/notifications/notificationevent"
LISTED = 100


def page(console: NotificationAdmin, request: HttpRequest, operation_id: int) -> HttpResponse:
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
        "scope": operations.scope(operation),
        "requested": f"{operation.requested:,}",
        "progress": operations.progress(operation),
        "back": console.url("changelist") + (f"?{operation.filters}" if operation.filters else ""),
    }
    return console.respond(request, f"{TEMPLATES}/operation.html", context)


def _go_on(console: NotificationAdmin, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    running = operation.ended_at is None
    if "stop" in request.POST:
        operations.stop(operation.pk, by=request.user.get_username())
        operation.refresh_from_db()
    else:
        operation = operations.step(operation.pk)
    if running and operation.ended_at:
        bulk.log(request, operation)
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse(operations.progress(operation))
    if running and operation.ended_at:
        console.message_user(request, operations.told(operation), messages.SUCCESS)
    return HttpResponseRedirect(console.url("operation", operation.pk))


def listing(console: NotificationAdmin, request: HttpRequest) -> HttpResponse:
    """The newest operations, whoever began them."""
    newest = list(BulkOperation.objects.defer("ids")[:LISTED])
    rows = [
        (
            operation,
            console.url("operation", operation.pk),
            operations.told(operation),
            operations.scope(operation),
        )
        for operation in newest
    ]
    context = {"title": "Operations", "rows": rows, "listed": LISTED}
    return console.respond(request, f"{TEMPLATES}/operations.html", context)
