"""What stands around every page of the console: a limit of time, a sentence where the database does not
answer, and that no text turns our words round."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse

from .. import database
from ..database import kind_of, said
from ..text import revealed_markup

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponseBase]
LOOKING_SECONDS = 10.0  # that a page takes which only looks
DECIDING_SECONDS = 120.0  # one that does something, an attempt by hand included
SAFE = ("GET", "HEAD", "OPTIONS")
AWAY = "admin/notifications/notificationevent/away.html"


def guarded(view: View) -> View:
    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        looks = request.method in SAFE
        limit = LOOKING_SECONDS if looks else DECIDING_SECONDS
        try:
            with database.in_time(limit):
                response = view(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse):
                    response = response.render()
        except (DatabaseError, InterfaceError) as error:
            if kind_of(error) not in ("away", "contended"):
                raise
            logger.warning("the console's page %s has no answer: %s", request.path, said(error))
            return unanswered(limit, looks)
        return legible(response)

    return page


def legible(response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, HttpResponse) and response.headers["Content-Type"].startswith("text/html"):
        response.content = revealed_markup(response.content.decode()).encode()
    return response


def unanswered(limit: float, looks: bool) -> HttpResponse:
    """Rendered without the request, whose user is in the database as well."""
    page = render_to_string(AWAY, {"seconds": round(limit), "looks": looks})
    return HttpResponse(page, status=503, headers={"Retry-After": "10", "Cache-Control": "no-store"})
