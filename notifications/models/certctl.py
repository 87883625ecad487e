"""What certctl knows of its certificates, where its tables are in our database. Read only: that they are
missing, locked or of another shape is no error, and then nothing is known."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .. import database
from ..database import kind_of, no_long_wait, said

logger = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds that a look at them may take
THERE = "SELECT to_regclass('managed_certificates') IS NOT NULL"
CERTIFICATES = "SELECT id, expires_at, last_renewal_at FROM managed_certificates WHERE id = ANY(%s)"
SERIALS = """
    SELECT DISTINCT ON (certificate_id) certificate_id, serial_number FROM certificate_versions
     WHERE certificate_id = ANY(%s) ORDER BY certificate_id, created_at DESC
"""
# Of those that end soon: an index of certctl's has them in this order.
ENDING = """
    SELECT id, expires_at FROM managed_certificates WHERE expires_at > %s AND expires_at < %s
     ORDER BY expires_at LIMIT %s
"""


# Alerts that did their part, or cannot any more, about certificates that were renewed, as `relevance` says.
OUTLIVED = """
    SELECT known.notification_id
      FROM notification_deadlines AS known
      JOIN notification_events AS event ON event.id = known.notification_id
      JOIN managed_certificates AS theirs ON theirs.id = event.certificate_id
     WHERE NOT known.settled AND NOT known.insisted AND known.not_after > %s
       AND known.fingerprints = '[]' AND theirs.expires_at > known.not_after
       AND (theirs.expires_at > known.not_after + %s OR theirs.last_renewal_at > event.created_at)
       AND event.status IN ('sent', 'read', 'dead') AND event.type = ANY(%s)
     LIMIT %s
"""


class Certificate(NamedTuple):
    """expires_at, renewed_at: None where that is not known."""

    expires_at: datetime | None
    renewed_at: datetime | None


def is_here() -> bool:
    return database.is_postgresql() and bool(_asked(THERE, [])[0][0])


def certificates(ids: Collection[str]) -> dict[str, Certificate]:
    """Those that it knows."""
    rows = _tried(CERTIFICATES, [list(ids)]) if ids else []
    return {str(pk): Certificate(_time(ends), _time(renewed)) for pk, ends, renewed in rows}


def serials(ids: Collection[str]) -> dict[str, str]:
    """Of their newest versions."""
    return {str(pk): str(serial or "") for pk, serial in (_tried(SERIALS, [list(ids)]) if ids else [])}


def ending(since: datetime, before: datetime, most: int) -> dict[str, datetime]:
    """Which certificates end within that time, and when; the first of them."""
    return {str(pk): at for pk, at in _tried(ENDING, [since, before, most]) if _time(at)}


def outlived(types: Sequence[str], since: datetime, inexact: timedelta, most: int) -> list[str]:
    """The ids of notifications of these types that are not on their way any more, and about certificates that
    were renewed since. Those that ended before `since` are forgotten.

    inexact  how far an end that was told may be from the end itself
    """
    return [str(pk) for (pk,) in _tried(OUTLIVED, [since, inexact, list(types), most])]


def _time(value: Any) -> datetime | None:
    return value if type(value) is datetime and value.tzinfo else None


def _tried(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Nothing where they cannot be read so. Raises django.db's errors where the database is away."""
    if not is_here():
        return []
    try:
        with database.atomic(), no_long_wait(PATIENCE):
            return _asked(statement, parameters)
    except Exception as error:
        if kind_of(error) == "away" or database.connection().needs_rollback:
            raise
        logger.warning("certctl's certificates cannot be read: %s", said(error))
        return []


def _asked(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with database.connection().cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
