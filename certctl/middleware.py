"""What stands before every view of the project: where it answers, and what a browser may do with a page."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware

# Scrapers and probes inside the network speak plain http to the process itself, by its address.
PROBED = ("metrics", "healthz", "readyz")
# Pages bring no script or style of their own inline, and nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Answer = Callable[[HttpRequest], HttpResponse]


def below_base_url(answer: Answer) -> Answer:
    """Take the path as the public has it, where the proxy leaves the prefix in it."""
    prefix = settings.FORCE_SCRIPT_NAME or ""

    def middleware(request: HttpRequest) -> HttpResponse:
        if prefix and f"{request.path_info}/".startswith(f"{prefix}/"):
            request.path = request.path_info
            request.path_info = request.path_info.removeprefix(prefix) or "/"
        return answer(request)

    return middleware


def content_security_policy(answer: Answer) -> Answer:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = answer(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return middleware


class AnyHostForProbes(CommonMiddleware):
    """Django's, which is what refuses a host of another name."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info.removeprefix("/") in PROBED:
            return None
        return super().process_request(request)
