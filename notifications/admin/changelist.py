"""The list's tabs and filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.admin.filters import ListFilter, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters, ModelAdmin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest

from .. import conf
from ..models import EventType, NotificationEvent, Status
from ..queryset import REQUEUEABLE, UNDELIVERED, NotificationQuerySet

if TYPE_CHECKING:
    from django.contrib.admin.filters import _ListFilterChoices

RETRYING, STRANDED = "retrying", "stranded"
FILTER_TEMPLATE = "admin/notifications/notificationevent/filter.html"


class Tab(NamedTuple):
    """One tab; number is None where nobody needs to know."""

    label: str
    url: str
    number: int | None
    selected: bool


class NotificationChangeList(ChangeList):
    """Stock's list, with tabs, and without the columns that no cell shows."""

    any_status: QuerySet[NotificationEvent]

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        if not self.is_popup:
            self.title = str(self.opts.verbose_name_plural).capitalize()

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[NotificationEvent]:
        self.any_status = super().get_queryset(request, exclude_parameters=[StatusFilter.parameter_name])
        return super().get_queryset(request, exclude_parameters).defer("message", "dedup_key")

    @cached_property
    def tabs(self) -> list[Tab]:
        """Every tab keeps the other filters and counts within them."""
        stranded = Q(status=Status.FAILED, next_retry_at__isnull=True)
        counts = (
            self.any_status.filter(status__in=REQUEUEABLE)
            .order_by()
            .aggregate(
                dead=Count("pk", filter=Q(status=Status.DEAD)),
                retrying=Count("pk", filter=Q(status=Status.FAILED) & ~stranded),
                stranded=Count("pk", filter=stranded),
            )
        )
        tabs = [
            self._tab("All", None),
            self._tab("Dead letter", Status.DEAD, counts["dead"]),
            self._tab("Retrying", RETRYING, counts[RETRYING]),
            self._tab("Stranded", STRANDED, counts[STRANDED]),
        ]
        return [tab for tab in tabs if tab.label != "Stranded" or tab.number or tab.selected]

    def _tab(self, label: str, status: str | None, number: int | None = None) -> Tab:
        name = StatusFilter.parameter_name
        return Tab(label, self.get_query_string({name: status}), number, self.params.get(name) == status)

    @property
    def empty_text(self) -> str:
        """What an empty list means, which for a dead-letter queue is good news."""
        narrowed = self.query or set(self.filter_params) - {StatusFilter.parameter_name}
        good_news = {Status.DEAD: "No dead letters.", RETRYING: "Nothing is waiting for a retry."}
        status = self.params.get(StatusFilter.parameter_name, "")
        return "Nothing matches." if narrowed else good_news.get(status, "No notifications here.")

    @cached_property
    def undelivered_kinds(self) -> list[tuple[str, str]]:
        """The (channel, type) pairs that an operator may look for, found without reading the whole table."""
        rows = NotificationEvent.objects.filter(status__in=(*UNDELIVERED, Status.DEAD))
        return list(rows.order_by().values_list("channel", "type").distinct())


class StatusFilter(SimpleListFilter):
    """The five states, and the two kinds of failed that have tabs."""

    title = "status"
    template = FILTER_TEMPLATE
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        kinds = [(RETRYING, "Failed, retrying"), (STRANDED, "Failed, stranded")]
        at = Status.values.index(Status.FAILED) + 1
        choices = [(str(value), str(label)) for value, label in Status.choices]
        return [*choices[:at], *kinds, *choices[at:]]

    def queryset(self, request: HttpRequest, rows: QuerySet[Model]) -> QuerySet[Model] | None:
        assert isinstance(rows, NotificationQuerySet)  # noqa: S101  (for the type checker)
        value = self.value()
        if value is None:
            return None
        if value == STRANDED:
            return rows.stranded()
        if value == RETRYING:
            return rows.failed().exclude(next_retry_at__isnull=True)
        if value not in Status:
            raise IncorrectLookupParameters(value)
        return rows.filter(status=value)


class OptionsFilter(ListFilter):
    """One column, whose options are those known beforehand and those of undelivered notifications.

    The options of every row would mean reading the whole table each time. The others can be searched
    for, and put into the URL.
    """

    template = FILTER_TEMPLATE
    parameter_name: str

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: ModelAdmin[Any]
    ) -> None:
        super().__init__(request, params, model, model_admin)
        given: list[str] = params.pop(self.parameter_name, [])
        self.value = given[-1] if given else None

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name]

    def choices(self, changelist: ChangeList) -> Iterator[_ListFilterChoices]:
        assert isinstance(changelist, NotificationChangeList)  # noqa: S101  (for the type checker)
        options = {option.casefold(): option for option in self.observed(changelist.undelivered_kinds)}
        options |= {option.casefold(): option for option in self.known()}
        if self.value:
            options.setdefault(self.value.casefold(), self.value)
        chosen = self.value.casefold() if self.value else None
        yield self._choice(changelist, "All", None, chosen is None)
        for folded, option in sorted(options.items()):
            yield self._choice(changelist, option, option, chosen == folded)

    def _choice(
        self, changelist: ChangeList, display: str, value: str | None, selected: bool
    ) -> _ListFilterChoices:
        query_string = changelist.get_query_string({self.parameter_name: value})
        return {"selected": selected, "query_string": query_string, "display": display}

    def known(self) -> Iterable[str]:
        return ()

    def observed(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return ()


class ChannelFilter(OptionsFilter):
    title = "channel"
    parameter_name = "channel"

    def known(self) -> Iterable[str]:
        return conf.current().channels

    def observed(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return [channel for channel, _ in kinds]

    def queryset(self, request: HttpRequest, rows: QuerySet[Model]) -> QuerySet[Model] | None:
        assert isinstance(rows, NotificationQuerySet)  # noqa: S101  (for the type checker)
        return rows.on_channel(self.value) if self.value else None


class TypeFilter(OptionsFilter):
    title = "type"
    parameter_name = "type"

    def known(self) -> Iterable[str]:
        return EventType.values

    def observed(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return [type_ for _, type_ in kinds]

    def queryset(self, request: HttpRequest, rows: QuerySet[Model]) -> QuerySet[Model] | None:
        return rows.filter(type=self.value) if self.value else None


class CertificateFilter(OptionsFilter):
    """Has no options of its own: it shows what a link asked for, and the way out."""

    title = "certificate"
    parameter_name = "certificate_id"

    def has_output(self) -> bool:
        return bool(self.value)

    def queryset(self, request: HttpRequest, rows: QuerySet[Model]) -> QuerySet[Model] | None:
        return rows.filter(certificate_id=self.value) if self.value else None
