"""The list's filters: one name of the query string each, and what each offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.contrib.admin.filters import ListFilter
from django.contrib.admin.options import ModelAdmin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from .. import conf
from ..models import EventType, Status
from ..operations.filters import (
    AGES,
    DISMISSED,
    NOT_DELIVERED,
    PROBABLY_DELIVERED,
    READERS,
    REFUSED,
    RETRYING,
    SEEN,
    STRANDED,
    WITHDRAWN,
)
from ..reporting import words
from .list import GROUPS, STATUS, NotificationChangeList

if TYPE_CHECKING:
    from django.contrib.admin.filters import _ListFilterChoices

FILTER_TEMPLATE = "admin/notifications/notificationevent/filter.html"


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
        """The list applies all filters at once."""
        return None

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
    """The five states, and the kinds of failed and sent that have tabs."""

    title = "status"
    parameter_name = STATUS

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        kinds = {
            Status.FAILED: [
                (RETRYING, "Failed, retrying"),
                (STRANDED, "Failed, stranded"),
                (PROBABLY_DELIVERED, "Failed, probably delivered"),
            ],
            Status.SENT: [(NOT_DELIVERED, "Sent, not delivered")],
            Status.READ: [(SEEN, "Read: seen"), (DISMISSED, "Read: dismissed"), (WITHDRAWN, "Withdrawn")],
        }
        for value, label in Status.choices:
            yield str(value), str(label)
            yield from kinds.get(Status(value), [])
        yield REFUSED, "Refused by the database"


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
        return [(value, label) for value, (label, _) in AGES.items()]


class LinkedFilter(NarrowingFilter):
    """Has no options of its own: it shows what a link asked for, and the way out."""

    def has_output(self) -> bool:
        return bool(self.value)

    def options(self, changelist: NotificationChangeList) -> Iterable[tuple[str, str]]:
        return [(self.value, self.worded(self.value))] if self.value else []

    def worded(self, value: str) -> str:
        return value


class AlikeFilter(LinkedFilter):
    """Shows the fingerprint as people read it."""

    def worded(self, value: str) -> str:
        return words.alike(value)


class LinkedTimeFilter(LinkedFilter):
    def worded(self, value: str) -> str:
        try:
            return words.timestamp(READERS[self.parameter_name](value))
        except ValueError:
            return value


def linked(name: str, title: str) -> type[ListFilter]:
    kind = LinkedTimeFilter if name in TIMES else AlikeFilter if name == "alike" else LinkedFilter
    return type(f"{name}_filter", (kind,), {"parameter_name": name, "title": title})


class GroupOrder(NarrowingFilter):
    """No filter: what the groups are sorted by. Their own heading offers it."""

    title = "groups"
    parameter_name = GROUPS

    def has_output(self) -> bool:
        return False


CHOSEN: tuple[type[ListFilter], ...] = (StatusFilter, ChannelFilter, TypeFilter, AgeFilter)
LINKED = {
    "certificate_id": "certificate",
    "recipient": "recipient",
    "error": "error contains",
    "alike": "error",
    "since": "raised since",
    "until": "raised until",
    "dead_since": "dead since",
    "outage": "outage",
    "operation": "operation",
    "redriven": "requeued by itself",
    "left_by": "left by operation",
}
TIMES = ("since", "until", "dead_since")
FILTERS = (*CHOSEN, *(linked(name, title) for name, title in LINKED.items()), GroupOrder)
