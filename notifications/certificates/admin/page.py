"""What the pages of watches and certificates have in common. A name in a certificate is an outsider's text:
escaped, cut, and isolated, so that it turns nothing around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin
from django.db.models import DateTimeField, QuerySet, Value
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ...admin import cells
from ...admin.console import under_way
from ...admin.guard import guarded
from ...database import database_now
from .. import lifetime, shown, told
from ..messages import safe
from ..models import Certificate, Sighting, Watch

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
else:
    AnyAdmin = admin.ModelAdmin

TEMPLATES = "admin/notifications_certificates"
TABS = (
    ("certificate", "Certificates", "changelist"),
    ("certificate", "Calendar", "calendar"),
    ("watch", "Watches", "changelist"),
)


class Tab(NamedTuple):
    label: str
    url: str
    selected: bool


class Page(AnyAdmin):
    """What the pages of both tables stand in: the console's style, and the tabs from one to another."""

    list_per_page = 50
    show_full_result_count = False
    empty_value_display = ""
    change_list_template = f"{TEMPLATES}/change_list.html"

    @property
    def media(self) -> Media:
        styles = ["notifications/admin.css", "notifications/certificates.css"]
        return super().media + Media(css={"all": styles})

    def get_urls(self) -> list[URLPattern]:
        found = super().get_urls()
        for pattern in found:
            pattern.callback = guarded(pattern.callback)
        return found

    def tabs(self, request: HttpRequest) -> dict[str, Any]:
        """Those that this user may open."""
        site, allowed = self.admin_site.name, request.user.has_perm
        found = [
            Tab(label, address(model, view, site), address(model, view, site) == request.path)
            for model, label, view in TABS
            if allowed(f"notifications_certificates.view_{model}")
        ]
        console = reverse("admin:notifications_notificationevent_changelist", current_app=site)
        others = [("Notifications", console)] if sees_notifications(request) else []
        if others and (number := under_way()):
            operations = reverse("admin:notifications_notificationevent_operations", current_app=site)
            others.append((f"Operations: {number}", operations))
        return {"tabs": found, "others": others, "is_nav_sidebar_enabled": False}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = str(self.opts.verbose_name_plural).capitalize()
        context = {"title": title, **self.tabs(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        return super().render_change_form(request, context | self.tabs(request), *args, **kwargs)


def address(model: str, view: str, site: str, *args: object) -> str:
    return reverse(f"admin:notifications_certificates_{model}_{view}", args=args, current_app=site)


def sees_notifications(request: HttpRequest) -> bool:
    return request.user.has_perm("notifications.view_notificationevent")


def isolated(text: str) -> SafeString:
    return format_html("<bdi>{}</bdi>", safe(text))


def several(texts: list[str], most: int) -> SafeString:
    """`a, b and 3 more`, each kept to itself."""
    shown_texts = format_html_join(", ", "{}", [(isolated(text),) for text in texts[:most]])
    more = len(texts) - most
    return format_html("{}{}", shown_texts, f" and {more} more" if more > 0 else "")


def bar(certificate: Certificate, watches: Iterable[Watch], now: datetime) -> SafeString:
    dates = certificate.not_before, certificate.not_after
    life = lifetime.lifetime(*dates, told.moments(certificate, watches), now)
    return SafeString(render_to_string(f"{TEMPLATES}/bar.html", {"life": life, "width": lifetime.WIDTH}))


def state_badge(state: str, tone: str) -> SafeString:
    mark = {"sent": "✓", "failed": "!", "dead": "✕"}.get(tone, "○")
    return format_html(
        '<span class="nf-badge nf-{}"><span aria-hidden="true">{}</span> {}</span>', tone, mark, state
    )


def with_badges(alerts: Iterable[told.Told]) -> list[tuple[told.Told, SafeString]]:
    return [(one, cells.badge(one.state)) for one in alerts]


def at_one_time(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Each with the time by which all of them are judged: asked once."""
    found: QuerySet[Any] = rows.annotate(as_of=Value(database_now(), DateTimeField()))
    return found


def as_of(row: Watch | Certificate) -> datetime:
    found: datetime = row.as_of  # type: ignore[union-attr]
    return found


class Place(NamedTuple):
    """One sighting as a row of a page."""

    row: Sighting
    certificate: str
    url: str
    place: str
    bar: SafeString
    left: str
    verdicts: str


def places(
    rows: Iterable[Sighting], watches: Iterable[Watch], now: datetime, request: HttpRequest
) -> Iterator[Place]:
    may, watches = request.user.has_perm("notifications_certificates.view_certificate"), list(watches)
    for row in rows:
        one = row.certificate
        url = reverse("admin:notifications_certificates_certificate_change", args=[one.pk]) if may else ""
        yield Place(
            row,
            safe(one.title),
            url,
            safe(row.place, 200),
            bar(one, watches, now),
            shown.left(one, now),
            told.verdicts_in_words(row.verdicts),
        )
