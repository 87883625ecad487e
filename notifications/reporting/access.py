"""Who may see the pages that everybody may see unless the settings say otherwise.

    METRICS_ACCESS, READYZ_ACCESS, SCHEMA_ACCESS, DOCS_ACCESS:  anyone | viewers | nobody

Viewers are those who may view notifications: staff that is logged in, and API tokens where that app is
installed. A word that is none of these is refused by `check`, and closes the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from .. import conf
from ..database import said

logger = logging.getLogger(__name__)

VIEW = "notifications.view_notificationevent"
View = Callable[..., HttpResponseBase]


class NotKnown(Exception):
    """The caller says who it is, and that is not so, or cannot be found out. answer: what it is told."""

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def staff(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated and user.is_staff else None


# How a caller is known, the first that knows it: from a request to its user or None. Raises NotKnown.
callers: list[Callable[[HttpRequest], Any]] = [staff]


def guarded(setting: str, view: View) -> View:
    """The view, for those whom this setting lets in."""

    @wraps(view)
    def guard(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return refusal(setting, request) or view(request, *args, **kwargs)

    return guard


def refusal(setting: str, request: HttpRequest) -> HttpResponse | None:
    """Why the caller may not see it; None where it may."""
    match conf.access(setting):
        case "anyone":
            return None
        case "viewers":
            return _not_a_viewer(request)
        case _:
            return refused(404, "not_found", "There is no such page.")


def _not_a_viewer(request: HttpRequest) -> HttpResponse | None:
    try:
        user = next((user for caller in callers if (user := caller(request))), None)
        if user is None:
            answer = refused(401, "not_authenticated", "This page needs an API token, or a staff login.")
            answer["WWW-Authenticate"] = "Bearer"
            return answer
        return None if user.has_perm(VIEW) else refused(403, "permission_denied", f"This needs {VIEW}.")
    except NotKnown as error:
        return error.answer
    except (DatabaseError, InterfaceError) as error:
        logger.warning("who asks for %s is not known: %s", request.path, said(error))
        return refused(503, "unavailable", "The database cannot be used at the moment.")


def refused(status: int, code: str, message: str) -> JsonResponse:
    """In the shape of the API's errors."""
    return JsonResponse({"error": {"code": code, "message": message, "fields": {}}}, status=status)
