"""What was seen: the list, one certificate, and a calendar of what ends when."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ...admin import cells
from ...admin.guard import guarded
from ...database import database_now
from ...durations import minute, timestamp
from .. import calendar, lifetime, shown, told
from ..alerts import named
from ..messages import safe
from ..models import Certificate, Sighting, Watch
from .page import (
    TEMPLATES,
    Page,
    address,
    as_of,
    at_one_time,
    bar,
    isolated,
    places,
    sees_notifications,
    several,
    with_badges,
)

MOST_NAMES = 20
FILTER = "admin/notifications/notificationevent/filter.html"
DAYS = {"1d": 1, "7d": 7, "30d": 30, "90d": 90}


class EndsFilter(admin.SimpleListFilter):
    title, parameter_name, template = "ends", "ends", FILTER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            *((name, f"within {days} {'day' if days == 1 else 'days'}") for name, days in DAYS.items()),
            ("over", "has ended"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> QuerySet[Certificate]:
        now = database_now()
        if self.value() == "over":
            return queryset.filter(not_after__lte=now)
        if days := DAYS.get(self.value() or ""):
            return queryset.filter(not_after__gt=now, not_after__lte=now + timedelta(days=days))
        return queryset


class SeenFilter(admin.SimpleListFilter):
    title, parameter_name, template = "seen", "seen", FILTER

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "now"), ("gone", "not any more")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> QuerySet[Certificate]:
        there = Exists(Sighting.objects.filter(certificate=OuterRef("pk"), current=True))
        return {"now": queryset.filter(there), "gone": queryset.exclude(there)}.get(
            self.value() or "", queryset
        )


@admin.register(Certificate)
class CertificateAdmin(Page):
    """Read only: they are what was seen."""

    list_display = ("name", "left", "until", "issued_by", "where")
    list_filter = (EndsFilter, SeenFilter)
    sortable_by = ("left",)
    search_fields = ("names", "subject", "serial", "fingerprint")
    search_help_text = "Part of a name, or of a serial or fingerprint."
    actions = None
    change_form_template = f"{TEMPLATES}/certificate/change_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        """With it would go what was raised, and all would be raised again."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Certificate]:
        current = Sighting.objects.filter(current=True).select_related("watch").order_by("place", "pk")
        there = Prefetch("sightings", current, to_attr="there")
        return at_one_time(super().get_queryset(request)).prefetch_related(there)

    def get_urls(self) -> list[URLPattern]:
        view = guarded(self.admin_site.admin_view(self.calendar_view))
        return [
            path("calendar/", view, name="notifications_certificates_certificate_calendar"),
            *super().get_urls(),
        ]

    # The list

    @admin.display(description="certificate")
    def name(self, certificate: Certificate) -> SafeString:
        return isolated(certificate.title)

    @admin.display(description="left", ordering="not_after")
    def left(self, certificate: Certificate) -> SafeString:
        now = as_of(certificate)
        return format_html(
            '{} <span class="nf-life-word">{}</span>',
            bar(certificate, watches_of(certificate), now),
            shown.left(certificate, now),
        )

    @admin.display(description="valid until")
    def until(self, certificate: Certificate) -> SafeString:
        return cells.when(certificate.not_after, minute(certificate.not_after))

    @admin.display(description="issuer")
    def issued_by(self, certificate: Certificate) -> SafeString:
        return isolated(certificate.issuer)

    @admin.display(description="seen at")
    def where(self, certificate: Certificate) -> SafeString:
        rows = certificate.there  # type: ignore[attr-defined]
        if not rows:
            return format_html("gone since {}", minute(certificate.last_seen))
        return several([row.place for row in rows], 2)

    # One certificate

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        certificate: Certificate = context["original"]
        now, watches = database_now(), watches_of(certificate)
        alerts, moments = told.of([certificate.pk]), told.moments(certificate, watches)
        seen = certificate.sightings.select_related("certificate").order_by("-current", "place")
        passed = {threshold.text: at <= now for threshold, at in moments}
        context |= {
            "title": safe(certificate.title),
            "subtitle": None,
            "answer": told.answer(certificate, alerts, watches, now),
            "life": lifetime.lifetime(certificate.not_before, certificate.not_after, moments, now),
            "width": lifetime.WIDTH,
            "left": shown.left(certificate, now),
            "marks": [(told.left(threshold), at, passed[threshold.text]) for threshold, at in moments],
            "tells": told.recipients(watches),
            "told": with_badges(alerts),
            "sent_url": self.sent_url(request, certificate),
            "facts": facts(certificate),
            "places": list(places(seen[: shown.MOST_SIGHTINGS], watches, now, request)),
            "verdicts": told.verdicts_in_words(
                {verdict for row in seen[: shown.MOST_SIGHTINGS] if row.current for verdict in row.verdicts}
            ),
            "sees_notifications": sees_notifications(request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def sent_url(self, request: HttpRequest, certificate: Certificate) -> str:
        """The console's page of all that anybody raised about a certificate of this name."""
        if not sees_notifications(request):
            return ""
        page = reverse("admin:notifications_notificationevent_certificate", current_app=self.admin_site.name)
        return f"{page}?{urlencode({'id': named(certificate)})}"

    # What ends when

    def calendar_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        by = "month" if request.GET.get("by") == "month" else "week"
        now = database_now()
        stretches = calendar.stretches(now, by)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            **self.tabs(request),
            "opts": self.opts,
            "media": self.media,
            "title": "What ends when",
            "by": by,
            "rows": [ended(stretch, max(one.count for one in stretches), by, now) for stretch in stretches],
            "width": lifetime.WIDTH,
            "over": calendar.over(now),
            "later": calendar.later(stretches[-1].end),
            "last": stretches[-1].end,
            "list_url": address("certificate", "changelist", self.admin_site.name),
        }
        return TemplateResponse(request, f"{TEMPLATES}/certificate/calendar.html", context)


class Ended(NamedTuple):
    """A stretch as a row of the calendar. width: of its bar."""

    label: str
    until: str
    number: int
    width: str
    certificates: list[tuple[Certificate, str, str, str]]
    more: int
    query: str


def ended(stretch: calendar.Stretch, most: int, by: str, now: datetime) -> Ended:
    first = [
        (one, safe(one.title), shown.left(one, now), lifetime.tone(one.not_after, told.moments(one, ()), now))
        for one in stretch.certificates
    ]
    begins, ends = (day_of(day, by) for day in (stretch.start, stretch.last))
    return Ended(
        begins,
        "" if ends == begins else ends,
        stretch.count,
        f"{lifetime.WIDTH * stretch.count / most if most else 0:.1f}",
        first,
        stretch.more,
        between(stretch.start, stretch.end),
    )


def day_of(at: datetime, by: str) -> str:
    return f"{at:%B %Y}" if by == "month" else f"{at.day} {at:%b}"


def between(start: datetime, end: datetime) -> str:
    """The list's query of what ends then and is there."""
    return urlencode({"not_after__gte": start.isoformat(), "not_after__lt": end.isoformat(), "seen": "now"})


def watches_of(certificate: Certificate) -> list[Watch]:
    """Those that see it now."""
    return list({row.watch_id: row.watch for row in certificate.there}.values())  # type: ignore[attr-defined]


def facts(certificate: Certificate) -> list[tuple[str, object]]:
    found = (
        ("Names", several(certificate.names, MOST_NAMES)),
        ("Issuer", isolated(certificate.issuer)),
        ("Key and signature", certificate.algorithm),
        ("Valid from", timestamp(certificate.not_before)),
        ("Valid until", timestamp(certificate.not_after)),
        ("First seen", timestamp(certificate.first_seen)),
        ("Last seen", timestamp(certificate.last_seen)),
        ("Serial", certificate.serial),
        ("Fingerprint (SHA-256)", certificate.fingerprint),
    )
    return [(label, text) for label, text in found if text]
