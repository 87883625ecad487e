"""The pages of operations: one while it runs and after, and what was done lately.

A GET changes nothing. Whoever confirmed an operation carries it out, a POST after the other, and whoever
presses Continue takes that over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, OperationKind
from ..operations import bulk
from ..operations.bulk import MEANWHILE, RENEWED, RUNNING
from ..operations.filters import REDRIVE, Filters, matching, not_changed_by, of_query
from ..operations.follow import Deed, became, done_since, undone, undone_apart
from ..operations.survey import COUNTED, capped, many
from ..operations.verbs import TAKEN_BACK, Verb, verb_of
from ..reporting import words
from ..text import isolated
from . import cells
from .console import Console
from .guard import in_part

LISTED = 100
QUIET = timedelta(seconds=15)  # after so long without a batch, nobody carries it out
SAME_METHOD = 307  # the browser posts what it posted, there
BEGUN = "begun"  # in the address to which it does
A_MOMENT = timedelta(minutes=10)


class Undone(NamedTuple):
    """Who took back how many, and the page of the operation that did, "" where it was none."""

    by: str
    at: datetime
    number: str
    done: str
    operation: int | None
    url: str


class Became(NamedTuple):
    """How many are in a state now, and the list of just these."""

    badge: Any
    number: str
    url: str


def page(console: Console, request: HttpRequest, operation_id: int, template: str) -> HttpResponse:
    """GET shows how far it is. POST carries it out, stops it, takes it back, or does what it has left."""
    operation = get_object_or_404(BulkOperation, pk=operation_id)
    if request.method != "POST":
        return _shown(console, request, operation, template)
    verb = verb_of(operation.kind)
    if not verb.allowed_to(request.user):
        raise PermissionDenied
    if BEGUN in request.GET and not _is_script(request):
        mine = operation.ended_at is None and operation.driven_by == request.user.get_username()
        return _shown(console, request, operation, "operation.html", drives=mine)
    decisions: dict[str, Callable[[Console, HttpRequest, BulkOperation], HttpResponse]] = {
        "stop": _stop,
        "undo": _undo,
        "rest": _rest,
    }
    decide = next((decisions[name] for name in decisions if name in request.POST), _go_on)
    return decide(console, request, operation)


def _shown(
    console: Console, request: HttpRequest, operation: BulkOperation, template: str, *, drives: bool = False
) -> HttpResponse:
    """drives: the page posts on by itself. Never the answer to a GET."""
    verb = verb_of(operation.kind)
    may = verb.allowed_to(request.user)
    now = timezone.now()
    undone_by = TAKEN_BACK.get(OperationKind(operation.kind))
    may_undo = undone_by is not None and undone_by.allowed_to(request.user) and not drives
    taken_back = undone(operation)
    context = {
        "title": f"{verb.label}: {standing(operation, taken_back)}",
        "operation": operation,
        "verb": verb,
        "may": may,
        "drives": drives,
        "watched": not drives and (not operation.ended_at or operation.kind == OperationKind.REQUEUE),
        "carried_out": carried_out(operation, now) if operation.ended_at is None else "",
        "taken_over": [(t["by"], parse_datetime(t["at"])) for t in operation.taken_over or ()],
        "scope": scope(operation),
        "nothing": _why_nothing(console, operation),
        "undone": [_undone(console, operation, deed) for deed in taken_back],
        "undoes_url": console.url("operation", operation.undoes_id) if operation.undoes_id else "",
        "requested": f"{operation.requested:,}",
        "progress": progress(operation),
        "became": _became(console, operation),
        "undone_by": undone_by,
        "undoable": capped(bulk.undoable(operation)) if may_undo else 0,
        "rest": capped(remaining(operation)) if may and operation.stopped_by and not taken_back else 0,
        "operation_url": console.url("operation", operation.pk),
        "back": console.url("changelist") + (f"?{operation.filters}" if operation.filters else ""),
    }
    for name in ("undoable", "rest"):
        context[f"{name}_text"] = many(context[name])  # type: ignore[arg-type]
    return console.respond(request, template, context)


def standing(operation: BulkOperation, taken_back: Sequence[Deed] = ()) -> str:
    """taken_back: of follow.undone."""
    if operation.ended_at is None:
        return "in progress"
    if taken_back:
        return "undone" if sum(deed.count for deed in taken_back) >= operation.changed else "partly undone"
    return "stopped" if operation.stopped_by else "done"


def _why_nothing(console: Console, operation: BulkOperation) -> SafeString | str:
    """Of one that ended and changed nothing: who had been there before, or what it takes; "" of others."""
    if operation.changed or operation.ended_at is None or operation.undoes_id is not None:
        return ""
    since = operation.started_at - A_MOMENT
    deeds = done_since(since, ids=operation.ids, but=operation.pk, until=operation.ended_at)
    if deeds:
        return told(console, deeds)
    return f"There was none that it could take: {rule(verb_of(operation.kind))}."


def _undone(console: Console, operation: BulkOperation, deed: Deed) -> Undone:
    url = console.url("operation", deed.operation) if deed.operation else ""
    verb = TAKEN_BACK[OperationKind(operation.kind)]
    return Undone(deed.by, deed.at, many(deed.count), verb.counted, deed.operation, url)


def _became(console: Console, operation: BulkOperation) -> list[Became]:
    if not operation.changed or (operation.kind == OperationKind.UNDO and not operation.undoes_id):
        return []
    address = console.url("changelist")
    return [
        Became(cells.badge(kind), many(count), f"{address}?status={kind}&operation={operation.pk}")
        for kind, count in became(operation).items()
    ]


def remaining(operation: BulkOperation) -> NotificationQuerySet:
    """What a stopped one left as it was, and could be done still: none that it changed and died again."""
    rows: NotificationQuerySet = NotificationEvent.objects.all()
    if operation.undoes_id is not None:
        return rows.none()
    if operation.ids is not None:
        rows = not_changed_by(rows.filter(pk__in=operation.ids), [operation.pk])
    else:
        rows = matching(_of_the_rest(operation))
    return rows.filter(verb_of(operation.kind).allows())


def _of_the_rest(operation: BulkOperation) -> Filters:
    """What was meant, but for what it changed and what was raised since."""
    meant = of_query(operation.filters, operation.started_at)
    until = min(meant.until or operation.started_at, operation.started_at)
    return replace(meant, until=until, left_by=(*meant.left_by, operation.pk))


# Carrying out


def begin(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse | None:
    """Its first step, and the page that carries it on; None, and a message, where that was all.

    The browser posts its confirmation there as well: only the answer to a POST drives.
    """
    operation = bulk.step(operation.pk)
    if operation.ended_at is None:
        there = HttpResponseRedirect(console.url("operation", operation.pk) + f"?{BEGUN}=1")
        there.status_code = SAME_METHOD
        return there
    log(request, operation)
    level = messages.SUCCESS if operation.changed else messages.WARNING
    said = (report(operation), meanwhile(console, request, operation), _led(console, operation))
    text = format_html_join(" ", "{}", ((part,) for part in said if part))
    console.message_user(request, text, level)
    return None


def _led(console: Console, operation: BulkOperation) -> SafeString:
    """To its page, where it did anything."""
    if not operation.changed:
        return SafeString("")
    what = "What became of them, and Undo" if _can_be_undone(operation) else "What became of them"
    return format_html('<a href="{}">{}</a>', console.url("operation", operation.pk), what)


def _can_be_undone(operation: BulkOperation) -> bool:
    return OperationKind(operation.kind) in TAKEN_BACK


def _go_on(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    """The next step, by whoever carries it out, or from now on does."""
    user = request.user.get_username()
    is_script = _is_script(request)
    running = operation.ended_at is None
    mine = (operation.driven_by or operation.by) == user
    if is_script and running and not mine:
        return JsonResponse({"error": f"{operation.driven_by} goes on with it."}, status=409)
    if running and (not mine or "continue" in request.POST):
        operation = bulk.take_over(operation.pk, user)
        log_text(request, f"Continued: {report(operation)}", f" Begun by {operation.by}.")
    operation = bulk.step(operation.pk)
    ended = running and operation.ended_at is not None
    if ended:
        log(request, operation)
    if is_script:
        return JsonResponse(progress(operation))
    if operation.ended_at is None:
        return _shown(console, request, operation, "operation.html", drives=True)
    if ended:
        console.message_user(request, report(operation), messages.SUCCESS)
    return HttpResponseRedirect(console.url("operation", operation.pk))


def _is_script(request: HttpRequest) -> bool:
    return "application/json" in request.headers.get("Accept", "")


def _stop(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    running = operation.ended_at is None
    bulk.stop(operation.pk, by=request.user.get_username())
    operation.refresh_from_db()
    if running:
        log(request, operation)
        console.message_user(request, report(operation), messages.WARNING)
    return HttpResponseRedirect(console.url("operation", operation.pk))


def _undo(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    verb = TAKEN_BACK.get(OperationKind(operation.kind))
    here = HttpResponseRedirect(console.url("operation", operation.pk))
    if verb is None:
        console.message_user(request, "This cannot be taken back.", messages.WARNING)
        return here
    if not verb.allowed_to(request.user):
        raise PermissionDenied
    by = request.user.get_username()
    undo = bulk.undo(operation, by=by, via="admin", reason=_reason(request))
    return begin(console, request, undo) or here


def _rest(console: Console, request: HttpRequest, operation: BulkOperation) -> HttpResponse:
    """A new decision about what the stopped one had left; nothing that was raised since."""
    here = HttpResponseRedirect(console.url("operation", operation.pk))
    if not operation.stopped_by or operation.undoes_id is not None or undone(operation):
        console.message_user(request, "There is nothing left of it to do.", messages.WARNING)
        return here
    left = remaining(operation)
    requested = capped(left)
    another = bulk.start(
        verb_of(operation.kind),
        filters="" if operation.ids is not None else _of_the_rest(operation).query,
        ids=None if operation.ids is None else [*left.values_list("pk", flat=True)],
        requested=min(requested, COUNTED),
        at_least=requested > COUNTED,
        by=request.user.get_username(),
        via="admin",
        reason=_reason(request) or operation.reason,
    )
    return begin(console, request, another) or here


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\x00", "").strip()


def listing(console: Console, request: HttpRequest) -> HttpResponse:
    """The newest operations, whoever began them."""
    now = timezone.now()
    newest = list(BulkOperation.objects.defer("ids")[:LISTED])
    undos = {one.undoes_id: one for one in newest if one.undoes_id and one.changed}
    [others] = in_part(lambda: undone_apart(newest, but=[undo.pk for undo in undos.values()]))
    rows = [
        (
            operation,
            console.url("operation", operation.pk),
            report(operation),
            scope(operation),
            carried_out(operation, now) if operation.ended_at is None else "",
            _undo_of(console, undos.get(operation.pk)),
            words.count((others or {}).get(operation.pk, 0)),
            console.url("operation", operation.undoes_id) if operation.undoes_id else "",
        )
        for operation in newest
    ]
    context = {"title": "Operations", "rows": rows, "listed": LISTED, "unread": others is None}
    return console.respond(request, "operations.html", context)


def _undo_of(console: Console, undo: BulkOperation | None) -> Undone | None:
    if undo is None:
        return None
    verb, url = verb_of(undo.kind), console.url("operation", undo.pk)
    at = undo.stepped_at or undo.started_at
    return Undone(undo.by, at, f"{undo.changed:,}", verb.counted, undo.pk, url)


def log(request: HttpRequest, operation: BulkOperation) -> None:
    """One entry for one decision; each notification's own timeline says what happened to it."""
    text = report(operation)
    reason = f" Reason: {operation.reason}" if operation.reason else ""
    whose = "" if operation.by == request.user.get_username() else f" Confirmed by {operation.by}."
    log_text(request, text, f" Scope: {scope(operation)}.{whose}{reason}")


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
    which = f"{', '.join(most)} and {last}" if most else last
    return f"{verb.label.lower()} takes {which} notifications only"


