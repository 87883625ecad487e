"""Where the calls are, under the prefix that the project gives them (/api/v1/ in certctl)."""

from __future__ import annotations

from django.urls import path, re_path

from ..reporting.access import guarded
from . import pages, views

app_name = "notifications_api"

urlpatterns = [
    path("notifications", views.Notifications.as_view(), name="notifications"),
    path("notifications/batch", views.Batch.as_view(), name="batch"),
    path("notifications/requeue", views.RequeueMany.as_view(), name="requeue-many"),
    # Another program's ids may have slashes in them: the longer paths first.
    path("notifications/<path:event_id>/read", views.Read.as_view(), name="read"),
    path("notifications/<path:event_id>/requeue", views.Requeue.as_view(), name="requeue"),
    path("notifications/<path:event_id>", views.Notification.as_view(), name="notification"),
    path("stats/summary", views.Summary.as_view(), name="summary"),
    path("schema", guarded("SCHEMA_ACCESS", pages.Schema.as_view()), name="schema"),
    path("docs", guarded("DOCS_ACCESS", pages.Docs.as_view()), name="docs"),
    re_path("^", views.Nowhere.as_view()),
]
