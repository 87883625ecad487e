"""What is watched: the list, and one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ...admin import cells
from ...database import database_now
from ...durations import minute, timestamp
from .. import shown, told
from ..models import Sighting, Watch, as_target
from ..settling import remove
from ..state import OPTIONS
from ..thresholds import DEFAULT
from .page import (
    TEMPLATES,
    Page,
    as_of,
    at_one_time,
    bar,
    places,
    sees_notifications,
    several,
    state_badge,
    with_badges,
)

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Watch]
else:
    ModelForm = forms.ModelForm


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
    served_by = LinesField(
        required=False,
        help_text="Of files: the endpoints that serve them, a line each, such as shop.example.com:443.",
    )

    class Meta:
        model = Watch
        fields = ("target", *OPTIONS)

    def clean_target(self) -> str:
        """In the one way to write it, so that it is compared with those that there are."""
        target = as_target(self.cleaned_data["target"])
        if Watch.objects.filter(target=target).exclude(pk=self.instance.pk).exists():
            raise ValidationError("This is watched already.")
        return target


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

    def save_model(self, request: HttpRequest, watch: Watch, *args: Any) -> None:
        super().save_model(request, watch, *args)
        if unwatched := shown.unwatched([watch]):
            self.message_user(request, f"{unwatched}.", messages.WARNING)

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
                "unwatched": shown.unwatched([watch]),
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
        said, now = shown.state(watch, there(watch), as_of(watch)), as_of(watch)
        if said == shown.FINE and (ending := shown.ending(watch, there(watch), now)):
            return state_badge(f"ends in {ending}", "failed")
        return state_badge(said, shown.tone(watch, said))

    @admin.display(ordering="checked_at")
    def looked(self, watch: Watch) -> SafeString | str:
        return cells.when(watch.checked_at, minute(watch.checked_at)) if watch.checked_at else "not yet"

    @admin.display
    def tells(self, watch: Watch) -> SafeString:
        return several(watch.tells, 3)


def there(watch: Watch) -> list[Sighting]:
    """What was seen at it last; nothing of one that is just being made."""
    found: list[Sighting] = getattr(watch, "there", [])
    return found
