"""The OpenAPI document, and a page to read and try it. They tell no data and no secret, so both are public
unless SCHEMA_ACCESS and DOCS_ACCESS say otherwise."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView
from drf_spectacular.renderers import OpenApiJsonRenderer2, OpenApiYamlRenderer2
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from . import schema
from .errors import body
from .views import View

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class Schema(View):
    """JSON; YAML with `?format=yaml` or where it is asked for in Accept."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []
    renderer_classes: list[type[BaseRenderer]] = [OpenApiJsonRenderer2, OpenApiYamlRenderer2]
    content_negotiation_class = DefaultContentNegotiation
    queried = ("GET", "HEAD")
    schema = None  # type: ignore[assignment]

    def get(self, request: Request) -> Response:
        return Response(schema.document())


@method_decorator(csrf_exempt, name="dispatch")  # what only reads answers other methods with 405
class Docs(TemplateView):
    template_name = "notifications/api/docs.html"
    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        response = super().get(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    def http_method_not_allowed(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        refusal = body(MethodNotAllowed(str(request.method)))
        return JsonResponse(refusal, status=405, headers={"Allow": "GET, HEAD"})
