"""A verb on many notifications, from the list: ask first with counts, try one first, then carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
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
from django.utils.safestring import SafeString

from ..database import database_now
from ..deaths.fingerprints import Part
from ..endpoints import holds
from ..engine import send_now
from ..models import NotificationEvent, NotificationQuerySet, Status
from ..models.conditions import free
from ..models.fields import UNDELIVERED
from ..operations import bulk
from ..operations.bulk import RUNNING
from ..operations.filters import of_query, with_problem
from ..operations.follow import done_since
from ..operations.survey import ABOUT_RENEWED, SAMPLES, Found, Group, Survey, capped, many
from ..operations.verbs import REQUEUE, Verb
from ..operations.walk import NEWEST
from ..reporting import activity, words
from ..reporting.held import Blocked
from ..reporting.pace import how_long
from ..text import fold, revealed
from . import cells
from .around import within
from .console import Console
from .groups import title
from .list import DETAILED, looks_at_a_part
from .operation import A_MOMENT, because, begin, rule, told

GROUPS_SHOWN = 20
A_WEEK = timedelta(days=7)
MOST_COUNTED = 100_000  # of all that match; the details are those of the newest DETAILED


def run(
    console: Console, request: HttpRequest, rows: NotificationQuerySet, verb: Verb
) -> HttpResponse | None:
    """The action itself: a page that asks, or (confirmed) its first step and where to go on.

    None sends the browser back to the list.
    """
    choice = Choice(request, rows, verb)
    if "count" in request.POST:
        return counting(choice)
    if "try" in request.POST and verb is REQUEUE and (first := choice.first):
        tried = send_now.requeue_and_send(first, by=request.user.get_username(), reason="tried first")
        console.log_change(request, first, tried.text)
        return confirmation(console, request, Choice(request, rows, verb), tried)
    reason = request.POST.get("reason", "").replace("\x00", "").strip()
    if "confirm" not in request.POST:
        return confirmation(console, request, choice)
    if verb.grave and not reason:
        fault = f"Not done: say why you {verb.label.lower()} these."
        return confirmation(console, request, choice, fault=fault)
    operation = bulk.start(
        verb,
        filters=choice.filters,
        ids=None if choice.everything else [*rows.values_list("pk", flat=True)],
        requested=min(choice.total, MOST_COUNTED),
        at_least=choice.total > MOST_COUNTED or choice.partly,
        refused=choice.refused,
        by=request.user.get_username(),
        via="admin",
        reason=reason,
        renewed="renewed" in request.POST,
    )
    return begin(console, request, operation) or _back(console, request)


def _back(console: Console, request: HttpRequest) -> HttpResponse | None:
    """To the page of the one that it was asked from; None: to the list."""
    address = _page_of(console, request)
    return HttpResponseRedirect(address) if address else None


def _page_of(console: Console, request: HttpRequest) -> str:
    chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
    if "page" not in request.POST or len(chosen) != 1:
        return ""
    return console.url("change", quote(chosen[0])) + within(request.POST["page"])


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
        return self.everything and looks_at_a_part(self.filters)

    @property
    def filters(self) -> str:
        return str(self.request.META.get("QUERY_STRING", ""))

    @property
    def status(self) -> str:
        """That the list was filtered by; "" where it was not."""
        return QueryDict(self.filters).get("status") or ""

    @cached_property
    def now(self) -> datetime:
        """The database's, asked once."""
        return database_now()

    @cached_property
    def idle(self) -> Q:
        """In nobody's hands."""
        return free(self.now) | ~Q(status__in=UNDELIVERED)

    @cached_property
    def blocked(self) -> Blocked:
        return Blocked(self.now)

    @cached_property
    def stalled(self) -> str:
        """What to say where nobody delivers; "" where somebody does, and of what is not to be delivered."""
        return activity.stalled(activity.last_ends(), self.now) if self.verb is REQUEUE else ""

    @cached_property
    def chosen(self) -> NotificationQuerySet:
        """Those that the rules allow now."""
        return self.rows.filter(self.idle, self.verb.allows_of(self.status))

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
        found[RUNNING] = capped(busy.exclude(free(self.now)))
        return {why: count for why, count in found.items() if count}

    def _of_other_statuses(self) -> dict[str, int]:
        rest = self.rows.exclude(self.verb.allows())
        if not self.everything:
            return dict(rest.order_by().values_list("status").annotate(Count("pk")))
        others = [s for s in Status.values if s not in self.verb.statuses and self.status in ("", s)]
        return {status: capped(rest.filter(status=status)) for status in others}


