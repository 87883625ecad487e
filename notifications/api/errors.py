"""Every answer that is not a success: {"error": {"code", "message", "fields"}}, and nothing else in it.

code     one of a fixed set, for programs
message  a sentence for people
fields   what is wrong with which parameter or field: {"page": ["…"]}; empty where none is to blame
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import Error, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist, loader
from django.utils.html import escape
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from ..database import READ_ONLY, is_read_only_error, kind_of
from ..exceptions import TransitionRefused

logger = logging.getLogger(__name__)


class TooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large."
    default_code = "too_large"


class LengthRequired(exceptions.APIException):
    status_code = 411
    default_detail = "Send the body with a Content-Length: in chunks it cannot be read here."
    default_code = "length_required"


class Refused(exceptions.APIException):
    status_code = 409
    default_code = "refused"


class Unavailable(exceptions.APIException):
    status_code = 503
    default_detail = "The database cannot be used at the moment."
    default_code = "unavailable"


class Failed(exceptions.APIException):
    status_code = 500
    default_detail = "This went wrong on the server. Its log says why."


def answer(error: Exception, context: Mapping[str, Any]) -> Response:
    """What the caller is told about `error`. What nobody foresaw is logged and told as a bare 500."""
    known = translated(error)
    if isinstance(known, Failed | Unavailable):
        logger.error("%s %s", context["request"].method, context["request"].path, exc_info=error)
    set_rollback()
    return Response(body(known), status=known.status_code, headers=headers(known))


def translated(error: Exception) -> exceptions.APIException:
    """`error` as one of the exceptions that know their HTTP status."""
    match error:
        case exceptions.APIException():
            return error
        case TransitionRefused():
            return Refused(error.why)
        case ModelValidationError():
            return exceptions.ValidationError(error.message_dict)
        case Http404() | ObjectDoesNotExist():
            return exceptions.NotFound()
        case DjangoPermissionDenied():
            return exceptions.PermissionDenied()
        case RequestDataTooBig():
            return TooLarge()
        case SuspiciousOperation():
            return exceptions.ParseError()
        case Error() if is_read_only_error(error):
            return Unavailable(READ_ONLY)
        case OperationalError() | InterfaceError():
            return Unavailable()
        case _:
            return Unavailable() if kind_of(error) == "away" else Failed()


def body(error: exceptions.APIException) -> dict[str, Any]:
    fields = error.detail if isinstance(error.detail, dict) else {}
    named = {name: list(dict.fromkeys(map(str, texts))) for name, texts in flat(fields)}
    unnamed = named.pop("non_field_errors", [])
    said = [f"{name}: {' '.join(texts)}" for name, texts in named.items()] + unnamed
    if not fields:
        said = [str(text) for text in listed(error.detail)]
    code = "invalid" if isinstance(error, exceptions.ValidationError) else error.default_code
    return {"error": {"code": code, "message": " ".join(said), "fields": named}}


def flat(fields: Mapping[Any, Any], within: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The fields of one among many are named by its place: `notifications.3.type`."""
    for name, texts in fields.items():
        if isinstance(texts, Mapping):
            yield from flat(texts, f"{within}{name}.")
        else:
            yield f"{within}{name}", listed(texts)


def listed(texts: Any) -> list[Any]:
    return texts if isinstance(texts, list) else [texts]


def headers(error: exceptions.APIException) -> dict[str, str]:
    found = {}
    if challenge := getattr(error, "auth_header", None):
        found["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        found["Retry-After"] = str(int(wait))
    return found


# --- For the project's urls.py: errors that happen outside the views, in the same shape under /api/ ---


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not request.path_info.startswith("/api/"):
        return defaults.bad_request(request, exception)
    return JsonResponse(body(exceptions.ParseError("This request is malformed.")), status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django calls it while the exception is being handled. 503 where it is the database's, 500 else."""
    error = sys.exc_info()[1]
    known = translated(error) if isinstance(error, Exception) else Failed()
    if not isinstance(known, Unavailable):
        known = Failed()
    if request.path_info.startswith("/api/"):
        return JsonResponse(body(known), status=known.status_code)
    return (
        unavailable(str(known.detail)) if isinstance(known, Unavailable) else defaults.server_error(request)
    )


def unavailable(why: str) -> HttpResponse:
    """The page 503.html, where the site has one, with the sentence as `why`."""
    try:
        page: str = loader.render_to_string("503.html", {"why": why})
    except TemplateDoesNotExist:
        page = f"<!doctype html><title>503</title><h1>Not at the moment</h1><p>{escape(why)}</p>"
    return HttpResponse(page, status=503, headers={"Retry-After": "30"})
