"""The operator's page: what is dead, why, and the way back.

It holds no rules: what may be done with a notification is the QuerySet's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.forms import Media, Script
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from ..database import without_transaction
from ..deaths.fingerprints import FOLD
from ..engine import send_now
from ..exceptions import TransitionRefused
from ..models import NotificationEvent, NotificationQuerySet, Status
from ..models.fields import UNDELIVERED
from ..operations.filters import READERS, STORED, Meaningless, parse
from ..operations.follow import done_since
from ..operations.verbs import DISMISS, REQUEUE, RESTORE, SEE, VERBS, Verb
from ..reporting import words
from ..reporting.preview import previews
from . import around, cells, channel, confirm, dashboard, endpoints, operation, triage
from .console import TEMPLATES, Console
from .guard import guarded
from .list import LOOKED_AT, NotificationChangeList
from .list_filters import FILTERS
from .page import clamped, errors, facts, related, timeline

REFRESH_HEADER = "X-Notifications-Refresh"
WATCHED, SELDOM = 5, 30  # seconds after which a notification's page looks again


@admin.register(NotificationEvent)
class NotificationAdmin(Console):
    """Two lists and a page of evidence: everything here is read-only but for the verbs."""

    list_display = ("badge", "subject", "on", "to", "certificate", "kind", "retry", "age")
    list_display_links = ("subject",)
    list_filter = FILTERS
    list_per_page = 50
    empty_value_display = ""
    # Only what an index can sort: the table may hold millions.
    sortable_by = ("age",)
    search_fields = ("id",)  # what is searched is for operations/filters.py to say
    search_help_text = (
        "A whole id, certificate or recipient is found wherever it is."
        " Words are looked for in the recipient, certificate, message and errors of the newest"
        f" {LOOKED_AT:,}."
    )
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = tuple(verb.action for verb in VERBS)

    @property
    def media(self) -> Media:
        """Ours only: stock's row selection cannot follow a list that is replaced in place."""
        scripts = [Script(f"notifications/{name}.js", defer=True) for name in ("admin", "copy")]
        return Media(css={"all": ["notifications/admin.css"]}, js=scripts)  # type: ignore[arg-type]

    # Who may do what

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody edits a notification; the change permission is for marking read."""
        return False

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return REQUEUE.allowed_to(request.user)

    def has_close_permission(self, request: HttpRequest) -> bool:
        """To dismiss and restore, and to mark as seen."""
        return DISMISS.allowed_to(request.user)

    # The list

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The filters are all there is: any other column would mean reading the whole table."""
        columns = {field.name for field in self.opts.get_fields()}
        return lookup in READERS or lookup.split("__")[0] not in columns

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The list searches by itself (list.py)."""
        return queryset, False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NotificationChangeList]:
        return NotificationChangeList

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Without stock's deletion of what is selected, which reads all of it, and its history, at once.

        Django 6.1 asks for a location; earlier ones know of none.
        """
        where = {} if action_location is None else {"action_location": action_location}
        found = super().get_actions(request, **where)
        return {name: action for name, action in found.items() if name in self.actions}

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        buttons = ["requeue_button"] if self.has_requeue_permission(request) else []
        return [*self.list_display, *buttons]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        given = [*request.GET.lists(), ("", request.POST.getlist(ACTION_CHECKBOX_NAME))]
        if any("\x00" in value for name, values in given for value in (name, *values)):
            return HttpResponseRedirect(request.path)  # PostgreSQL refuses to compare with it
        if FOLD in request.GET.get("error", ""):  # an address from when that was the word for `alike`
            query = request.GET.copy()
            query["alike"] = query.pop("error")[-1]
            return HttpResponseRedirect(f"{request.path}?{query.urlencode()}")
        try:
            parse(request.GET.dict(), timezone.now())
        except Meaningless as error:
            said = {"title": "No such filter", "name": error.name, "why": str(error)}
            answer = self.respond(request, "unknown.html", said)
            answer.status_code = 400
            return answer
        offered = [verb for verb in (REQUEUE, DISMISS) if verb.allowed_to(request.user)]
        context = {**self.common(request), "verbs": offered, **(extra_context or {})}
        response: HttpResponse = super().changelist_view(request, context)
        if REFRESH_HEADER in request.headers and isinstance(response, TemplateResponse):
            response.template_name = f"{TEMPLATES}/live.html"
        return response

    @admin.display(description="status", ordering="status")
    def badge(self, event: NotificationEvent) -> SafeString:
        return cells.badge_of(event)

    @admin.display(description="message")
    def subject(self, event: NotificationEvent) -> SafeString:
        return cells.subject(event, timezone.now())

    @admin.display(description="channel")
    def on(self, event: NotificationEvent) -> SafeString:
        return cells.channel(event.channel)

    @admin.display(description="recipient")
    def to(self, event: NotificationEvent) -> SafeString:
        return cells.shortened(event.recipient)

    @admin.display(description="certificate")
    def certificate(self, event: NotificationEvent) -> SafeString:
        return cells.shortened(event.certificate_id)

    @admin.display(description="type")
    def kind(self, event: NotificationEvent) -> SafeString:
        return cells.shortened(event.type)

    @admin.display(description="retry")
    def retry(self, event: NotificationEvent) -> SafeString:
        return cells.retry(event, timezone.now())

    @admin.display(description="age", ordering="created_at")
    def age(self, event: NotificationEvent) -> SafeString:
        return cells.age(event.created_at)

    @admin.display(description="what to do")
    def requeue_button(self, event: NotificationEvent) -> SafeString:
        """Submits a form outside the list, because the list is inside a form of its own."""
        if event.status != Status.DEAD and not event.not_delivered:
            return SafeString("")
        return format_html(
            '<button type="submit" class="nf-button nf-requeue" form="nf-verb" formaction="{}"'
            ' aria-label="Requeue {}">Requeue</button>',
            self._verb_url(REQUEUE, event),
            event,
        )

    # Verbs

    @admin.action(description="Requeue selected %(verbose_name_plural)s", permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: NotificationQuerySet) -> HttpResponse | None:
        return confirm.run(self, request, queryset, REQUEUE)

    @admin.action(description="Dismiss selected dead letters", permissions=["close"])
    def dismiss_selected(self, request: HttpRequest, queryset: NotificationQuerySet) -> HttpResponse | None:
        return confirm.run(self, request, queryset, DISMISS)

    @admin.action(description="Mark selected deliveries as seen", permissions=["close"])
    def mark_seen_selected(self, request: HttpRequest, queryset: NotificationQuerySet) -> HttpResponse | None:
        return confirm.run(self, request, queryset, SEE)

    @admin.action(description="Restore selected dismissed ones", permissions=["close"])
    def restore_selected(self, request: HttpRequest, queryset: NotificationQuerySet) -> HttpResponse | None:
        return confirm.run(self, request, queryset, RESTORE)

    def get_action_choices(
        self, request: HttpRequest, default_choices: Any = None, action_location: Any = None
    ) -> list[tuple[str, str]]:
        """Those that some row of the tab can take; what is posted all the same is answered."""
        options = {
            "default_choices": default_choices,
            "action_location": action_location,
        }  # Django 6.1 has both
        given = {name: value for name, value in options.items() if value is not None}
        found = super().get_action_choices(request, **given)
        status = request.GET.get("status", "")
        wanted = STORED.get(status, status)
        apt = {verb.action for verb in VERBS if not wanted or wanted in verb.stored}
        return [(name, label) for name, label in found if not name or name in apt]

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, tuple[str, Callable[..., HttpResponseBase]]] = {
            "dashboard": ("dashboard/", self.dashboard_view),
            "endpoints": ("endpoints/", self.endpoints_view),
            "operations": ("operations/", self.operations_view),
            "certificate": ("certificate/", self.certificate_view),
            "group": ("group/", self.group_view),
            "channel": ("channel/", self.channel_view),
            "operation": ("operations/<int:operation_id>/", self.operation_view),
            "requeue": ("<path:object_id>/requeue/", self.requeue_view),
            "send": ("<path:object_id>/send/", self.send_view),
        }
        named = [
            path(route, self.admin_site.admin_view(view), name=f"notifications_notificationevent_{name}")
            for name, (route, view) in views.items()
        ]
        found = [*named, *super().get_urls()]
        for pattern in found:
            # An attempt is put on record as it ends, and many rows are changed a batch at a time.
            pattern.callback = without_transaction(guarded(pattern.callback))
        return found

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        name = "dashboard_live" if REFRESH_HEADER in request.headers else "dashboard"
        return dashboard.page(self, request, f"{name}.html")

    def endpoints_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return endpoints.page(self, request)

    def operations_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return operation.listing(self, request)

    def operation_view(self, request: HttpRequest, operation_id: int) -> HttpResponse:
        self._require_view(request)
        name = "operation_live" if REFRESH_HEADER in request.headers else "operation"
        return operation.page(self, request, operation_id, f"{name}.html")

    def certificate_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return around.certificate(self, request)

    def group_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return triage.page(self, request)

    def channel_view(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return channel.page(self, request)

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    @method_decorator(require_POST)
    def requeue_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Requeue one notification, from its page or its button in the list."""
        if not self.has_requeue_permission(request):
            raise PermissionDenied
        pk = unquote(object_id)
        event = self.get_object(request, pk)
        there = event is not None and self._requeue(request, event)
        if not there:
            self.message_user(request, f"Notification {pk} is gone.", messages.WARNING)
        if there and "page" in request.POST and self.has_view_permission(request):
            return HttpResponseRedirect(self.url("change", quote(pk)) + around.kept(request))
        return self._back_to_list(request)

    @method_decorator(require_POST)
    def send_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Requeue one notification where it needs that, attempt it at once and show what came of it."""
        if not self.has_requeue_permission(request):
            raise PermissionDenied
        pk = unquote(object_id)
        event = self.get_object(request, pk)
        try:
            tried = send_now.requeue_and_send(event, by=request.user.get_username()) if event else None
        except NotificationEvent.DoesNotExist:
            tried = None
        if event is None or tried is None:
            self.message_user(request, f"Notification {pk} is gone.", messages.WARNING)
            return self._back_to_list(request)
        self.log_change(request, event, f"Sent by hand: {tried.text}")
        level = messages.SUCCESS if tried.delivered else messages.WARNING
        self.message_user(request, tried.text, level)
        if self.has_view_permission(request):
            return HttpResponseRedirect(self.url("change", quote(pk)) + around.kept(request))
        return self._back_to_list(request)

    def _requeue(self, request: HttpRequest, event: NotificationEvent) -> bool:
        """Do it and say so, or say why not; answers whether the notification still exists."""
        try:
            REQUEUE.on_event(event, by=request.user.get_username())
        except NotificationEvent.DoesNotExist:
            return False
        except TransitionRefused as refusal:
            since = timezone.now() - operation.A_MOMENT
            before = operation.told(self, done_since(since, ids=[event.pk], but=None)[:1], one=True)
            text = format_html("{} refused: {}. {}", REQUEUE.label, refusal.why, before)
            self.message_user(request, text.rstrip(), messages.WARNING)
        else:
            self.log_change(request, event, f"{REQUEUE.done}.")
            self.message_user(request, f"{REQUEUE.done}: {event}.", messages.SUCCESS)
        return True

    def _back_to_list(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))
        filters = QueryDict(request.POST.get("filters", "")).urlencode()
        return HttpResponseRedirect(self.url("changelist") + (f"?{filters}" if filters else ""))

    def _verb_url(self, verb: Verb, event: NotificationEvent) -> str:
        """Where a button posts to: all but a requeue are the list's actions, which ask first."""
        return self.url("requeue", quote(event.pk) or "_") if verb is REQUEUE else self.url("changelist")

    # A notification's own page

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> NotificationEvent | None:
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        event: NotificationEvent = context["original"]
        now = timezone.now()
        offered = [v for v in VERBS if v.may_take(event) and v.allowed_to(request.user)]
        kept = around.kept(request)
        context |= {
            **self.common(request),
            "title": words.headline(event, now),
            "subtitle": None,
            "message": clamped(event.message),
            "errors": errors(event),
            "badge": cells.badge_of(event),
            "facts": facts(event, now, self._certificate_link(event)),
            "timeline": timeline(event, now),
            "history_url": self.url("history", quote(event.pk)),
            "delete_url": self.url("delete", quote(event.pk)),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "kept_query": request.GET.get(around.PRESERVED, ""),
            "verbs": [
                (verb, self._verb_url(verb, event) + (kept if verb is REQUEUE else "")) for verb in offered
            ],
            "send": self._send_button(request, event),
            "send_url": self.url("send", quote(event.pk)) + kept,
            "previews": previews(event),
            "refresh_seconds": WATCHED if event.status in UNDELIVERED else SELDOM,
            "around": around.neighbours(self, request, event),
            "related": [(other, cells.badge_of(other)) for other in related(event)],
        }
        response = super().render_change_form(request, context, *args, **kwargs)
        if REFRESH_HEADER in request.headers and isinstance(response, TemplateResponse):
            response.template_name = f"{TEMPLATES}/event_live.html"
        return response

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().delete_view(request, object_id, {**self.common(request), **(extra_context or {})})

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        own = self.opts.verbose_name_plural
        counted = [(str(name), count) for name, count in context["model_count"] if name != own]
        goes_too = [(name.removesuffix("s") if count == 1 else name, count) for name, count in counted]
        return super().render_delete_form(request, context | {"goes_too": goes_too})

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().history_view(request, object_id, {**self.common(request), **(extra_context or {})})

    def _send_button(self, request: HttpRequest, event: NotificationEvent) -> str:
        """What the button says; "" where there is nothing to send, or nobody who may."""
        if not self.has_requeue_permission(request):
            return ""
        if event.status == Status.PENDING:
            return "Send now"
        return "Requeue and send now" if REQUEUE.may_take(event) else ""

    def _certificate_link(self, event: NotificationEvent) -> SafeString | None:
        """All that was ever said about the same certificate."""
        if not event.certificate_id:
            return None
        query = urlencode({"certificate_id": event.certificate_id})
        return format_html('<a href="{}?{}">{}</a>', self.url("changelist"), query, event.certificate_id)
