"""Endpoints that are held, paused or on their way back, and what their outages left dead.

Looking needs the view permission, deciding the one to requeue: both are about what goes out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from .. import conf, durations
from ..database import database_now
from ..endpoints import holds
from ..models import Hold, Outage
from ..operations import redrive
from ..operations.verbs import REQUEUE
from ..reporting import held, words
from ..reporting.held import HoldWords
from .console import Console
from .operation import begin
from .operation import log_text as log

HOLDS_SHOWN, OUTAGES_SHOWN = 50, 10


@dataclass(frozen=True, slots=True)
class Row:
    """A hold as the page draws it; tone is its colour. lift: what its button says."""

    hold: Hold
    words: HoldWords
    tone: str
    waiting: int | str
    lift: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An outage that killed; count: how many of them are still dead, "" when none are."""

    outage: Outage
    scope: str
    count: str
    query: str


def page(console: Console, request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _decide(console, request)
    settings = conf.current()
    now = database_now()
    found = list(held.in_force(now)[: HOLDS_SHOWN + 1])
    context = {
        "title": "Endpoints",
        "at": now,
        "rows": [_row(hold, now, settings) for hold in found[:HOLDS_SHOWN]],
        "more": len(found) > HOLDS_SHOWN,
        "all_open": held.ALL_OPEN,
        "offers": _offers(),
        "rate": settings.recovery_rate,
        "limit": words.exact_duration(settings.hold_limit.total_seconds()),
        "redrives": settings.redrive_on_recovery,
        "channels": list(settings.channels),
        "may": REQUEUE.allowed_to(request.user),
    }
    return console.respond(request, "endpoints.html", context)


def _row(hold: Hold, now: datetime, settings: conf.Conf) -> Row:
    tone, lift = "dead", "Try now"
    if hold.reason == holds.PAUSED:
        tone, lift = "failed", "End the pause"
    elif hold.reopened_at:
        tone, lift = "sent", "Full speed now"
    return Row(hold, held.in_words(hold, now, settings.hold_limit), tone, held.waiting(hold), lift)


def _offers() -> list[Offer]:
    found, shown = [], list(Outage.objects.filter(died__gt=0)[:OUTAGES_SHOWN])
    for outage in shown:
        count, more = redrive.count(outage, redrive.COUNTED // len(shown))
        text = f"{words.count(count)}{'+' if more else ''}" if count or more else ""
        query = urlencode({"status": "dead", "outage": outage.pk})
        found.append(Offer(outage, holds.scope(outage), text, query))
    return found


# Decisions


def _decide(console: Console, request: HttpRequest) -> HttpResponse:
    if not REQUEUE.allowed_to(request.user):
        raise PermissionDenied
    decisions: dict[str, Callable[[Console, HttpRequest], HttpResponse | None]] = {
        "pause": _pause,
        "lift": _lift,
        "redrive": _redrive,
    }
    decide = next((decisions[name] for name in decisions if name in request.POST), None)
    if decide is None:
        console.message_user(request, "Nothing was chosen.", messages.WARNING)
    answer = decide(console, request) if decide else None
    return answer or HttpResponseRedirect(console.url("endpoints"))


def _pause(console: Console, request: HttpRequest) -> None:
    settings, said = conf.current(), {n: _text(request, n) for n in ("channel", "recipient", "length", "why")}
    channel = settings.channel(said["channel"])
    if channel is None:
        return console.message_user(request, "Not paused: choose a channel.", messages.ERROR)
    try:
        hold = holds.pause(
            channel,
            said["recipient"],
            exact=request.POST.get("match") != "prefix",
            length=durations.parse(said["length"]),
            limit=settings.hold_limit,
            by=request.user.get_username(),
            why=said["why"],
        )
    except ValueError as error:
        return console.message_user(request, f"Not paused: {error}", messages.ERROR)
    text = f"{held.paused(hold)}."
    log(request, f"{text} Reason: {said['why']}" if said["why"] else text)
    console.message_user(request, text, messages.SUCCESS)


def _lift(console: Console, request: HttpRequest) -> None:
    hold = _chosen(Hold, request, "lift")
    if hold is None or not holds.lift(hold, by=request.user.get_username()):
        return console.message_user(request, "It had ended already.", messages.WARNING)
    text = f"Lifted: {held.lifted(hold)}."
    log(request, text)
    console.message_user(request, text, messages.SUCCESS)


def _redrive(console: Console, request: HttpRequest) -> HttpResponse | None:
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
