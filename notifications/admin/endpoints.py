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
from django.utils.safestring import SafeString

from .. import conf, durations
from ..database import database_now
from ..endpoints import holds
from ..models import Hold, Outage
from ..operations import pausing, redrive
from ..operations.survey import spelled
from ..operations.verbs import REQUEUE
from ..reporting import held, words
from ..reporting.held import HoldWords
from . import cells
from .console import Console
from .operation import begin
from .operation import log_text as log

HOLDS_SHOWN, OUTAGES_SHOWN = 50, 10
LONGEST = 255  # a recipient
LIFTS = {"paused": "End the pause", "recovering": "Full speed now"}


@dataclass(frozen=True, slots=True)
class Row:
    """A hold as the page draws it. lift: what its button says."""

    hold: Hold
    words: HoldWords
    badge: SafeString
    waiting: int | str
    lift: str

    @property
    def channel(self) -> str:
        return spelled(self.hold.channel)

    @property
    def paused(self) -> bool:
        return self.words.state == "paused"


@dataclass(frozen=True, slots=True)
class Offer:
    """An outage that killed; count: how many of them are still dead, "" when none are."""

    outage: Outage
    scope: str
    count: str
    query: str


@dataclass(frozen=True, slots=True)
class Typed:
    """The form's fields as they were typed, and which rows they cover; None without a channel."""

    channel: str = ""
    recipient: str = ""
    length: str = "1h"
    why: str = ""
    match: str = "exact"
    covered: pausing.Covered | None = None

    @property
    def said(self) -> str:
        return held.covers(self.covered) if self.covered else ""


def page(console: Console, request: HttpRequest) -> HttpResponse:
    return _decide(console, request) if request.method == "POST" else _page(console, request, Typed())


def _page(console: Console, request: HttpRequest, typed: Typed) -> HttpResponse:
    settings = conf.current()
    now = database_now()
    found = list(held.in_force(now)[: HOLDS_SHOWN + 1])
    outages, older = _outages(request)
    context = {
        "title": "Endpoints",
        "at": now,
        "rows": [_row(hold, now, settings) for hold in found[:HOLDS_SHOWN]],
        "more": len(found) > HOLDS_SHOWN,
        "all_open": held.ALL_OPEN,
        "offers": _offers(outages),
        "older": older,
        "typed": typed,
        "rate": settings.recovery_rate,
        "limit": words.exact_duration(settings.hold_limit.total_seconds()),
        "redrives": settings.redrive_on_recovery,
        "channels": list(settings.channels),
        "may": REQUEUE.allowed_to(request.user),
    }
    return console.respond(request, "endpoints.html", context)


def _row(hold: Hold, now: datetime, settings: conf.Conf) -> Row:
    said = held.in_words(hold, now, settings.hold_limit)
    lift = LIFTS.get(said.state, "Try now")
    return Row(hold, said, cells.state_badge(said.state), held.waiting(hold), lift)


def _outages(request: HttpRequest) -> tuple[list[Outage], str]:
    """A page of those that killed, the newest first; the address of the older ones, "" where that is all."""
    rows = Outage.objects.filter(died__gt=0).order_by("-pk")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdecimal() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: OUTAGES_SHOWN + 1])
    older = f"?before={found[OUTAGES_SHOWN - 1].pk}#outages" if len(found) > OUTAGES_SHOWN else ""
    return found[:OUTAGES_SHOWN], older


def _offers(shown: list[Outage]) -> list[Offer]:
    found = []
    for outage in shown:
        count, more = redrive.count(outage, redrive.COUNTED // len(shown))
        text = f"{words.count(count)}{'+' if more else ''}" if count or more else ""
        if more and not count:
            text = "not counted"
        query = urlencode({"status": "dead", "outage": outage.pk})
        found.append(Offer(outage, holds.scope(outage), text, query))
    return sorted(found, key=lambda offer: not offer.count)  # first what somebody can requeue


# Decisions


def _decide(console: Console, request: HttpRequest) -> HttpResponse:
    if not REQUEUE.allowed_to(request.user):
        raise PermissionDenied
    decisions: dict[str, Callable[[Console, HttpRequest], HttpResponse | None]] = {
        "ask": _ask,
        "pause": _pause,
        "lift": _lift,
        "redrive": _redrive,
    }
    decide = next((decisions[name] for name in decisions if name in request.POST), None)
    if decide is None:
        console.message_user(request, "Nothing was chosen.", messages.WARNING)
    answer = decide(console, request) if decide else None
    return answer or HttpResponseRedirect(console.url("endpoints"))


def _ask(console: Console, request: HttpRequest) -> HttpResponse:
    """What a pause would cover; nothing is paused yet."""
    return _page(console, request, _typed(request))


def _pause(console: Console, request: HttpRequest) -> HttpResponse | None:
    settings, typed = conf.current(), _typed(request)
    try:
        if typed.covered is None:
            raise ValueError("choose a channel.")
        hold = holds.pause(
            typed.covered.channel,
            typed.covered.recipient,
            exact=typed.covered.exact,
            length=durations.parse(typed.length),
            limit=settings.hold_limit,
            by=request.user.get_username(),
            why=typed.why,
        )
    except ValueError as error:
        console.message_user(request, f"Not paused: {error}", messages.ERROR)
        return _page(console, request, typed)
    text = f"{held.paused(hold)}."
    log(request, f"{text} Reason: {typed.why}" if typed.why else text)
    level = messages.WARNING if typed.covered.nothing else messages.SUCCESS
    console.message_user(request, f"{text} {held.covers(typed.covered)}", level)
    return None


def _typed(request: HttpRequest) -> Typed:
    said = {name: _text(request, name) for name in ("channel", "recipient", "length", "why")}
    match = "prefix" if request.POST.get("match") == "prefix" else "exact"
    channel = conf.current().channel(said["channel"])
    found = None
    if channel is not None and len(said["recipient"]) <= LONGEST:
        found = pausing.covered(channel, said["recipient"], exact=match == "exact")
    elif channel is not None:
        found = pausing.Covered(channel, said["recipient"], True, 0, 0)
    return Typed(**said, match=match, covered=found)


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
