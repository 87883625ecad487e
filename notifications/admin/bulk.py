"""A verb on many notifications, from the list: ask first with counts, try one first, then carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.db.models import Count, Q
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import cached_property

from ..database import database_now
from ..models import BulkOperation, NotificationEvent, NotificationQuerySet, Status
from ..models.fields import UNDELIVERED
from ..models.queryset import free
from ..reporting import words
from . import narrowing, operations, sending
from .errors import with_problem
from .narrowing import DETAILED, NEWEST, capped, many, moment
from .operations import RUNNING, because, rule
from .survey import Survey
from .verbs import REQUEUE, Verb
from .walking import Found, Walk

if TYPE_CHECKING:
    from . import NotificationAdmin

CONFIRM_TEMPLATE = "admin/notifications/notificationevent/confirm.html"
GROUPS_SHOWN = 20
MOST_COUNTED = 100_000  # of all that match; the details are those of the newest DETAILED


def run(
    console: NotificationAdmin, request: HttpRequest, rows: NotificationQuerySet, verb: Verb
) -> HttpResponse | None:
    """The action itself: a page that asks, or (confirmed) its first step and where to go on.

    None sends the browser back to the list.
    """
    choice = Choice(request, rows, verb)
    if "count" in request.POST:
        return counting(choice)
    if "try" in request.POST and verb is REQUEUE and (first := choice.first):
        outcome = sending.requeue_and_send(first, by=request.user.get_username(), reason="tried first")
        console.log_change(request, first, outcome.told)
        return confirmation(console, request, Choice(request, rows, verb), outcome)
    if "confirm" not in request.POST:
        return confirmation(console, request, choice)
    operation = operations.start(
        request,
        verb,
        ids=None if choice.everything else [*rows.values_list("pk", flat=True)],
        requested=min(choice.total, MOST_COUNTED),
        at_least=choice.total > MOST_COUNTED or choice.partly,
        refused=choice.refused,
    )
    for _ in verb.statuses:  # a small one ends here: a step leads from one status to the next
        if operation.ended_at is None and operation.changed < operations.STEP:
            operation = operations.step(operation.pk)
    if operation.ended_at is None:
        return HttpResponseRedirect(console.url("operation", operation.pk))
    log(request, operation)
    level = messages.SUCCESS if operation.changed else messages.WARNING
    console.message_user(request, operations.told(operation), level)
    return None


@dataclass
class Choice:
    """What is about to be changed. rows: of every status, as the list shows them."""

    request: HttpRequest
    rows: NotificationQuerySet
    verb: Verb

    @property
    def everything(self) -> bool:
        return self.request.POST.get("select_across") == "1"

    @cached_property
    def partly(self) -> bool:
        """The list did not look at all that may match; the operation will."""
        return self.everything and narrowing.looks_at_a_part(self.filters)

    @property
    def filters(self) -> str:
        return str(self.request.META.get("QUERY_STRING", ""))

    @cached_property
    def idle(self) -> Q:
        """In nobody's hands."""
        return free(database_now()) | ~Q(status__in=UNDELIVERED)

    @cached_property
    def chosen(self) -> NotificationQuerySet:
        """Those that the rules allow now."""
        return self.rows.filter(self.idle, status__in=self.verb.statuses)

    @cached_property
    def survey(self) -> Survey:
        """Of the newest DETAILED."""
        rows = with_problem(self.chosen).order_by(*NEWEST)
        return Survey([Found(*row) for row in rows.values_list(*Found._fields)[:DETAILED]])

    @cached_property
    def total(self) -> int:
        """MOST_COUNTED + 1 when there are more."""
        detailed = len(self.survey.found)
        return detailed if detailed < DETAILED else capped(self.chosen, MOST_COUNTED)

    @property
    def first(self) -> NotificationEvent | None:
        return self.chosen.order_by(*NEWEST).first()

    @cached_property
    def refused(self) -> dict[str, int]:
        """How many the rules will refuse, and what they are; COUNTED + 1 for more."""
        busy = self.rows.filter(status__in=set(UNDELIVERED) & set(self.verb.statuses))
        found = self._of_other_statuses()
        found[RUNNING] = capped(busy.exclude(free(database_now())))
        return {why: count for why, count in found.items() if count}

    def _of_other_statuses(self) -> dict[str, int]:
        if not self.everything:
            counts = dict(self.rows.order_by().values_list("status").annotate(Count("pk")))
            return {status: count for status, count in counts.items() if status not in self.verb.statuses}
        named = QueryDict(self.filters).get("status")
        others = [s for s in Status.values if s not in self.verb.statuses and named in (None, "", s)]
        return {status: capped(self.rows.filter(status=status)) for status in others}


def counting(choice: Choice) -> HttpResponse:
    """The survey of the next batch of all that match; the page that asks adds them up."""
    try:
        began, place = (
            signing.loads(choice.request.POST["count"]) if choice.request.POST["count"] else ("", None)
        )
    except signing.BadSignature:
        return HttpResponseBadRequest("count: not where an answer of ours ended")
    at = moment(began) if began else timezone.now()
    found, after = Walk(choice.verb, choice.filters, at).batch(place, DETAILED, choice.idle)
    survey = Survey(found)
    oldest = survey.oldest
    return JsonResponse(
        {
            "count": len(found),
            "channels": survey.channels,
            "groups": [(group.channel, group.error, group.count) for group in survey.groups],
            "oldest": f"{words.timestamp(oldest)} ({words.ago(oldest, timezone.now())})" if oldest else None,
            "arrived": survey.arrived,
            "after": signing.dumps([at.isoformat(), after]) if after else None,
        }
    )


def confirmation(
    console: NotificationAdmin,
    request: HttpRequest,
    choice: Choice,
    outcome: sending.Outcome | None = None,
) -> TemplateResponse:
    """Ask first. select_across goes on to the answer, or `all` would shrink to one page."""
    total, verb = choice.total, choice.verb
    shown = many(total, MOST_COUNTED)
    if choice.partly and total <= MOST_COUNTED:
        shown += "+"
    survey = choice.survey
    groups = survey.groups[:GROUPS_SHOWN]
    noun = "notification" if shown == "1" else "notifications"
    context: dict[str, Any] = {
        "title": f"{verb.label}: {shown} {noun}?" if total else f"{verb.label}: nothing to do",
        "verb": verb,
        "total": total,
        "shown": shown,
        "choice": choice,
        "survey": survey,
        "detailed": len(survey.found) if total > len(survey.found) or choice.partly else None,
        "groups": groups,
        "groups_shown": GROUPS_SHOWN,
        "others": len(survey.found) - sum(group.count for group in groups),
        "refused": because(choice.refused),
        "rule": rule(verb),
        "reason": request.POST.get("reason", ""),
        "outcome": outcome,
        "may_try": verb is REQUEUE and total > 1,
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
    }
    return console.respond(request, CONFIRM_TEMPLATE, context)


def log(request: HttpRequest, operation: BulkOperation) -> None:
    """One entry for one decision; each notification's own timeline says what happened to it."""
    text = operations.told(operation)
    reason = f" Reason: {operation.reason}" if operation.reason else ""
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type=ContentType.objects.get_for_model(NotificationEvent),
        object_repr=text[:200],
        action_flag=CHANGE,
        change_message=f"{text} Scope: {operations.scope(operation)}.{reason}",
    )
