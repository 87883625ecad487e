"""Endpoints that are held, paused or on their way back, and what their outages left dead.

Looking needs the view permission, deciding the one to requeue: both are about what goes out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from .. import conf, durations
from ..database import database_now
from ..endpoints import holds
from ..models import Hold, Outage
from ..operations import redrive
from ..operations.survey import many
from ..operations.verbs import REQUEUE
from .operation import begin
from .operation import log_text as log

if TYPE_CHECKING:
    from . import NotificationAdmin

TEMPLATE = "admin/notifications/notificationevent/endpoints.html"
HOLDS_SHOWN, OUTAGES_SHOWN = 50, 10
WAITING_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """A hold as a person reads it. lift: what its button says."""

    hold: Hold
    scope: str
    state: str
    tone: str
    until: str
    waiting: str
    lift: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An outage that killed; count: how many of them are still dead, "" when none are."""

    outage: Outage
    scope: str
    count: str
    query: str


def page(console: NotificationAdmin, request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _decide(console, request)
    settings = conf.current()
    now = database_now()
    held = list(Hold.objects.order_by("endpoint", "pk")[: HOLDS_SHOWN + 1])
    context = {
        "title": "Endpoints",
        "at": now,
        "rows": [_row(hold, now, settings) for hold in held[:HOLDS_SHOWN]],
        "more": len(held) > HOLDS_SHOWN,
        "offers": _offers(),
        "rate": settings.recovery_rate,
        "limit": f"{settings.hold_limit.total_seconds() / 3600:g} h",
        "redrives": settings.redrive_on_recovery,
        "channels": list(settings.channels),
        "may": REQUEUE.allowed_to(request.user),
    }
    return console.respond(request, TEMPLATE, context)


def _row(hold: Hold, now: datetime, settings: conf.Conf) -> Row:
    state, tone, until, lift = "held", "dead", "its probe is due", "Try now"
    if hold.until > now:
        until = f"probe at {hold.until:%H:%M:%S}"
    if hold.reason == holds.PAUSED:
        state, tone, until, lift = "paused", "failed", f"ends at {hold.until:%H:%M:%S}", "End the pause"
    elif hold.reopened_at:
        state, tone, until = "recovering", "sent", f"full speed at {hold.until:%H:%M:%S}"
        lift = "Full speed now"
    elif now - hold.since > settings.hold_limit:
        state, until = "held past the limit", "attempts are spent again"
    waiting = many(holds.waiting(hold, WAITING_COUNTED), WAITING_COUNTED)
    return Row(hold, holds.scope(hold), state, tone, until, waiting, lift)


def _offers() -> list[Offer]:
    found, shown = [], list(Outage.objects.filter(died__gt=0)[:OUTAGES_SHOWN])
    for outage in shown:
        count, more = redrive.count(outage, redrive.COUNTED // len(shown))
        text = f"{count:,}{'+' if more else ''}" if count or more else ""
        query = urlencode({"status": "dead", "outage": outage.pk})
        found.append(Offer(outage, holds.scope(outage), text, query))
    return found


# Decisions


def _decide(console: NotificationAdmin, request: HttpRequest) -> HttpResponse:
    if not REQUEUE.allowed_to(request.user):
        raise PermissionDenied
    verbs: dict[str, Callable[[NotificationAdmin, HttpRequest], HttpResponse | None]] = {
        "pause": _pause,
        "lift": _lift,
        "redrive": _redrive,
    }
    verb = next((verbs[name] for name in verbs if name in request.POST), None)
    if verb is None:
        console.message_user(request, "Nothing was chosen.", messages.WARNING)
    answer = verb(console, request) if verb else None
    return answer or HttpResponseRedirect(console.url("endpoints"))


def _pause(console: NotificationAdmin, request: HttpRequest) -> None:
    settings, said = conf.current(), {n: _text(request, n) for n in ("channel", "recipient", "span", "why")}
    channel = settings.channel(said["channel"])
    if channel is None:
        return console.message_user(request, "Not paused: choose a channel.", messages.ERROR)
    try:
        hold = holds.pause(
            channel,
            said["recipient"],
            exact=request.POST.get("match") != "prefix",
            span=durations.parse(said["span"]),
            limit=settings.hold_limit,
            by=request.user.get_username(),
            why=said["why"],
        )
    except ValueError as error:
        return console.message_user(request, f"Not paused: {error}", messages.ERROR)
    text = f"Paused {holds.scope(hold)} until {hold.until:%Y-%m-%d %H:%M:%S}."
    log(request, f"{text} Reason: {said['why']}" if said["why"] else text)
    console.message_user(request, text, messages.SUCCESS)


def _lift(console: NotificationAdmin, request: HttpRequest) -> None:
    hold = _chosen(Hold, request, "lift")
    if hold is None or not holds.lift(hold, by=request.user.get_username()):
        return console.message_user(request, "It had ended already.", messages.WARNING)
    scope = holds.scope(hold)
    text = f"Lifted: {scope} gets one probe with the next sweep, and the rest when it arrives."
    if hold.reason == holds.PAUSED:
        text = f"Lifted: {scope} is not paused any more."
    elif hold.reopened_at:
        text = f"Lifted: {scope} goes out at full speed."
    log(request, text)
    console.message_user(request, text, messages.SUCCESS)


def _redrive(console: NotificationAdmin, request: HttpRequest) -> HttpResponse | None:
    outage = _chosen(Outage, request, "redrive")
    if outage is None:
        console.message_user(request, "That outage is not on record any more.", messages.WARNING)
        return None
    by = request.user.get_username()
    operation = redrive.take_over(outage, by=by, via="admin", now=database_now())
    return begin(console, request, operation)


def _chosen(model: Any, request: HttpRequest, name: str) -> Any:
    value = request.POST[name]
    return model.objects.filter(pk=value).first() if value.isascii() and value.isdecimal() else None


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").replace("\x00", "").strip()
