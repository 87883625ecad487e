"""Where the project answers."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from notifications.admin.guard import guarded_site
from notifications.api.views import Nowhere
from notifications.reporting import health, metrics

from .login import BoundedLogin

admin.site.login_form = BoundedLogin
admin.site.site_header = admin.site.site_title = "certctl notifications"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", guarded_site(admin.site)),
    path("api/v1/", include("notifications.certificates.urls")),
    path("api/v1/", include("notifications.api.urls")),
    re_path("^api/", Nowhere.as_view()),
    path("metrics", metrics.page, name="metrics"),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
]

handler400 = "notifications.api.errors.bad_request"
handler500 = "notifications.api.errors.server_error"
