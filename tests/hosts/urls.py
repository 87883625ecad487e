"""Where a host has put the app's pages."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path
from prometheus_client import REGISTRY, generate_latest

from notifications.reporting import health


def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(generate_latest(REGISTRY), content_type="text/plain")


urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("alerts/api/", include("notifications.api.urls")),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", metrics),
]
