"""The page of a group of dead letters: how many, and what people say of it. Whoever may dismiss them may
say it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ObjectDoesNotExist, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from .. import durations
from ..deaths.fingerprints import fingerprint
from ..models import GroupNote, Status
from ..operations import triage
from ..operations.filters import Filters, matching
from ..operations.survey import capped, many, spelled
from ..operations.triage import Overtaken, Standing
from ..operations.verbs import DISMISS
from ..reporting import words
from ..text import isolated
from .console import Console
from .list import bound, horizon
from .operation import log_text as log

LONGEST_CHANNEL, LONGEST_ERROR, LONGEST_NOTE = 255, 1_000, 2_000
MOST_GROWTH = 1_000
OFFERED = 200  # people
VIEW = "notifications.view_notificationevent"


def page(console: Console, request: HttpRequest) -> HttpResponse:
    channel, error = (request.GET.get(name, "").replace("\x00", "") for name in ("channel", "alike"))
    if not channel or not error or len(channel) > LONGEST_CHANNEL or len(error) > LONGEST_ERROR:
        said = {"title": "No such group", "name": "group", "why": "it has a channel and an error"}
        answer = console.respond(request, "unknown.html", said)
        answer.status_code = 400
        return answer
    error = fingerprint(error)  # asked by an error as it is, it is the group of that
    if request.method == "POST":
        return _decide(console, request, channel, error)
    return _shown(console, request, channel, error)


def _shown(console: Console, request: HttpRequest, channel: str, error: str) -> HttpResponse:
    now = timezone.now()
    standing = triage.standings([(channel, error)], now).get(GroupNote.key_of(channel, error))
    filters = Filters(status=Status.DEAD, channel=channel, alike=error)
    most = bound(filters, filters.status)
    since = horizon(filters, most, filters.status) if most else None
    rows = matching(filters)
    count = capped(rows.filter(created_at__gte=since) if since else rows)
    may = DISMISS.allowed_to(request.user)
    context = {
        "title": "A group of dead letters",
        "channel": spelled(channel),
        "error": error,
        "count": many(count) + ("+" if since and count else ""),
        "group_list": console.url("changelist")
        + f"?{urlencode({'status': 'dead', 'channel': channel, 'alike': error})}",
        "note": standing.note if standing else None,
        "snooze": snooze_in_words(standing, now) if standing else "",
        "snoozed": bool(standing and standing.snoozed),
        "version": standing.note.version if standing else 0,
        "may": may,
        "me": request.user.get_username(),
        "people": _people() if may else [],
        "longest_note": LONGEST_NOTE,
        "most_growth": MOST_GROWTH,
    }
    return console.respond(request, "group.html", context)


def snooze_in_words(standing: Standing, now: datetime) -> str:
    """`Snoozed by ada 2 h ago, until 2026-11-24 08:00 UTC or until 50 more have died (12 so far)`."""
    note = standing.note
    if note.snoozed_at is None:
        return ""
    who = f"by {isolated(note.snoozed_by)} {words.ago(note.snoozed_at, now)}"
    ends = [f"until {words.minute(note.snoozed_until)}"] if note.snoozed_until else []
    if note.snoozed_growth:
        so_far = "" if standing.grown is None else f" ({standing.grown:,} so far)"
        ends.append(f"until {note.snoozed_growth:,} more have died{so_far}")
    if not ends:
        return f"Not snoozed: ended {who}"
    return (
        f"{'Snoozed' if standing.snoozed else 'The snooze is over: it was begun'} {who}, {' or '.join(ends)}"
    )


def _people() -> list[str]:
    """Who may be offered; a site's own kind of user may not know who works here."""
    users: Any = get_user_model()
    name = users.USERNAME_FIELD
    try:
        staff = users._default_manager.filter(is_active=True, is_staff=True)
        return [str(found) for found in staff.order_by(name).values_list(name, flat=True)[:OFFERED]]
    except FieldError:
        return []


# Decisions


class Wrong(ValueError):
    """What was typed says nothing."""


def _decide(console: Console, request: HttpRequest, channel: str, error: str) -> HttpResponse:
    if not DISMISS.allowed_to(request.user):
        raise PermissionDenied
    decisions: dict[str, Callable[[HttpRequest, Group], str]] = {
        "snooze": _snooze,
        "wake": _wake,
        "assign": _assign,
        "note": _note,
    }
    decide = next((decisions[name] for name in decisions if name in request.POST), None)
    here = HttpResponseRedirect(f"{request.path}?{urlencode({'channel': channel, 'alike': error})}")
    try:
        if decide is None:
            raise Wrong("nothing was chosen")
        text = decide(request, Group(request, channel, error))
    except Overtaken as overtaken:
        when = f" {words.ago(overtaken.at, timezone.now())}" if overtaken.at else ""
        who = isolated(overtaken.by) or "Somebody"
        text = f"Not done: {who} changed this{when}, and this is how it is now."
        console.message_user(request, text, messages.WARNING)
    except ValueError as wrong:
        console.message_user(request, f"Not done: {wrong}", messages.ERROR)
    else:
        log(request, text, f" Group: {isolated(spelled(channel))}: {isolated(error)}")
        console.message_user(request, text, messages.SUCCESS)
    return here


class Group:
    """The group that a decision is about, as the operations want it."""

    def __init__(self, request: HttpRequest, channel: str, error: str) -> None:
        version = request.POST.get("version", "")
        self.names = channel, error
        self.said: dict[str, Any] = {
            "version": int(version) if version.isascii() and version.isdecimal() and len(version) < 9 else 0,
            "by": request.user.get_username(),
            "now": timezone.now(),
        }


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").replace("\x00", "").strip()


def _snooze(request: HttpRequest, group: Group) -> str:
    length, growth = _text(request, "length"), _text(request, "growth")
    if not (length or growth):
        raise Wrong("say until when, or until how many more have died.")
    if growth and not (growth.isascii() and growth.isdecimal() and 0 < int(growth[:9]) <= MOST_GROWTH):
        raise Wrong(f"a group grows by a number from 1 to {MOST_GROWTH:,}.")
    now = group.said["now"]
    try:
        until = now + durations.parse(length) if length else None
    except OverflowError:
        raise Wrong("that is beyond the calendar.") from None
    more = int(growth) if growth else None
    note = triage.snooze(*group.names, until=until, growth=more, **group.said)
    return f"{snooze_in_words(Standing(note, True), now)}."


def _wake(request: HttpRequest, group: Group) -> str:
    triage.snooze(*group.names, **group.said)
    return "The snooze is ended."


def _assign(request: HttpRequest, group: Group) -> str:
    name = _text(request, "assign") or _text(request, "to")
    if name:
        users: Any = get_user_model()._default_manager
        try:
            person = users.get_by_natural_key(name)
        except ObjectDoesNotExist:
            person = None
        if person is None or not person.is_active or not person.has_perm(VIEW):
            raise Wrong(f"nobody named {isolated(name)} may look at notifications.")
    triage.assign(*group.names, to=name, **group.said)
    return f"Assigned to {isolated(name)}." if name else "Assigned to nobody."


def _note(request: HttpRequest, group: Group) -> str:
    text = _text(request, "text")
    if len(text) > LONGEST_NOTE:
        raise Wrong(f"a note has at most {LONGEST_NOTE:,} characters.")
    triage.take_note(*group.names, text=text, **group.said)
    return "The note is kept." if text else "The note is taken away."
