"""The list: its tabs, groups and pages, and how far it looks, so that no page reads a table of millions.

What a filter means is for operations/filters.py to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils import timezone

from ..models import NotificationEvent, NotificationQuerySet, Status
from ..models.conditions import ends
from ..models.fields import Text
from ..operations.filters import (
    DISMISSED,
    NOT_DELIVERED,
    PROBABLY_DELIVERED,
    REFUSED,
    RETRYING,
    SEEN,
    STRANDED,
    Filters,
    Meaningless,
    matching,
    of_query,
    of_status,
    parse,
    raised_within,
)
from ..operations.survey import COUNTED, capped, many
from ..operations.walk import NEWEST, OLDEST
from ..reporting import activity, held
from .groups import COUNT, HOURS, ErrorGroup, error_groups, with_standing
from .groups import SEEN as LAST_SEEN

if TYPE_CHECKING:
    NotificationPaginator = Paginator[NotificationEvent]
else:
    NotificationPaginator = Paginator

DETAILED = 5_000  # how many of the newest are told apart by error
LOOKED_AT = 10_000  # how many of the newest are looked through where no index helps
STATUS = "status"
# Few enough to look through all of them, where most of the table is sent or read.
RARE = (
    *(Status.PENDING, Status.FAILED, Status.DEAD),
    *(RETRYING, STRANDED, PROBABLY_DELIVERED, NOT_DELIVERED, REFUSED),
)
TABS = {"All": None, "Dead letter": Status.DEAD, "Retrying": RETRYING}
# Not shown where they are empty, nor on other pages.
SPECIAL_TABS = {
    "Stranded": STRANDED,
    "Probably delivered": PROBABLY_DELIVERED,
    "Not delivered": NOT_DELIVERED,
    "Dismissed": DISMISSED,
}
ENDS = "ends"  # an order: what ends first
OFFERED_FROM = 1_000  # of the newest notifications, whose channels and types the filters offer
TOP_GROUPS, TOP_GROUPS_NARROWED, GROUPS_SHOWN = 5, 3, 100
GROUPS = "groups"  # in the address: what the groups are sorted by
MESSAGE_START = 400  # characters of a message that a row can show


class Tab(NamedTuple):
    """One tab; number is None on pages that are not the list."""

    label: str
    url: str
    number: str | None = None
    selected: bool = False


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
    """Counts up to COUNTED. What no index finds is looked for once, for the count and the page."""

    def __init__(self, rows: NotificationQuerySet, per_page: int, looks: bool) -> None:
        super().__init__(rows, per_page)
        self.rows = rows
        self.looks = looks

    @cached_property
    def ids(self) -> list[str]:
        return list(self.rows.values_list("pk", flat=True)[: COUNTED + 1])

    @cached_property
    def found(self) -> int:
        """COUNTED + 1 when there are more."""
        return len(self.ids) if self.looks else capped(self.rows)

    @property
    def count(self) -> int:
        return min(self.found, COUNTED)

    def rows_of(self, number: int) -> QuerySet[NotificationEvent]:
        """Raises InvalidPage."""
        start = (self.validate_number(number) - 1) * self.per_page
        if not self.looks:
            return self.rows[start : start + self.per_page]
        everything = NotificationEvent.objects.filter(pk__in=self.ids[start : start + self.per_page])
        return shown(everything.order_by(*self.rows.query.order_by))


def shown(rows: NotificationQuerySet) -> NotificationQuerySet:
    """Without the columns that no cell shows, of a message its beginning, and with what tells of each
    whether it was delivered."""
    beginning = Left("message", MESSAGE_START, output_field=Text())
    return rows.defer("message", "dedup_key").annotate(message_start=beginning).with_kind()


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
        rows = super().get_queryset(request, exclude_parameters)
        assert isinstance(rows, NotificationQuerySet)  # noqa: S101  (for the type checker)
        self.any_status = matching(self.filters, rows)
        return shown(self._within(self.status))

    @cached_property
    def filters(self) -> Filters:
        """All but the tab. Raises IncorrectLookupParameters."""
        try:
            return replace(parse(self.params, self.now), status="")
        except Meaningless as error:
            raise IncorrectLookupParameters from error

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Only what an index has in order, by age, or of a bounded number what ends first."""
        if self.ends_first:
            return [ends().asc(nulls_last=True), *NEWEST]
        return [*(OLDEST if self._oldest_first else NEWEST)]

    @property
    def ends_first(self) -> bool:
        return self.params.get(ORDER_VAR) == ENDS

    @property
    def _oldest_first(self) -> bool:
        return str(self.params.get(ORDER_VAR, "")).split(".")[0].isdecimal()

    def get_results(self, request: HttpRequest) -> None:
        self.paginator = Pages(self.queryset, self.list_per_page, self.looked_at is not None)
        self.result_count = self.paginator.count
        self.full_result_count = None
        self.show_full_result_count = self.can_show_all = False
        self.show_admin_actions = bool(self.result_count)
        self.multi_page = self.result_count > self.list_per_page
        try:
            self.result_list = self.paginator.rows_of(self.page_num if self.multi_page else 1)
        except InvalidPage as error:
            raise IncorrectLookupParameters from error
        held.noted(self.result_list, self.now)

    @property
    def status(self) -> str:
        return str(self.params.get(STATUS, ""))

    @cached_property
    def looked_at(self) -> int | None:
        return LOOKED_AT if self.ends_first else bound(self.filters, "")

    def _within(self, status: str, most: int | None = None) -> NotificationQuerySet:
        """The rows of a tab, within reach."""
        horizon = self.horizon(status, most)
        rows = of_status(self.any_status, status)
        return rows.filter(created_at__gte=horizon) if horizon else rows

    def horizon(self, status: str, most: int | None = None) -> datetime | None:
        """How far back the list looks; None: to the beginning."""
        most = most or self.looked_at or bound(self.filters, status)
        if most is None:
            return None
        if (status, most) not in self._horizons:
            self._horizons[status, most] = horizon(self.filters, most, status)
        return self._horizons[status, most]

    # What the page says about them

    @property
    def count_text(self) -> str:
        return many(self.paginator.found)

    @cached_property
    def tabs(self) -> list[Tab]:
        """Every tab keeps the other filters and counts within them. What is shown has one, always."""
        named = {**TABS, **SPECIAL_TABS}
        if self.status and self.status not in named.values():
            named[self.status.replace("_", " ").capitalize()] = self.status
        tabs = [self._tab(label, status) for label, status in named.items()]
        return [tab for tab in tabs if tab.label in TABS or tab.selected or tab.number != "0"]

    def _tab(self, label: str, status: str | None) -> Tab:
        selected = self.params.get(STATUS) == status
        if (status or "") == self.status:
            number = self.count_text
        elif self.filters.of_the_dead and status not in (None, Status.DEAD):
            number = "0"
        else:
            number = many(capped(self._within(status or "")))
        return Tab(label, self.get_query_string({STATUS: status}), number, selected)

    @cached_property
    def orders(self) -> list[dict[str, Any]]:
        """The orders, as a filter shows its choices: a telephone has no column heads to press."""
        oldest_first = self._oldest_first
        age = str(self.list_display.index("age"))
        choices = (
            ("Newest first", None, not (oldest_first or self.ends_first)),
            ("Oldest first", age, oldest_first),
            ("What ends first", ENDS, self.ends_first),
        )
        return [
            {"display": label, "query_string": self.get_query_string({ORDER_VAR: order}), "selected": chosen}
            for label, order, chosen in choices
        ]

    @cached_property
    def warning(self) -> str:
        return activity.stalled(activity.last_ends(), self.now)

    @cached_property
    def reach(self) -> Reach | None:
        """What to say when the list did not look at everything."""
        since = self.horizon(self.status)
        looked_at = bound(self.filters, self.status)
        if since is None or looked_at is None:
            return None
        what = f"{self.status.replace('_', ' ')} notifications" if self.status in RARE else "notifications"
        further = self.get_query_string({"until": since.isoformat()}, remove=["age"])
        return Reach(looked_at, what, since, further)

    @cached_property
    def beyond(self) -> str:
        """The address of what comes after the last page that is counted; "" when that is all there is."""
        last_page = self.page_num >= self.paginator.num_pages
        if self.paginator.found <= COUNTED or not last_page or self.ends_first:
            return ""
        *_, last = self.result_list
        name = "since" if self._oldest_first else "until"
        return self.get_query_string({name: last.created_at.isoformat()}, remove=["age"])

    @property
    def empty_text(self) -> str:
        """What an empty list means, which for a dead-letter queue is good news."""
        good_news = {Status.DEAD: "No dead letters.", RETRYING: "Nothing is waiting for a retry."}
        return "Nothing matches." if self.narrowed else good_news.get(self.status, "No notifications here.")

    @property
    def narrowed(self) -> bool:
        """By more than its tab."""
        return bool(self.query or set(self.filter_params) - {STATUS, GROUPS, ORDER_VAR})

    @property
    def whole_tab(self) -> str:
        """The address of the same tab without the other filters."""
        return f"?{STATUS}={self.status}" if self.status else "?"

    @cached_property
    def kinds(self) -> set[tuple[str, str]]:
        """The (channel, type) pairs of the newest notifications and dead letters: what a filter offers."""
        rows = NotificationEvent.objects.order_by(*NEWEST).values_list("channel", "type")
        return {*rows[:OFFERED_FROM], *rows.filter(status=Status.DEAD)[:OFFERED_FROM]}

    # Dead letters by error

    @cached_property
    def all_groups(self) -> list[tuple[ErrorGroup, str]]:
        """The errors of the newest dead letters, and the query string of each."""
        if self.status != Status.DEAD or (self.query and self.filters.exact is None):
            return []
        found = error_groups(self._within(Status.DEAD, DETAILED), self.now, self.group_order)
        return [
            (group, self.get_query_string({"channel": group.channel, "alike": group.error}, remove=[GROUPS]))
            for group in with_standing(found[:GROUPS_SHOWN], self.now)
        ]

    @property
    def groups(self) -> list[tuple[ErrorGroup, str]]:
        return [found for found in self.all_groups if not found[0].snoozed]

    @property
    def snoozed_groups(self) -> list[tuple[ErrorGroup, str]]:
        return [found for found in self.all_groups if found[0].snoozed]

    @property
    def snoozed_text(self) -> str:
        """How many dead letters those are."""
        number = sum(group.count for group, _ in self.snoozed_groups)
        return f"{number:,}{self.groups_more} dead {'letter' if number == 1 else 'letters'}"

    @property
    def group_order(self) -> str:
        return COUNT if self.params.get(GROUPS) == COUNT else LAST_SEEN

    @property
    def group_orders(self) -> list[tuple[str, str, bool]]:
        """(label, query string, whether it is chosen)"""
        orders = (("last seen", None, LAST_SEEN), ("count", COUNT, COUNT))
        return [
            (label, self.get_query_string({GROUPS: value}), order == self.group_order)
            for label, value, order in orders
        ]

    @property
    def top_groups(self) -> list[tuple[ErrorGroup, str]]:
        return self.groups[: self._most_groups]

    @property
    def other_groups(self) -> list[tuple[ErrorGroup, str]]:
        return self.groups[self._most_groups :]

    @property
    def others_when_narrow(self) -> int:
        """A narrow page shows as few as a narrowed one, until the others are asked for."""
        return max(0, len(self.groups) - TOP_GROUPS_NARROWED)

    @property
    def _most_groups(self) -> int:
        return TOP_GROUPS_NARROWED if self.narrowed else TOP_GROUPS

    @property
    def new_since(self) -> datetime | None:
        """A group whose oldest was raised after this is new; None where what was grouped does not say."""
        day_ago = self.now - timedelta(hours=HOURS)
        return day_ago if self.groups_since is None or self.groups_since < day_ago else None

    @property
    def groups_more(self) -> str:
        """Behind a count that is not of all: more of the same are further back."""
        return "+" if self.groups_since else ""

    @property
    def grouped_text(self) -> str:
        return f"{DETAILED:,}"

    @property
    def groups_since(self) -> datetime | None:
        """Where there are more dead letters than are grouped: when the oldest grouped one was raised."""
        return self.horizon(Status.DEAD, DETAILED)


