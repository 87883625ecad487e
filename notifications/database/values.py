"""What another program may leave in a column although Python cannot hold it, read so that nothing fails.

A time that Python's calendar does not reach, or that no time zone can be applied to, is an UnknownTime.
SQLite keeps whatever it is given: text that is no Unicode, bytes and numbers in the place of text, words in
the place of numbers. Every connection to the app's database reads so (`read_anything`), whoever uses it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache, partial
from typing import Any, Self

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.dateparse import parse_datetime

UNKNOWN = "unknown time"
LARGEST = 2**31 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# After 400 years the calendar repeats itself. PostgreSQL's ends here and there.
CYCLE = timedelta(days=146_097) // timedelta(microseconds=1)
A_CYCLE_BEGINS = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
FIRST_YEAR, LAST_YEAR = -4712, 294_275
CLOCK = r"-\d\d-\d\d \d\d:\d\d:\d\d"
BEYOND = re.compile(rf"(\d{{4,6}})({CLOCK})(\.\d{{1,6}})?([+-]\d\d(?::\d\d){{0,2}})( BC)?", re.ASCII)


class UnknownTime(datetime):
    """A time that can be compared, shown (as "unknown time") and given back to the database as it was.

    as_stored  the database's own words for it, where Python has none: "infinity", "0044-03-15 … BC"
    """

    as_stored = ""

    @classmethod
    def of(cls, as_stored: str, zone: tzinfo | None = UTC) -> Self:
        """The end of the calendar that it lies beyond."""
        early = as_stored.startswith("-") or as_stored.endswith("BC")
        at = cls(1, 1, 1, tzinfo=zone) if early else cls(9999, 12, 31, tzinfo=zone)
        at.as_stored = as_stored
        return at

    @classmethod
    def of_microseconds(cls, number: int) -> Self:
        """So long after 1970, or before."""
        cycles, rest = divmod(number - A_CYCLE_BEGINS, CYCLE)
        at = EPOCH + timedelta(microseconds=A_CYCLE_BEGINS + rest)
        year = at.year + 400 * cycles
        if not FIRST_YEAR <= year <= LAST_YEAR:
            return cls.of("infinity" if year > 0 else "-infinity")
        written, era = (year, "") if year > 0 else (1 - year, " BC")
        return cls.of(f"{written:04}-{at:%m-%d %H:%M:%S.%f}+00{era}")

    @property
    def microseconds(self) -> int | None:
        """Since 1970, as PostgreSQL has written it; None where it never was or never will be."""
        found = BEYOND.fullmatch(self.as_stored)
        if found is None:
            return None
        year = 1 - int(found[1]) if found[5] else int(found[1])
        at = datetime.fromisoformat(f"{2000 + year % 400}{found[2]}{found[3] or ''}{found[4]}")
        return (at - EPOCH) // timedelta(microseconds=1) + (year // 400 - 5) * CYCLE

    @classmethod
    def at(cls, at: datetime) -> Self:
        return cls(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, at.tzinfo)

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        """As it is: at the ends of the calendar every other time zone may be beyond them."""
        return self

    def __format__(self, how: str) -> str:
        return UNKNOWN if how else str(self)


NEVER = UnknownTime(1, 1, 1, tzinfo=UTC)


def known(at: datetime) -> datetime:
    """The time, or an UnknownTime where a time zone could take it beyond the calendar (certctl writes the
    first day of the year 1 for "never")."""
    return at if 1 < at.year < 9999 else UnknownTime.at(at)


def read_anything(connection: BaseDatabaseWrapper) -> None:
    """Have a connection that has just been opened read whatever is stored."""
    if connection.vendor == "postgresql":
        _read_any_time(connection.connection, getattr(connection, "timezone", UTC))
    elif connection.vendor == "sqlite":
        connection.connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.connection.create_function("is_unicode", 1, _is_unicode, deterministic=True)
        for kind in ("datetime", "timestamp"):  # of all SQLite connections: there is no smaller way
            sqlite3.register_converter(kind, _sqlite_time)
        ops: Any = connection.ops
        ops.convert_datetimefield_value = partial(
            _computed, partial(type(ops).convert_datetimefield_value, ops)
        )


def _read_any_time(connection: Any, zone: tzinfo | None) -> None:
    loader, dumper = _adapters(zone)
    connection.adapters.register_loader("timestamptz", loader)
    connection.adapters.register_dumper(UnknownTime, dumper)


@lru_cache
def _adapters(zone: tzinfo | None) -> tuple[Any, Any]:
    """For a PostgreSQL connection in this time zone: psycopg's loader of times, and the way back."""
    import psycopg  # a site on SQLite has none
    from django.db.backends.postgresql.psycopg_any import BaseTzLoader

    class Loader(BaseTzLoader):  # type: ignore[misc]
        timezone = zone

        def load(self, data: Any) -> datetime:
            try:
                at: datetime = super().load(data)
            except (psycopg.DataError, ValueError, OverflowError):
                return UnknownTime.of(bytes(data).decode(), zone)
            return at if 1 < at.year < 9999 else known(at)

    class Dumper(psycopg.adapt.Dumper):
        oid = psycopg.adapters.types["timestamptz"].oid

        def dump(self, obj: UnknownTime) -> bytes:
            return (obj.as_stored or str(obj)).encode()

    return Loader, Dumper


def _sqlite_time(stored: bytes) -> datetime:
    """As Django reads it, and what Django makes nothing of."""
    try:
        at = parse_datetime(stored.decode())
    except ValueError:
        at = None
    return UnknownTime(1, 1, 1) if at is None else known(at)


def _computed(read: Callable[..., Any], value: Any, *rest: Any) -> Any:
    """A time that an expression answers: it comes as it is stored."""
    if value is not None and not isinstance(value, datetime):
        value = _sqlite_time(value if isinstance(value, bytes) else str(value).encode())
    return read(value, *rest)


def _is_unicode(value: Any) -> bool:
    """SQL passes bytes here: other text than Unicode has no other way."""
    try:
        return bool(value.decode())
    except UnicodeDecodeError:
        return False


def text(value: Any) -> str | None:
    """What is in a column of text."""
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def integer(value: Any) -> int | None:
    """What is in a column of whole numbers; 0 for what is none."""
    try:
        return None if value is None else min(max(int(value), -LARGEST), LARGEST)
    except (ValueError, OverflowError):
        return 0
