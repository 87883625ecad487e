"""Where a host has put the app's pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from notifications.reporting import health, metrics

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("alerts/api/", include("notifications.certificates.urls")),
    path("alerts/api/", include("notifications.api.urls")),
    path("healthz", health.alive),
    path("readyz", health.ready),
    path("metrics", metrics.page),
]
