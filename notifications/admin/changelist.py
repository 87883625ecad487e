"""The list's tabs, filters and pages. What a filter means is narrowing.py's to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.admin.filters import ListFilter
from django.contrib.admin.options import IncorrectLookupParameters, ModelAdmin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from .. import conf
from ..models import EventType, NotificationEvent, Status
from ..queryset import NotificationQuerySet
from . import narrowing
from .errors import Group, grouped
from .narrowing import COUNTED, NEWEST, OLDEST, RARE, RETRYING, STRANDED

if TYPE_CHECKING:
    from django.contrib.admin.filters import _ListFilterChoices

    NotificationPaginator = Paginator[NotificationEvent]
else:
    NotificationPaginator = Paginator

FILTER_TEMPLATE = "admin/notifications/notificationevent/filter.html"
OFFERED_FROM = 1_000  # of the newest notifications, whose channels and types the filters offer
TOP_GROUPS, GROUPS_SHOWN = 6, 100


class Tab(NamedTuple):
    """One tab; number is None where nobody needs to know."""

    label: str
    url: str
    number: str | None
    selected: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the list has looked, and where to look further. what: notifications, or those of one status."""

    many: int
    what: str
    since: datetime
    further: str

    @property
    def many_text(self) -> str:
        return f"{self.many:,}"


class Pages(NotificationPaginator):
    """Counts up to COUNTED. Where texts are read, they are read once for the count and the page."""

    def __init__(self, rows: NotificationQuerySet, per_page: int, reads_texts: bool) -> None:
        super().__init__(rows, per_page)
        self.rows = rows
        self.reads_texts = reads_texts

    @cached_property
    def ids(self) -> list[str]:
        return list(self.rows.values_list("pk", flat=True)[: COUNTED + 1])

    @cached_property
    def found(self) -> int:
        """COUNTED + 1 when there are more."""
        return len(self.ids) if self.reads_texts else narrowing.capped(self.rows)

    @property
    def count(self) -> int:
        return min(self.found, COUNTED)

    def rows_of(self, number: int) -> QuerySet[NotificationEvent]:
        """Raises InvalidPage."""
        start = (self.validate_number(number) - 1) * self.per_page
        if not self.reads_texts:
            return self.rows[start : start + self.per_page]
        everything = NotificationEvent.objects.filter(pk__in=self.ids[start : start + self.per_page])
        return shown(everything.order_by(*self.rows.query.order_by))


def shown(rows: NotificationQuerySet) -> NotificationQuerySet:
    """Without the columns that no cell shows."""
    return rows.defer("message", "dedup_key")


