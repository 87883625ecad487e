"""A verb on many notifications, from the list: ask first with counts, try one first, then carry it out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from .. import conf
from ..models import AttemptOutcome, BulkOperation, DeliveryAttempt, NotificationEvent, Status
from ..queryset import UNDELIVERED, NotificationQuerySet, database_now, free
from . import narrowing, operations, sending
from .errors import Group, merged, with_problem
from .narrowing import DETAILED, NEWEST, capped, many
from .operations import RUNNING, because, rule
from .verbs import REQUEUE, Verb

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
    def chosen(self) -> NotificationQuerySet:
        """Those that the rules allow now."""
        idle = free(database_now(self.rows.db)) | ~Q(status__in=UNDELIVERED)
        return self.rows.filter(idle, status__in=self.verb.statuses)

    @cached_property
    def sample(self) -> list[tuple[str, str, str | None, datetime]]:
        """(id, channel, error, raised) of the newest DETAILED."""
        rows = with_problem(self.chosen).order_by(*NEWEST)
        return list(rows.values_list("pk", "channel", "problem", "created_at")[:DETAILED])

    @cached_property
    def total(self) -> int:
        """MOST_COUNTED + 1 when there are more."""
        return len(self.sample) if len(self.sample) < DETAILED else capped(self.chosen, MOST_COUNTED)

    @property
    def first(self) -> NotificationEvent | None:
        return self.chosen.order_by(*NEWEST).first()

    @cached_property
    def refused(self) -> dict[str, int]:
        """How many the rules will refuse, and what they are; COUNTED + 1 for more."""
        busy = self.rows.filter(status__in=set(UNDELIVERED) & set(self.verb.statuses))
        found = self._of_other_statuses()
        found[RUNNING] = capped(busy.exclude(free(database_now(self.rows.db))))
        return {why: count for why, count in found.items() if count}

    def _of_other_statuses(self) -> dict[str, int]:
        if not self.everything:
            counts = dict(self.rows.order_by().values_list("status").annotate(Count("pk")))
            return {status: count for status, count in counts.items() if status not in self.verb.statuses}
        named = QueryDict(self.filters).get("status")
        others = [s for s in Status.values if s not in self.verb.statuses and named in (None, "", s)]
        return {status: capped(self.rows.filter(status=status)) for status in others}

    @property
    def channels(self) -> list[tuple[str, int]]:
        """Old rows say `email`, new ones `Email`: one channel."""
        names = {channel.casefold(): channel for _, channel, _, _ in reversed(self.sample)}
        counts = Counter(channel.casefold() for _, channel, _, _ in self.sample)
        return [(names[folded], count) for folded, count in counts.most_common()]

    @cached_property
    def groups(self) -> list[Group]:
        return merged((channel, error, 1, at, at) for _, channel, error, at in self.sample)

    @property
    def oldest(self) -> datetime | None:
        return self.sample[-1][3] if self.sample else None

    @cached_property
    def arrived(self) -> int:
        """How many may have arrived already, where a repeat would be seen twice."""
        repeats = {channel.casefold() for channel in self.repeating}
        ids = [pk for pk, channel, _, _ in self.sample if channel.casefold() in repeats]
        unsure = (AttemptOutcome.UNKNOWN, AttemptOutcome.INTERRUPTED)
        attempts = DeliveryAttempt.objects.filter(notification_id__in=ids, outcome__in=unsure)
        found = attempts.aggregate(count=Count("notification_id", distinct=True)) if ids else {"count": 0}
        return int(found["count"])

    @property
    def repeating(self) -> list[str]:
        """The channels whose provider shows a repeated message again."""
        found = []
        for name, options in conf.current().channels.items():
            notifier = import_string(str(options["NOTIFIER"]))
            if not getattr(notifier, "folds_repeats", False):
                found.append(name)
        return found


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
    groups = choice.groups[:GROUPS_SHOWN]
    noun = "notification" if shown == "1" else "notifications"
    context: dict[str, Any] = {
        "title": f"{verb.label}: {shown} {noun}?" if total else f"{verb.label}: nothing to do",
        "verb": verb,
        "total": total,
        "shown": shown,
        "choice": choice,
        "detailed": len(choice.sample) if total > len(choice.sample) or choice.partly else None,
        "groups": groups,
        "others": len(choice.sample) - sum(group.count for group in groups),
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
