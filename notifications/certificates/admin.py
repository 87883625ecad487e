"""What is watched and what was seen, in the admin. A name in a certificate is an outsider's text: escaped,
cut, and isolated, so that it turns nothing around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..database import database_now
from ..durations import timestamp
from . import shown
from .messages import safe
from .models import Certificate, Sighting, Watch, as_target
from .thresholds import DEFAULT

if TYPE_CHECKING:
    CertificateBase = admin.ModelAdmin[Certificate]
    WatchBase = admin.ModelAdmin[Watch]
    ModelForm = forms.ModelForm[Watch]
else:
    CertificateBase = WatchBase = admin.ModelAdmin
    ModelForm = forms.ModelForm

MOST_NAMES = 20


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


def listed(rows: Iterable[tuple[object, ...]], form: str) -> SafeString:
    return format_html("<ul>{}</ul>", format_html_join("", f"<li>{form}</li>", rows))


@admin.register(Watch)
class WatchAdmin(WatchBase):
    form = WatchForm
    list_display = ("target", "certificates", "ends", "state", "looked", "tells")
    search_fields = ("target",)
    list_per_page = 50
    show_full_result_count = False
    readonly_fields = ("state", "looked", "next_look", "seen_there")
    actions = ("look_now",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Watch]:
        current = Sighting.objects.filter(current=True).select_related("certificate")
        there = Prefetch("sightings", current.order_by("certificate__not_after", "pk"), to_attr="there")
        return super().get_queryset(request).prefetch_related(there)

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

    @admin.display
    def certificates(self, watch: Watch) -> SafeString:
        names = [row.certificate.title for row in there(watch)[:3]]
        more = len(there(watch)) - len(names)
        shown_names = format_html_join(", ", "{}", [(isolated(name),) for name in names])
        return format_html("{}{}", shown_names, f" and {more} more" if more > 0 else "")

    @admin.display(description="first to end")
    def ends(self, watch: Watch) -> str:
        return shown.left(there(watch)[0].certificate, database_now()) if there(watch) else ""

    @admin.display
    def state(self, watch: Watch) -> str:
        return shown.state(watch, there(watch), database_now())

    @admin.display(ordering="checked_at")
    def looked(self, watch: Watch) -> str:
        return timestamp(watch.checked_at) if watch.checked_at else "not yet"

    @admin.display(ordering="next_check_at")
    def next_look(self, watch: Watch) -> str:
        return timestamp(watch.next_check_at) if watch.pk else ""

    @admin.display
    def tells(self, watch: Watch) -> str:
        return ", ".join(watch.notify)

    @admin.display(description="seen there now")
    def seen_there(self, watch: Watch) -> SafeString:
        now = database_now()
        rows = (
            (isolated(row.certificate.title), isolated(row.place), shown.left(row.certificate, now))
            for row in there(watch)[: shown.MOST_SIGHTINGS]
        )
        return listed(rows, "{} at {}: {}")


def there(watch: Watch) -> list[Sighting]:
    """What was seen at it last; nothing of one that is just being made."""
    found: list[Sighting] = getattr(watch, "there", [])
    return found


@admin.register(Certificate)
class CertificateAdmin(CertificateBase):
    """Read only: they are what was seen."""

    list_display = ("name", "ends", "not_after", "issued_by", "seen")
    search_fields = ("names", "subject", "serial", "fingerprint")
    list_per_page = 50
    show_full_result_count = False
    fields = (
        "name",
        "for_names",
        "issued_by",
        "serial",
        "algorithm",
        "fingerprint",
        "not_before",
        "not_after",
        "ends",
        "first_seen",
        "last_seen",
        "places",
        "alerts",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Certificate | None = None) -> bool:
        """With it would go what was raised, and all would be raised again."""
        return False

    @admin.display
    def name(self, certificate: Certificate) -> SafeString:
        return isolated(certificate.title)

    @admin.display(description="names")
    def for_names(self, certificate: Certificate) -> SafeString:
        names = certificate.names[:MOST_NAMES]
        more = len(certificate.names) - len(names)
        shown_names = format_html_join(", ", "{}", [(isolated(name),) for name in names])
        return format_html("{}{}", shown_names, f" and {more} more" if more > 0 else "")

    @admin.display(description="issuer")
    def issued_by(self, certificate: Certificate) -> SafeString:
        return isolated(certificate.issuer)

    @admin.display(description="left", ordering="not_after")
    def ends(self, certificate: Certificate) -> str:
        return shown.left(certificate, database_now())

    @admin.display(description="last seen", ordering="last_seen")
    def seen(self, certificate: Certificate) -> str:
        return timestamp(certificate.last_seen)

    @admin.display(description="seen at")
    def places(self, certificate: Certificate) -> SafeString:
        rows = certificate.sightings.all()[: shown.MOST_SIGHTINGS]
        return listed(
            ((isolated(row.place), "now" if row.current else timestamp(row.last_seen)) for row in rows),
            "{}, {}",
        )

    @admin.display(description="alerts raised")
    def alerts(self, certificate: Certificate) -> SafeString:
        rows = shown.raised_of([certificate.pk])
        told = (
            (one["what"], one["recipient"], one["channel"], timestamp(one["at"]), one["status"])
            for one in rows
        )
        return listed(told, "{} to {} on {}, {}: {}")