class NotificationChangeList(ChangeList):
    """Stock's list, with tabs, and bounded: no page reads or counts a whole table of millions."""

    any_status: NotificationQuerySet
    queryset: NotificationQuerySet
    paginator: Pages

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.now = timezone.now()
        self._horizons: dict[tuple[str, int], datetime | None] = {}
        super().__init__(request, *args, **kwargs)
        if not self.is_popup:
            self.title = str(self.opts.verbose_name_plural).capitalize()

    # The rows

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> NotificationQuerySet:
        rows = super().get_queryset(request, [StatusFilter.parameter_name])
        assert isinstance(rows, NotificationQuerySet)  # noqa: S101  (for the type checker)
        self.any_status = narrowing.searched(rows, self.query, self.exact) if self.query else rows
        return shown(self._within(self.status))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Only what an index has in order: by age, the newest or the oldest first."""
        oldest_first = self.params.get(ORDER_VAR, "").split(".")[0].isdecimal()
        return [*(OLDEST if oldest_first else NEWEST)]

    def get_results(self, request: HttpRequest) -> None:
        self.paginator = Pages(self.queryset, self.list_per_page, self.reads_texts)
        self.result_count = self.paginator.count
        self.full_result_count = None
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = bool(self.result_count)
        self.multi_page = self.result_count > self.list_per_page
        try:
            self.result_list = self.paginator.rows_of(self.page_num if self.multi_page else 1)
        except InvalidPage as error:
            raise IncorrectLookupParameters from error

    @property
    def status(self) -> str:
        return str(self.params.get(StatusFilter.parameter_name, ""))

    @cached_property
    def exact(self) -> Q | None:
        return narrowing.exactly(self.query)

    @property
    def reads_texts(self) -> bool:
        return self.reach_rows == narrowing.READ

    @cached_property
    def reach_rows(self) -> int | None:
        return narrowing.reach(self.params, self.exact is not None)

    def _within(self, status: str, most: int | None = None) -> NotificationQuerySet:
        """The rows of a tab, within reach."""
        horizon = self.horizon(status, most)
        rows = _narrow(self.any_status, StatusFilter.parameter_name, status, self.now)
        return rows.filter(created_at__gte=horizon) if horizon else rows

    def horizon(self, status: str, most: int | None = None) -> datetime | None:
        """How far back the list looks; None: to the beginning."""
        most = most or self.reach_rows
        if most is None:
            return None
        if (status, most) not in self._horizons:
            self._horizons[status, most] = narrowing.horizon(self.params, status, most, self.now)
        return self._horizons[status, most]

    # What the page says about them

    @property
    def count_text(self) -> str:
        return narrowing.many(self.paginator.found)

    @cached_property
    def tabs(self) -> list[Tab]:
        """Every tab keeps the other filters and counts within them."""
        tabs = [
            self._tab("All", None),
            self._tab("Dead letter", Status.DEAD),
            self._tab("Retrying", RETRYING),
            self._tab("Stranded", STRANDED),
        ]
        return [
            tab for tab in tabs if tab.label != "Stranded" or tab.selected or tab.number not in ("0", None)
        ]

    def _tab(self, label: str, status: str | None) -> Tab:
        name = StatusFilter.parameter_name
        url = self.get_query_string({name: status})
        return Tab(label, url, self._number(status), self.params.get(name) == status)

    def _number(self, status: str | None) -> str | None:
        """With filters that no index helps, rows are not walked for the tabs that nobody waits for."""
        if status is None or (self.reach_rows and status not in (Status.DEAD, self.status)):
            return None
        if status == self.status:
            return self.count_text
        return narrowing.many(narrowing.capped(self._within(status)))

    @cached_property
    def reach(self) -> Reach | None:
        """What to say when the list did not look at everything."""
        since = self.horizon(self.status)
        if since is None or self.reach_rows is None:
            return None
        what = f"{self.status} notifications" if self.status in RARE else "notifications"
        further = self.get_query_string({"until": since.isoformat()}, remove=["age"])
        return Reach(self.reach_rows, what, since, further)

    @cached_property
    def beyond(self) -> str:
        """The address of what comes after the last page that is counted; "" when that is all there is."""
        last_page = self.page_num >= self.paginator.num_pages
        if self.paginator.found <= COUNTED or not last_page:
            return ""
        *_, last = self.result_list
        name = "until" if self.get_ordering(None, self.queryset)[0].startswith("-") else "since"  # type: ignore[arg-type]
        return self.get_query_string({name: last.created_at.isoformat()}, remove=["age"])

    @property
    def empty_text(self) -> str:
        """What an empty list means, which for a dead-letter queue is good news."""
        narrowed = self.query or set(self.filter_params) - {StatusFilter.parameter_name}
        good_news = {Status.DEAD: "No dead letters.", RETRYING: "Nothing is waiting for a retry."}
        return "Nothing matches." if narrowed else good_news.get(self.status, "No notifications here.")

    @cached_property
    def kinds(self) -> set[tuple[str, str]]:
        """The (channel, type) pairs of the newest notifications and dead letters: what a filter offers."""
        rows = NotificationEvent.objects.order_by(*NEWEST).values_list("channel", "type")
        return {*rows[:OFFERED_FROM], *rows.filter(status=Status.DEAD)[:OFFERED_FROM]}

    # Dead letters by error

    @cached_property
    def groups(self) -> list[tuple[Group, str]]:
        """The most frequent errors of the newest dead letters, and the query string of each."""
        if self.status != Status.DEAD or (self.reads_texts and self.query):
            return []
        found = grouped(self._within(Status.DEAD, narrowing.DETAILED))
        return [
            (group, self.get_query_string({"channel": group.channel, "error": group.error}))
            for group in found[:GROUPS_SHOWN]
        ]

    @property
    def top_groups(self) -> list[tuple[Group, str]]:
        return self.groups[:TOP_GROUPS]

    @property
    def other_groups(self) -> list[tuple[Group, str]]:
        return self.groups[TOP_GROUPS:]

    @property
    def grouped_text(self) -> str:
        return f"{narrowing.DETAILED:,}"

    @property
    def groups_since(self) -> datetime | None:
        """Where there are more dead letters than are grouped: when the oldest grouped one was raised."""
        return self.horizon(Status.DEAD, narrowing.DETAILED)


def _narrow(rows: NotificationQuerySet, name: str, value: str, now: datetime) -> NotificationQuerySet:
    if not value:
        return rows
    try:
        return narrowing.NARROWING[name](rows, value, now)
    except narrowing.Meaningless as error:
        raise IncorrectLookupParameters(value) from error


class NarrowingFilter(ListFilter):
    """One name of the query string. Shown when it has options or a value."""

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

    def queryset(self, request: HttpRequest, rows: QuerySet[Model]) -> QuerySet[Model] | None:
        assert isinstance(rows, NotificationQuerySet)  # noqa: S101  (for the type checker)
        return _narrow(rows, self.parameter_name, self.value or "", timezone.now())

    def choices(self, changelist: ChangeList) -> Iterator[_ListFilterChoices]:
        assert isinstance(changelist, NotificationChangeList)  # noqa: S101  (for the type checker)
        yield self._choice(changelist, "All", None)
        for value, label in self.options(changelist):
            yield self._choice(changelist, label, value)

    def _choice(self, changelist: ChangeList, display: str, value: str | None) -> _ListFilterChoices:
        query_string = changelist.get_query_string({self.parameter_name: value})
        return {"selected": self.means(value), "query_string": query_string, "display": display}

    def means(self, value: str | None) -> bool:
        return (self.value or None) == value

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        return ()


class StatusFilter(NarrowingFilter):
    """The five states, and the two kinds of failed that have tabs."""

    title = "status"
    parameter_name = "status"

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        kinds = [(RETRYING, "Failed, retrying"), (STRANDED, "Failed, stranded")]
        at = Status.values.index(Status.FAILED) + 1
        choices = [(str(value), str(label)) for value, label in Status.choices]
        return [*choices[:at], *kinds, *choices[at:]]


class SeenFilter(NarrowingFilter):
    """One column, whose options are those known beforehand and those lately seen.

    The options of every row would mean reading the whole table each time. The others can be put into
    the URL.
    """

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        found = {option.casefold(): option for option in self.seen(changelist.kinds)}
        found |= {option.casefold(): option for option in self.known()}
        if self.value:
            found.setdefault(self.value.casefold(), self.value)
        return [(option, option) for _, option in sorted(found.items())]

    def means(self, value: str | None) -> bool:
        return (self.value or "").casefold() == (value or "").casefold()

    def known(self) -> Iterable[str]:
        return ()

    def seen(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return ()


class ChannelFilter(SeenFilter):
    title = "channel"
    parameter_name = "channel"

    def known(self) -> Iterable[str]:
        return conf.current().channels

    def seen(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return [channel for channel, _ in kinds]


class TypeFilter(SeenFilter):
    title = "type"
    parameter_name = "type"

    def known(self) -> Iterable[str]:
        return EventType.values

    def seen(self, kinds: Iterable[tuple[str, str]]) -> Iterable[str]:
        return [type_ for _, type_ in kinds]


class AgeFilter(NarrowingFilter):
    title = "raised"
    parameter_name = "age"

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        return [(value, label) for value, (label, _) in narrowing.AGES.items()]


class LinkedFilter(NarrowingFilter):
    """Has no options of its own: it shows what a link asked for, and the way out."""

    def has_output(self) -> bool:
        return bool(self.value)

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        return [(self.value, self.value)] if self.value else []


class CertificateFilter(LinkedFilter):
    title = "certificate"
    parameter_name = "certificate_id"


class ErrorFilter(LinkedFilter):
    title = "error"
    parameter_name = "error"


class SinceFilter(LinkedFilter):
    title = "raised since"
    parameter_name = "since"


class UntilFilter(LinkedFilter):
    title = "raised until"
    parameter_name = "until"


FILTERS = (
    StatusFilter,
    ChannelFilter,
    TypeFilter,
    AgeFilter,
    CertificateFilter,
    ErrorFilter,
    SinceFilter,
    UntilFilter,
)
