"""What every page of the console stands in: its address, the tabs, and what the admin puts around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from ..models import BulkOperation, NotificationEvent
from .list import TABS, Tab

if TYPE_CHECKING:
    NotificationModelAdmin = admin.ModelAdmin[NotificationEvent]
else:
    NotificationModelAdmin = admin.ModelAdmin

TEMPLATES = "admin/notifications/notificationevent"
# After the tabs: the names of our pages.
PAGES = {"Dashboard": "dashboard", "Endpoints": "endpoints", "Operations": "operations"}


LATELY = 100  # operations that are looked at


def under_way() -> str | None:
    """How many of the newest operations are not finished, for every page to hint at."""
    newest = BulkOperation.objects.order_by("-pk").values_list("ended_at", flat=True)[:LATELY]
    number = sum(ended is None for ended in newest)
    return f"{number} under way" if number else None


class Console(NotificationModelAdmin):
    """What the pages of other modules know of the notifications' admin."""

    def respond(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        """A page of our own, by its template's name, with all that the admin's pages have."""
        request.current_app = self.admin_site.name
        common = {
            **self.admin_site.each_context(request),
            **self.common(request),
            "opts": self.opts,
            "media": self.media,
            "endpoints_url": self.url("endpoints"),
            "channel_url": self.url("channel"),
            "operations_url": self.url("operations"),
        }
        return TemplateResponse(request, f"{TEMPLATES}/{template}", {**common, **context})

    def common(self, request: HttpRequest) -> dict[str, Any]:
        """The tabs, without their numbers, and the links to our other pages."""
        here, pages = self.url("changelist"), {label: self.url(view) for label, view in PAGES.items()}
        return {
            "is_nav_sidebar_enabled": False,
            "list_url": here,
            "here": request.path in pages.values(),  # the view that is chosen says what the page is
            "tabs": [
                Tab(label, f"{here}?status={status}" if status else here) for label, status in TABS.items()
            ],
            "pages": [
                Tab(label, url, under_way() if label == "Operations" else None, selected=url == request.path)
                for label, url in pages.items()
            ],
        }

    def url(self, view: str, *args: object) -> str:
        name = f"admin:notifications_notificationevent_{view}"
        return reverse(name, args=args, current_app=self.admin_site.name)
