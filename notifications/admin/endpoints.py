"""Endpoints that are held, paused or on their way back, and what their outages left dead.

Looking needs the view permission, deciding the one to requeue: both are about what goes out again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
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
from .guard import in_part
from .operation import begin
from .operation import log_text as log

HOLDS_SHOWN, OUTAGES_SHOWN = 50, 10
UNREAD = "not known"
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
    """The form's fields as they were typed, which rows they cover (None without a channel), and what is
    wrong with them."""

    channel: str = ""
    recipient: str = ""
    length: str = "1h"
    why: str = ""
    match: str = "exact"
    covered: pausing.Covered | None = None
    fault: str = ""

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
        "rows": _rows(found[:HOLDS_SHOWN], now, settings),
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


def _rows(found: list[Hold], now: datetime, settings: conf.Conf) -> list[Row]:
    waiting = in_part(*(partial(held.waiting, hold) for hold in found))
    return [_row(hold, number, now, settings) for hold, number in zip(found, waiting, strict=True)]


def _row(hold: Hold, waiting: int | str | None, now: datetime, settings: conf.Conf) -> Row:
    said = held.in_words(hold, now, settings.hold_limit)
    lift = LIFTS.get(said.state, "Try now")
    return Row(hold, said, cells.state_badge(said.state), UNREAD if waiting is None else waiting, lift)


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
    counts = in_part(*(partial(redrive.count, outage) for outage in shown))
    offers = [_offer(outage, counted) for outage, counted in zip(shown, counts, strict=True)]
    return sorted(offers, key=lambda offer: not offer.count)  # first what somebody can requeue


def _offer(outage: Outage, counted: tuple[int, bool] | None) -> Offer:
    query = urlencode({"status": "dead", "outage": outage.pk})
    return Offer(outage, holds.scope(outage), UNREAD if counted is None else _still_dead(*counted), query)


def _still_dead(count: int, more: bool) -> str:
    if more and not count:
        return "not counted"
    return f"{words.count(count)}{'+' if more else ''}" if count else ""


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
        if typed.fault or typed.covered is None:
            raise ValueError(typed.fault or "choose a channel.")
        hold = holds.pause(
            typed.covered.channel,
            typed.covered.recipient,
            exact=typed.covered.exact,
            length=_length(typed.length),
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
    names = ("channel", "recipient", "length", "why")
    said: dict[str, Any] = {name: _text(request, name) for name in names}
    match = "prefix" if request.POST.get("match") == "prefix" else "exact"
    channel = conf.current().channel(said["channel"])
    typed = Typed(**said, match=match)
    try:
        if channel is not None:
            covered = pausing.covered(channel, typed.recipient, exact=match == "exact")
            typed = replace(typed, covered=covered)
        _length(typed.length)
    except ValueError as error:
        return replace(typed, fault=str(error))
    return typed


def _length(text: str) -> timedelta:
    """Raises ValueError for what is no pause's."""
    return holds.judged(durations.parse(text), conf.current().hold_limit)


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