def samples(choice: Choice) -> list[tuple[NotificationEvent, SafeString]]:
    """Some of them, to look at before: each with its badge."""
    rows: NotificationQuerySet = NotificationEvent.objects.filter(pk__in=choice.survey.samples)
    found = {event.pk: event for event in rows.with_kind().in_page(SAMPLES)}
    return [(found[pk], cells.badge_of(found[pk])) for pk in choice.survey.samples if pk in found]


def titled(survey: Survey) -> list[tuple[Group, list[Part]]]:
    """Each group, the greatest first, with the newest error of it as a reader sees it."""
    newest: dict[tuple[str, str], str] = {}
    for row, print_ in zip(survey.found, survey.prints, strict=True):
        newest.setdefault((fold(row.channel), print_), row.problem or "")
    return [(group, title(newest[fold(group.channel), group.error])) for group in survey.groups]


def pace_of(choice: Choice) -> str:
    """How long it takes until they are delivered, by the channels of the surveyed."""
    found = choice.survey.found
    factor = choice.total / len(found) if found else 1.0
    rows = ((row.channel, row.recipient) for row in found)
    return how_long(
        rows,
        choice.now,
        factor=factor,
        besides={row.pk for row in found},
        blocked=choice.blocked,
        stalled=choice.stalled,
    )


def waits(choice: Choice) -> list[tuple[int, str, str]]:
    """Of the surveyed: how many wait for what once they are requeued, which endpoint that is, until when."""
    blocked = choice.blocked
    found = blocked.counted((row.channel, row.recipient) for row in choice.survey.found)
    return [(count, holds.scope(hold), blocked.standing(hold)) for count, hold in found]


def renewed_in(choice: Choice) -> str:
    """`17 of 142 are about certificates renewed since`, of the surveyed; "" where none is."""
    survey = choice.survey
    over = survey.renewed if choice.verb is REQUEUE else 0
    return f"{over:,} of {len(survey.found):,} {ABOUT_RENEWED}" if over else ""


def counting(choice: Choice) -> HttpResponse:
    """The survey of the next batch of all that match; the page that asks adds them up."""
    try:
        began, place = (
            signing.loads(choice.request.POST["count"]) if choice.request.POST["count"] else ("", None)
        )
    except signing.BadSignature:
        return HttpResponseBadRequest("count: not where an answer of ours ended")
    at = datetime.fromisoformat(began) if began else timezone.now()
    fields = Found._fields[2:]
    walk = bulk.walk(choice.verb, of_query(choice.filters, at), at, where=choice.idle, fields=fields)
    found, after = walk.batch(place, DETAILED)
    survey = Survey([Found(*row) for row in found])
    oldest = survey.oldest
    return JsonResponse(
        {
            "count": len(found),
            "channels": [(revealed(name), count) for name, count in survey.channels],
            "groups": [
                (revealed(group.channel), revealed(group.error), group.count, parts)
                for group, parts in titled(survey)
            ],
            "oldest": f"{words.timestamp(oldest)} ({words.ago(oldest, timezone.now())})" if oldest else None,
            "arrived": survey.arrived,
            "old": survey.raised_before(at - A_WEEK),
            "after": signing.dumps([at.isoformat(), after]) if after else None,
        }
    )


def confirmation(
    console: Console,
    request: HttpRequest,
    choice: Choice,
    tried: send_now.Report | None = None,
    fault: str = "",
) -> TemplateResponse:
    """Ask first. select_across goes on to the answer, or `all` would shrink to one page."""
    total, verb = choice.total, choice.verb
    shown = many(total, MOST_COUNTED)
    if choice.partly and total <= MOST_COUNTED:
        shown += "+"
    survey = choice.survey
    groups = titled(survey)[:GROUPS_SHOWN]
    ids = None if choice.everything else request.POST.getlist(ACTION_CHECKBOX_NAME)
    before = [] if total else done_since(timezone.now() - A_MOMENT, ids=ids, but=None)
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
        "others": len(survey.found) - sum(group.count for group, _ in groups),
        "refused": because(choice.refused),
        "rule": rule(verb),
        "reason": request.POST.get("reason", ""),
        "tried": tried,
        "fault": fault,
        "before": told(console, before),
        "asked_at": request.POST.get("asked_at") or timezone.now().isoformat(),
        "waits": waits(choice) if verb is REQUEUE else [],
        "warning": choice.stalled,
        "pace": pace_of(choice) if verb is REQUEUE else "",
        "old": survey.raised_before(timezone.now() - A_WEEK),
        "samples": samples(choice),
        "renewed": renewed_in(choice),
        "renewed_too": "renewed" in request.POST,
        "may_try": verb is REQUEUE and total > 1,
        "page": request.POST.get("page"),
        "back": _page_of(console, request) or request.get_full_path(),
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
    }
    return console.respond(request, "confirm.html", context)
