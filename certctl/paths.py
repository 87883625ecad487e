"""Where the project answers: below the path of BASE_URL, and at three paths under any name of the host."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware

# Scrapers and probes inside the network speak plain http to the process itself, by its address.
PROBED = ("metrics", "healthz", "readyz")


def below_base_url(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Take the path as the public has it, where the proxy leaves the prefix in it."""
    prefix = settings.FORCE_SCRIPT_NAME or ""

    def middleware(request: HttpRequest) -> HttpResponse:
        if prefix and f"{request.path_info}/".startswith(f"{prefix}/"):
            request.path = request.path_info
            request.path_info = request.path_info.removeprefix(prefix) or "/"
        return answer(request)

    return middleware


class AnyHostForProbes(CommonMiddleware):
    """Django's, which is what refuses a host of another name."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info.removeprefix("/") in PROBED:
            return None
        return super().process_request(request)
