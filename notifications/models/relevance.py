"""Whether an alert still matters: of an expiry warning, whether its certificate was renewed since.

Who knows certificates says so: certctl's own table, and the apps of the project (`renewed` of their
AppConfig: notifications.certificates has what it saw). What nobody is certain of was not renewed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from .. import conf, database
from ..database import said
from ..durations import minute
from . import certctl
from .history import Deadline

logger = logging.getLogger(__name__)

EXPIRY = ("ExpirationWarning", "expiration_warning")  # no other type is ever withdrawn
INEXACT = timedelta(days=1)  # an end may have been told to the minute, or as a date


class About(NamedTuple):
    """What is known of the certificates that an alert is about.

    not_after     when the first of them ends; None: nobody said so
    fingerprints  of all of them; none: not known
    """

    id: str
    certificate_id: str | None
    created_at: datetime
    not_after: datetime | None = None
    fingerprints: Sequence[str] = ()


class Renewal(NamedTuple):
    """What came in a certificate's place."""

    serial: str
    not_after: datetime

    def __str__(self) -> str:
        serial = f"serial {self.serial}, " if self.serial else ""
        return f"renewed: {serial}valid until {minute(self.not_after)}"


Judge = Callable[[Sequence[About]], Mapping[str, Renewal]]


def renewed(events: Iterable[Any]) -> dict[str, Renewal]:
    """Which of the notifications are about certificates that were renewed since, for certain: by id, with
    what came in their place; of several certificates the one that ends first.

    events  id (or pk), type, certificate_id and created_at are asked
    """
    if not wanted():
        return {}
    alerts = {
        event.pk if hasattr(event, "pk") else event.id: event for event in events if event.type in EXPIRY
    }
    rows = Deadline.objects.filter(notification__in=list(alerts)) if alerts else ()
    deadlines = {row.notification_id: row for row in rows}
    about = [
        _about(pk, event, deadlines.get(pk))
        for pk, event in alerts.items()
        if not (pk in deadlines and deadlines[pk].insisted)
    ]
    return _judged(about) if about else {}


def wanted() -> bool:
    """Whether the settings want alerts to be withdrawn."""
    try:
        return conf.current().withdraw_renewed
    except ImproperlyConfigured:
        return False


def _about(pk: str, event: Any, deadline: Deadline | None) -> About:
    known = (deadline.not_after, deadline.fingerprints) if deadline else ()
    return About(pk, event.certificate_id, event.created_at, *known)


def _judges() -> Iterator[Judge]:
    yield of_certctl
    for app in apps.get_app_configs():
        if judge := getattr(app, "renewed", None):
            yield judge


def _judged(about: Sequence[About]) -> dict[str, Renewal]:
    """Nothing where one fails to answer. Raises what has ended the transaction anyway."""
    found: dict[str, Renewal] = {}
    try:
        with database.atomic():
            for judge in _judges():
                if left := [one for one in about if one.id not in found]:
                    found |= judge(left)
            return found
    except Exception as error:
        if database.connection().needs_rollback:
            raise
        logger.warning("whether certificates were renewed is not known: %s", said(error))
        return {}


def of_certctl(about: Sequence[About]) -> dict[str, Renewal]:
    """By its own table: it ends more than a day later than what the alert is about, or it was renewed after
    the alert. Not of alerts that know which certificates they are about: whoever sees these knows better what
    is shown."""
    about = [one for one in about if not one.fingerprints]
    named = {one.certificate_id for one in about if one.certificate_id}
    known = certctl.certificates(named) if named else {}
    if not known:
        return {}
    over = {
        one.id: (one.certificate_id, known[one.certificate_id].expires_at)
        for one in about
        if one.certificate_id in known and _is_renewed(one, known[one.certificate_id])
    }
    serials = certctl.serials({pk for pk, _ in over.values() if pk})
    return {pk: Renewal(serials.get(name or "", ""), ends) for pk, (name, ends) in over.items() if ends}


def _is_renewed(alert: About, certificate: certctl.Certificate) -> bool:
    ends, renewed_at = certificate.expires_at, certificate.renewed_at
    if ends is None:
        return False
    if alert.not_after is not None and ends - alert.not_after > INEXACT:
        return True
    return renewed_at is not None and renewed_at > alert.created_at and ends > (alert.not_after or renewed_at)
