"""Where the calls are, under the prefix that the project gives them: in certctl the notifications' own."""

from __future__ import annotations

from django.urls import path

from . import api

app_name = "notifications_certificates_api"

urlpatterns = [
    path("certificates", api.Certificates.as_view(), name="certificates"),
    path("certificates/<path:fingerprint>", api.OneCertificate.as_view(), name="certificate"),
    path("watches", api.Watches.as_view(), name="watches"),
]
