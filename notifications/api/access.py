"""Who may call: a bearer token or a staff session, the user's permissions, and how often."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    MethodNotAllowed,
    PermissionDenied,
    Throttled,
)
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from ..reporting.access import NotKnown
from .errors import body, headers
from .models import ApiToken

VIEW = "notifications.view_notificationevent"
ADD = "notifications.add_notificationevent"
CHANGE = "notifications.change_notificationevent"
REQUEUE = "notifications.requeue_notificationevent"


class BearerToken(TokenAuthentication):
    """`Authorization: Bearer TOKEN`."""

    keyword = "Bearer"

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """A token that works is never throttled here: only the answer to one that does not."""
        try:
            return super().authenticate(request)
        except AuthenticationFailed:
            failed = FailedTokens()
            if not failed.allow_request(request, None):  # type: ignore[arg-type]  # it looks at no view
                raise Throttled(failed.wait()) from None
            raise

    def authenticate_credentials(self, key: str) -> tuple[Any, ApiToken]:
        found = ApiToken.objects.usable(key)
        if found is None:
            raise AuthenticationFailed("The token is unknown, has expired or was revoked.")
        return found.user, found


def caller_of(request: HttpRequest) -> Any:
    """The user of a bearer token, for pages outside of the calls. Raises NotKnown where it is none."""
    try:
        found = BearerToken().authenticate(Request(request))
    except APIException as error:
        error.auth_header = BearerToken.keyword  # type: ignore[attr-defined]  # as a view sets it
        raise NotKnown(JsonResponse(body(error), status=error.status_code, headers=headers(error))) from error
    return found and found[0]


class StaffSession(SessionAuthentication):
    """Somebody logged in to the admin. The CSRF token is checked on every change."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        user = getattr(request._request, "user", None)
        return super().authenticate(request) if user and user.is_staff else None


class Permitted(BasePermission):
    """The user must hold the permission that the view's `permissions` names for the method."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        permissions: dict[str, str] = view.permissions  # type: ignore[attr-defined]
        needed = permissions.get("GET" if request.method == "HEAD" else str(request.method))
        if needed is None:
            raise MethodNotAllowed(str(request.method))
        if not request.user.has_perm(needed):
            raise PermissionDenied(f"This needs the permission {needed}.")
        return True


class Throttle(SimpleRateThrottle):
    """So many requests per token (or session user), counted in Django's cache."""

    scope = "notifications"
    default_rate = "1200/min"

    def get_rate(self) -> str:
        return self.THROTTLE_RATES.get(self.scope) or self.default_rate

    def get_cache_key(self, request: Request, view: APIView) -> str:
        caller = request.auth.pk if isinstance(request.auth, ApiToken) else f"user-{request.user.pk}"
        return self.cache_format % {"scope": self.scope, "ident": caller}


class FailedTokens(SimpleRateThrottle):
    """So many tokens that do not work, from one address."""

    rate = "60/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"notifications-failed-tokens-{caller(request)}"


def caller(request: HttpRequest | Request) -> str:
    """The address that a request comes from.

    Of X-Forwarded-For just what NUM_PROXIES of DRF's settings trusts: each proxy adds whom it heard, and what
    stands before that is whatever the caller wrote. Without the setting, nothing.
    """
    count = api_settings.NUM_PROXIES or 0
    heard = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    return str(
        heard[-count] if 0 < count <= len(heard) and heard[-count] else request.META.get("REMOTE_ADDR")
    )
