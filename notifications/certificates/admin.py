"""What is watched and what was seen, in the admin. A name in a certificate is an outsider's text: escaped,
cut, and isolated, so that it turns nothing around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import DateTimeField, Exists, OuterRef, Prefetch, QuerySet, Value
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..admin import cells
from ..admin.guard import guarded
from ..database import database_now
from ..durations import minute, timestamp
from . import calendar, lifetime, shown, told
from .alerts import named
from .messages import safe
from .models import Certificate, Sighting, Watch, as_target
from .settling import remove
from .thresholds import DEFAULT

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Watch]
else:
    AnyAdmin, ModelForm = admin.ModelAdmin, forms.ModelForm

MOST_NAMES = 20
TEMPLATES = "admin/notifications_certificates"
FILTER = "admin/notifications/notificationevent/filter.html"
DAYS = {"1d": 1, "7d": 7, "30d": 30, "90d": 90}


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


class LinesField(forms.Field):
    """A list of texts, one a line, or with commas between."""

    widget = forms.Textarea(attrs={"rows": 3, "cols": 60})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        lines = str(value or "").replace(",", "\n").splitlines()
        return [line.strip() for line in lines if line.strip()]


class WatchForm(ModelForm):
    notify = LinesField(
        required=False, help_text="Whom to tell, a line each, such as Slack:#pki or Email:ops@example.com."
    )
    at = LinesField(
        required=False,
        label="Thresholds",
        help_text=f"Shares of the lifetime that are left, or times: 30d. Without any: {', '.join(DEFAULT)}.",
    )

    class Meta:
        model = Watch
        fields = (
            "target",
            "notify",
            "at",
            "interval",
            "host",
            "password_file",
            "ca_file",
            "on_change",
            "on_renewal",
        )

    def clean_target(self) -> str:
        """In the one way to write it, so that it is compared with those that there are."""
        target = as_target(self.cleaned_data["target"])
        if Watch.objects.filter(target=target).exclude(pk=self.instance.pk).exists():
            raise ValidationError("This is watched already.")
        return target


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


@admin.register(Watch)
class WatchAdmin(Page):
    form = WatchForm
    list_display = ("target", "certificates", "left", "state", "looked", "tells")
    search_fields = ("target",)
    search_help_text = "Part of a host or a path."
    change_form_template = f"{TEMPLATES}/watch/change_form.html"
    actions = ("look_now",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Watch]:
        current = Sighting.objects.filter(current=True).select_related("certificate")
        there = Prefetch("sightings", current.order_by("certificate__not_after", "pk"), to_attr="there")
        return at_one_time(super().get_queryset(request)).prefetch_related(there)

    def delete_model(self, request: HttpRequest, watch: Watch) -> None:
        remove([watch.pk])

    def delete_queryset(self, request: HttpRequest, rows: QuerySet[Watch]) -> None:
        remove(list(rows.values_list("pk", flat=True)))

    def has_check_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications_certificates.check_watch")

    @admin.action(description="Look now at the selected targets", permissions=["check"])
    def look_now(self, request: HttpRequest, rows: QuerySet[Watch]) -> None:
        """A worker's next round does it."""
        count = Watch.objects.filter(pk__in=list(rows.values_list("pk", flat=True))).update(
            next_check_at=database_now()
        )
        said = f"A worker looks at {count} {'target' if count == 1 else 'targets'} within a minute."
        self.message_user(request, said, messages.SUCCESS)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        watch: Watch | None = context.get("original")
        if watch is not None:
            now, rows = database_now(), there(watch)
            context |= {
                "title": watch.target,
                "subtitle": None,
                "state": self.state(watch),
                "looked": self.looked(watch),
                "next_look": timestamp(watch.next_check_at),
                "thresholds": ", ".join(shown.thresholds_of(watch)),
                "seen_there": list(places(rows[: shown.MOST_SIGHTINGS], [watch], now, request)),
                "told": with_badges(told.of({row.certificate_id for row in rows}, watch)),
                "sees_notifications": sees_notifications(request),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="certificate")
    def certificates(self, watch: Watch) -> SafeString:
        return several([row.certificate.title for row in there(watch)], 2)

    @admin.display(description="first to end")
    def left(self, watch: Watch) -> SafeString:
        if not there(watch):
            return SafeString("")
        first, now = there(watch)[0].certificate, as_of(watch)
        return format_html(
            '{} <span class="nf-life-word">{}</span>', bar(first, [watch], now), shown.left(first, now)
        )

    @admin.display
    def state(self, watch: Watch) -> SafeString:
        said = shown.state(watch, there(watch), as_of(watch))
        return state_badge(said, shown.tone(watch, said))

    @admin.display(ordering="checked_at")
    def looked(self, watch: Watch) -> SafeString | str:
        return cells.when(watch.checked_at, minute(watch.checked_at)) if watch.checked_at else "not yet"

    @admin.display
    def tells(self, watch: Watch) -> SafeString:
        return several(watch.notify, 3)


def at_one_time(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Each with the time by which all of them are judged: asked once."""
    found: QuerySet[Any] = rows.annotate(as_of=Value(database_now(), DateTimeField()))
    return found


def as_of(row: Watch | Certificate) -> datetime:
    found: datetime = row.as_of  # type: ignore[union-attr]
    return found


def there(watch: Watch) -> list[Sighting]:
    """What was seen at it last; nothing of one that is just being made."""
    found: list[Sighting] = getattr(watch, "there", [])
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