# How far it looks


def bound(filters: Filters, status: str) -> int | None:
    """How many of the newest notifications the list looks at; None: an index finds what it needs.

    filters  all but the status
    """
    reads_texts = filters.error or filters.alike or (filters.search and filters.exact is None)
    if reads_texts or filters.outage or filters.dead_since:
        return LOOKED_AT
    if (filters.search and not filters.addressee) or filters.certificate_id or filters.operation:
        return None
    walks = any((filters.channel, filters.type, filters.redriven, filters.left_by))
    return LOOKED_AT if walks or (filters.addressee and status) or status == SEEN else None


def horizon(filters: Filters, most: int, status: str) -> datetime | None:
    """When the last of the `most` newest was raised, of one status if it is a rare one.

    None when there are fewer. Of one recipient an index has all in order: where those are fewer, all of them
    are looked at.

    filters  all but the status
    """
    rows: NotificationQuerySet = raised_within(filters, NotificationEvent.objects.all())
    if filters.addressee:
        mine = rows.filter(recipient=filters.addressee).order_by("-created_at")
        if not mine.values("created_at")[most - 1 : most].exists():
            return None
    if status in RARE:
        rows = of_status(rows, status)
    edge = rows.order_by(*NEWEST).values_list("created_at", flat=True)[most - 1 : most]
    return next(iter(edge), None)


def looks_at_a_part(query: str) -> bool:
    """Whether the list of this query string stops before the oldest."""
    filters = of_query(query, timezone.now())
    most = bound(filters, filters.status)
    return most is not None and horizon(filters, most, filters.status) is not None