def report(operation: BulkOperation) -> str:
    """What was done, in one honest sentence or two."""
    verb = verb_of(operation.kind)
    text = f"{verb.done}: {counted(operation.changed)}."
    if operation.skips:
        text += f" Skipped {many(skipped(operation))} ({because(operation.skips)}): {rule(verb)}."
    if operation.stopped_by:
        text += f" Stopped by {isolated(operation.stopped_by)}."
    return text


def carried_out(operation: BulkOperation, now: datetime) -> str:
    """Who carries out what is not finished."""
    if operation.via == REDRIVE:
        return "The sweeps carry it out, a batch at a time."
    driver = isolated(operation.driven_by or operation.by)
    last = operation.stepped_at or operation.started_at
    if operation.via != "admin" and not operation.taken_over:
        return f"{driver} carries it out via {operation.via}; the last batch was {words.ago(last, now)}."
    if now - last < QUIET:
        return f"{driver} is carrying it out; the last batch was {words.ago(last, now)}."
    return f"Nobody is carrying it out: {driver} left it {words.ago(last, now)}."


def meanwhile(console: Console, request: HttpRequest, operation: BulkOperation) -> SafeString:
    """Who was first, where something that was asked about is not there to change any more."""
    asked = parse_datetime(request.POST.get("asked_at", "")) if "asked_at" in request.POST else None
    expected = request.POST.get("asked_for", "")
    if operation.changed and not (expected.isdecimal() and operation.changed < int(expected)):
        return SafeString("")
    since = asked if asked and timezone.is_aware(asked) else operation.started_at - A_MOMENT
    ids = None if operation.ids is None else request.POST.getlist(ACTION_CHECKBOX_NAME)
    return told(console, done_since(since, ids=ids, but=operation.pk))


