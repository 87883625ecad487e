"""What the tables share: the states of a notification, ids, and how indexes are named."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Col
from django.db.models.lookups import Exact

from .. import database
from ..database import values
from ..text import fold

NO_NUL = [ProhibitNullCharactersValidator()]
MOST_ATTEMPTS = 2**31 - 1


class Status(models.TextChoices):
    """The five states; the comment says who moves a notification out of each."""

    PENDING = "pending"  # the pending sweep
    FAILED = "failed"  # the retry sweep, or an operator's requeue
    SENT = "sent"  # a reader: mark read
    DEAD = "dead"  # an operator: requeue or dismiss
    READ = "read"  # an operator: restore, where it was dismissed; else nobody: the end


UNDELIVERED = (Status.PENDING, Status.FAILED)
REQUEUEABLE = (Status.DEAD, Status.FAILED)
READABLE = (Status.SENT, Status.DEAD)


class Manager(models.Manager[Any]):
    """Reads and writes where the site's router says that the app writes: nothing is decided by a replica."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database.alias())


class Table(models.Model):
    """Whose rows are read and written there, also those that Django itself asks for: a deferred field, the
    other end of a foreign key."""

    objects: ClassVar = Manager()

    class Meta:
        abstract = True
        base_manager_name = "objects"


class Folded(models.Func):
    """A channel's name for comparing, as `text.fold` makes it: the databases' letters, ASCII only."""

    function = "LOWER"
    output_field = models.TextField()

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        return self.as_sql(compiler, connection, template='LOWER(%(expressions)s COLLATE "C")')


def is_channel(name: str) -> Exact:
    """The condition on a table's channel: old rows say `email`, new ones `Email`."""
    return Exact(Folded("channel"), fold(name))


class Tolerant:
    """A field of notification_events, which other programs may fill with anything that the database takes.

    Migrations know it as Django's field that it is.
    """

    read: Callable[[Any], Any]

    def deconstruct(self) -> Any:
        name, _, *rest = super().deconstruct()  # type: ignore[misc]
        return name, f"django.db.models.{self.get_internal_type()}", *rest  # type: ignore[attr-defined]

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        """PostgreSQL keeps to its types."""
        return [] if connection.vendor == "postgresql" else [lambda value, *_: self.read(value)]


if TYPE_CHECKING:
    Set = TypeVar("Set")
    Get = TypeVar("Get")

    class Text(models.TextField[Set, Get]): ...

    class Line(models.CharField[Set, Get]): ...

    class Whole(models.IntegerField[Set, Get]): ...

    class Time(models.DateTimeField[Set, Get]): ...

else:

    class Text(Tolerant, models.TextField):
        read = staticmethod(values.text)

    class Line(Tolerant, models.CharField):
        read = staticmethod(values.text)

    class Whole(Tolerant, models.IntegerField):
        read = staticmethod(values.integer)

    class Time(Tolerant, models.DateTimeField):
        """Of a column that is not null: what SQLite's adapter reads as nothing is an empty text or blob."""

        def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
            return [] if connection.vendor == "postgresql" else [never]


def never(value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
    return values.NEVER if value is None and isinstance(expression, Col) else value


class Json(models.JSONField):
    """What cannot be read is the default: another program's, nested thousands of levels deep."""

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        try:
            return super().from_db_value(value, expression, connection)
        except (ValueError, RecursionError):
            return self.get_default()

    def deconstruct(self) -> Any:
        name, _, *rest = super().deconstruct()
        return name, "django.db.models.JSONField", *rest


class Index(models.Index):
    """An index whose name may be as long as PostgreSQL and SQLite allow: certctl chose the names."""

    max_name_length = 63


def new_id() -> str:
    return str(uuid.uuid4())


def attempt_number(retry_count: int) -> int:
    """The next attempt's, from 1. Other programs' rows hold any integer, the history only sane ones."""
    return retry_count + 1 if 0 <= retry_count < MOST_ATTEMPTS else 1 if retry_count < 0 else MOST_ATTEMPTS
