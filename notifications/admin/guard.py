"""What stands around every page of the console: a limit of time, a sentence where the database does not
answer, and that no text turns our words round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import wraps
from time import monotonic
from typing import Any, TypeVar

from django.contrib.admin import AdminSite
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse
from django.urls import URLPattern, URLResolver

from .. import database
from ..database import kind_of, said
from ..durations import duration
from ..text import revealed_markup

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
View = Callable[..., HttpResponseBase]
LOOKING_SECONDS = 10.0  # that a page takes which only looks
DECIDING_SECONDS = 120.0  # one that does something, an attempt by hand included
GUARDED = "has_a_limit_of_time"  # the mark on a view
SAFE = ("GET", "HEAD", "OPTIONS")
PART_SECONDS = 2.0  # a part of a page, whose others are shown without it
LOGIN = "login"  # the view's name: it decides nothing, posted or not
AWAY = "admin/notifications/notificationevent/away.html"


def guarded(view: View) -> View:
    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        looks = request.method in SAFE
        limit = LOOKING_SECONDS if looks else DECIDING_SECONDS
        began = monotonic()
        try:
            with database.in_time(limit):
                response = view(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse):
                    response = response.render()
        except (DatabaseError, InterfaceError) as error:
            if kind_of(error) not in ("away", "contended"):
                raise
            logger.warning("the console's page %s has no answer: %s", request.path, said(error))
            harmless = looks or _is_login(request)
            is_read_only = database.is_read_only_error(error)
            return unanswered(monotonic() - began, harmless, is_read_only=is_read_only)
        return legible(response)

    vars(page)[GUARDED] = True
    return page


def _is_login(request: HttpRequest) -> bool:
    return request.resolver_match is not None and request.resolver_match.url_name == LOGIN


def in_part(*reads: Callable[[], Found]) -> list[Found | None]:
    """What each reads, one after the other; None of the one without an answer in time, and of those after."""
    found: list[Found | None] = []
    within = database.atomic() if database.connection().in_atomic_block else nullcontext()
    try:
        with database.in_time(PART_SECONDS), within:
            found.extend(read() for read in reads)
    except (DatabaseError, InterfaceError) as error:
        if kind_of(error) not in ("away", "contended"):
            raise
        logger.warning("a page of the console is shown without a part: %s", said(error))
    return [*found, *[None] * (len(reads) - len(found))]


def guarded_site(site: AdminSite) -> tuple[list[URLPattern | URLResolver], str, str]:
    """The urls of an admin site, for `path`, every page of it guarded: its first page, its login and those of
    other apps, too."""
    patterns, app, name = site.urls
    _guard(patterns)
    return patterns, app, name


def _guard(patterns: Iterable[URLPattern | URLResolver]) -> None:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            _guard(pattern.url_patterns)
        elif GUARDED not in vars(pattern.callback):
            pattern.callback = guarded(pattern.callback)


def legible(response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, HttpResponse) and response.headers["Content-Type"].startswith("text/html"):
        response.content = revealed_markup(response.content.decode()).encode()
    return response


def unanswered(waited: float, looks: bool, *, is_read_only: bool = False) -> HttpResponse:
    """Rendered without the request, whose user is in the database as well.

    waited  seconds
    """
    why = database.READ_ONLY if is_read_only else ""
    page = render_to_string(
        AWAY, {"waited": duration(int(waited)) if waited >= 1 else "", "looks": looks, "read_only": why}
    )
    return HttpResponse(page, status=503, headers={"Retry-After": "10", "Cache-Control": "no-store"})