def told(console: Console, deeds: Sequence[Deed], *, one: bool = False) -> SafeString:
    """Who did what. one: to a single notification, which was asked about."""
    now = timezone.now()
    said = ((_deed(deed, now, one), _numbered(console, deed)) for deed in deeds)
    return format_html_join(" ", "{}{}.", said)


def _deed(deed: Deed, now: datetime, one: bool) -> str:
    """`ada: requeued 300 of these 12 s ago`"""
    some = f"{deed.count:,} of these" if deed.these else counted(deed.count)
    what = "it" if one else some
    verb = verb_of(deed.kind).done.lower()
    return f"{isolated(deed.by) or 'Somebody unnamed'}: {verb} {what} {words.ago(deed.at, now)}"


def _numbered(console: Console, deed: Deed) -> SafeString:
    if not deed.operation:
        return SafeString("")
    return format_html(
        ' (<a href="{}">operation {}</a>)', console.url("operation", deed.operation), deed.operation
    )


def scope(operation: BulkOperation) -> str:
    if operation.undoes_id is not None:
        return f"what operation {operation.undoes_id} changed"
    if operation.ids is not None:
        return "selected rows"
    return words.matching(operation.filters, operation.started_at)


def progress(operation: BulkOperation) -> dict[str, Any]:
    """For the progress page and its script."""
    done = operation.changed + sum(operation.skips.get(why, 0) for why in (RUNNING, RENEWED, MEANWHILE))
    finished = operation.ended_at is not None and not operation.stopped_by
    return {
        "ended": operation.ended_at is not None,
        "changed": operation.changed,
        "done": done,
        "most": done if finished else max(operation.requested, done, 1),
        "at_least": operation.at_least,
        "report": report(operation),
    }
