"""The tables: what is watched, what was seen, and what was raised of it.

They are in the database of the notifications, so that an alert and the record that it was raised are one
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import RawSQL
from django.utils import timezone

from .. import database
from ..conf import LONGEST_RECIPIENT, Addressee, addressee
from ..models.fields import Index, Json, Manager, Table
from ..text import fold, one_line
from . import schedule, targets, thresholds
from .facts import LONGEST_NAME
from .messages import safe
from .readings import LONGEST_PROBLEM

MOST_ADDRESSEES = 20
MOST_ENDPOINTS = 20
ENDS = "ends:"  # before a threshold, in Raised.what
STALE = "stale:"  # before the newer certificate and which watch shows the older one, there
LONGEST_PLACE = targets.LONGEST
MISSED = 10  # looks: what was not at a place so often in a row is there no more


def _sentence(text: str) -> str:
    text = one_line(text)
    return f"{text[:1].upper()}{text[1:]}."


def as_target(text: str) -> str:
    """Validates."""
    try:
        return str(targets.parse(text))
    except targets.BadTarget as error:
        raise ValidationError(_sentence(str(error))) from None


def as_addressees(texts: object) -> list[str]:
    """Each `Channel:recipient`, once."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValidationError("Name whom to tell as a list of Channel:recipient.")
    by_key = {(fold(one.channel), one.recipient): one for one in map(addressee, reversed(texts))}
    found = list(by_key.values())[::-1]
    if len(found) > MOST_ADDRESSEES:
        raise ValidationError(f"There are at most {MOST_ADDRESSEES} to tell.")
    for one in found:
        if not one.channel or not one.recipient:
            raise ValidationError("Write whom to tell as Channel:recipient, such as Slack:#pki.")
        if max(len(one.channel), len(one.recipient)) > LONGEST_RECIPIENT or not "".join(one).isprintable():
            raise ValidationError(f"A recipient is at most {LONGEST_RECIPIENT} printable characters.")
    return [f"{one.channel}:{one.recipient}" for one in found]


def as_thresholds(texts: object) -> list[str]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValidationError("Name thresholds as a list such as 33%, 15%, 5%, 0.")
    try:
        return [threshold.text for threshold in thresholds.parse_all(texts)] if texts else []
    except ValueError as error:
        raise ValidationError(_sentence(str(error))) from None


def as_endpoints(texts: object) -> list[str]:
    """Each in the one way to write it, once."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValidationError("Name what serves a file as a list such as shop.example.com:443.")
    found = list(dict.fromkeys(map(as_target, texts)))
    if any(map(is_of_files, found)):
        raise ValidationError("What serves a file is an endpoint such as shop.example.com:443, and no file.")
    if len(found) > MOST_ENDPOINTS:
        raise ValidationError(f"There are at most {MOST_ENDPOINTS} endpoints that serve a file.")
    return found


def is_of_files(target: str) -> bool:
    return target.startswith("/")


def _texts(written: object, most: int, longest: int) -> list[str]:
    """What can be meant of what another program may have written."""
    first = written[:most] if isinstance(written, list) else []
    return [text for text in first if isinstance(text, str) and len(text) <= longest and text.isprintable()]


class Watch(Table):
    """A place where certificates are looked for, and who is told.

    notify         `Channel:recipient`, each
    at             the thresholds; the default ones where there are none
    host           which machine's worker looks, by its name; any, where it is empty
    served_by      of files, the endpoints that serve them: targets as they are watched
    on_change      tell of another issuer or key
    on_renewal     tell of a renewal's success
    next_check_at  when it is due; while somebody looks, until when the others leave it alone
    failing_since  since when nothing could be read
    """

    target = models.CharField(max_length=targets.LONGEST, unique=True)
    notify = Json(default=list, blank=True)
    at = Json("thresholds", default=list, blank=True)
    interval = models.DurationField(default=schedule.INTERVAL)
    host = models.CharField(max_length=255, blank=True, default="")
    password_file = models.CharField(max_length=1000, blank=True, default="")
    ca_file = models.CharField("CA file", max_length=1000, blank=True, default="")
    served_by = Json(default=list, blank=True)
    on_change = models.BooleanField("tell of another issuer or key", default=False)
    on_renewal = models.BooleanField("tell of renewals", default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    next_check_at = models.DateTimeField(default=timezone.now, editable=False)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    problem = models.CharField(max_length=LONGEST_PROBLEM, blank=True, default="", editable=False)

    objects: ClassVar = Manager()

    class Meta:
        db_table = "notification_watches"
        ordering = ("target",)
        verbose_name_plural = "watches"
        permissions = (("check_watch", "Can have a watch checked now"),)
        indexes = (
            Index(fields=["next_check_at"], name="idx_notification_watches_due"),
            Index(fields=["id"], name="idx_notification_watches_served", condition=~models.Q(served_by=[])),
        )

    def __str__(self) -> str:
        return self.target

    def clean(self) -> None:
        """Everything in the one way to write it. Raises ValidationError, which names the field."""
        faults = {}
        for name, written in WRITTEN.items():
            try:
                setattr(self, name, written(getattr(self, name)))
            except ValidationError as error:
                faults[name] = error
        if self.served_by and not faults.keys() & {"target", "served_by"} and not is_of_files(self.target):
            faults["served_by"] = ValidationError("Only a watch of files says what serves them.")
        if not schedule.SHORTEST <= self.interval <= schedule.LONGEST:
            faults["interval"] = ValidationError("An interval is from a minute to 30 days.")
        for name in ("host", "password_file", "ca_file"):
            if not getattr(self, name).isprintable():
                faults[name] = ValidationError("This is one line of printable characters.")
        if faults:
            raise ValidationError(faults)

    @property
    def addressees(self) -> list[Addressee]:
        return [addressee(text) for text in self.tells]

    @property
    def tells(self) -> list[str]:
        """Each `Channel:recipient`."""
        return _texts(self.notify, MOST_ADDRESSEES, 2 * LONGEST_RECIPIENT + 1)

    @property
    def endpoints(self) -> list[str]:
        """Those that serve its files."""
        return _texts(self.served_by, MOST_ENDPOINTS, targets.LONGEST)

    @property
    def thresholds(self) -> list[thresholds.Threshold]:
        """The default ones also where another program wrote what none is."""
        try:
            return thresholds.parse_all(self.at)
        except (TypeError, ValueError, AttributeError):
            return thresholds.parse_all([])


WRITTEN = {"target": as_target, "notify": as_addressees, "at": as_thresholds, "served_by": as_endpoints}


class Certificate(Table):
    """One certificate that was seen, wherever and however often. Its texts are an outsider's.

    fingerprint  SHA-256, in hexadecimal; key: the same of its public key
    names        the first of them; all_names: the fingerprint of all
    """

    fingerprint = models.CharField(max_length=64, unique=True)
    names = Json(default=list)
    all_names = models.CharField(max_length=64, blank=True, default="")
    subject = models.CharField(max_length=LONGEST_NAME, blank=True)
    issuer = models.CharField(max_length=LONGEST_NAME, blank=True)
    serial = models.CharField(max_length=64, blank=True)
    key = models.CharField(max_length=64, blank=True)
    algorithm = models.CharField(max_length=100, blank=True)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        db_table = "notification_certificates"
        ordering = ("not_after", "id")
        indexes = (
            Index(fields=["not_after"], name="idx_notification_certificates_not_after"),
            Index(fields=["last_seen"], name="idx_notification_certificates_last_seen"),
        )

    def __str__(self) -> str:
        return safe(self.title)

    @property
    def title(self) -> str:
        return self.names[0] if self.names else self.subject or f"serial {self.serial}"


class Sighting(Table):
    """One certificate seen at one place of a watch: a file, or the endpoint.

    current      it was there when the watch was read last
    returned     it was shown again after another one had looked like its renewal
    missed       how often in a row it was not there since, up to MISSED
    since        when it came, or was gone, last; None where that is older than this column
    verdicts     what a client that verifies would say against it; verdicts_since: each since when
    """

    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, related_name="sightings", db_index=False)
    certificate = models.ForeignKey(Certificate, on_delete=models.CASCADE, related_name="sightings")
    place = models.CharField(max_length=LONGEST_PLACE)
    current = models.BooleanField(default=True)
    verdicts = Json(default=list, blank=True)
    verdicts_since = Json(default=dict, blank=True)
    returned = models.BooleanField(default=False)
    missed = models.PositiveSmallIntegerField(default=0)
    since = models.DateTimeField(null=True, blank=True)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        db_table = "notification_sightings"
        ordering = ("-current", "-last_seen", "id")
        indexes = (Index(fields=["first_seen"], name="idx_notification_sightings_first_seen"),)
        constraints = (
            models.UniqueConstraint(
                fields=["watch", "certificate", "place"], name="uniq_notification_sightings"
            ),
        )

    def __str__(self) -> str:
        return f"{self.certificate} at {self.place}"

    @property
    def so_since(self) -> datetime:
        """Since when it is there, or is not, without a break."""
        return self.since or (self.first_seen if self.current else self.last_seen)


class Raised(Table):
    """That an alert was raised, or covered by a more urgent one: never again for the same certificate (or
    watch), channel and recipient, also when the notification was pruned.

    key        of all that makes it the same alert
    batch      which of them were written together
    event      the notification's id
    settled_at  since when its alert is withdrawn or solved
    undone_at  since when it counts no more: it was settled, and the certificate is shown again; or the server
               was reloaded
    """

    key = models.CharField(max_length=64, unique=True)
    certificate = models.ForeignKey(Certificate, null=True, on_delete=models.CASCADE, related_name="raised")
    watch = models.ForeignKey(Watch, null=True, on_delete=models.CASCADE, related_name="raised")
    what = models.CharField(max_length=100)
    channel = models.CharField(max_length=255)
    recipient = models.CharField(max_length=255)
    batch = models.CharField(max_length=36)
    event = models.TextField(blank=True, default="")
    at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "notification_certificate_alerts"
        ordering = ("at", "id")
        verbose_name = "raised alert"
        indexes = (
            Index(fields=["batch"], name="idx_notification_certificate_alerts_batch"),
            Index(fields=["event"], name="idx_notification_certificate_alerts_event"),
        )

    def __str__(self) -> str:
        return f"{self.what} to {self.recipient} on {self.channel}"


class Checks(Table):
    """How many checks ended how, ever: `read`, or `failed` where something could not be read.

    slot  so that nobody who counts waits for another
    """

    outcome = models.CharField(max_length=10)
    slot = models.IntegerField()
    number = models.BigIntegerField()

    class Meta:
        db_table = "notification_certificate_checks"
        ordering = ("outcome", "slot")
        constraints = (
            models.UniqueConstraint(fields=["outcome", "slot"], name="uniq_notification_certificate_checks"),
        )

    def __str__(self) -> str:
        return f"{self.number} {self.outcome}"


def is_due(now: datetime) -> models.Q:
    """Also what would be due later than any interval lets it be: a clock was wrong when it was looked at."""
    return models.Q(next_check_at__lte=now) | models.Q(next_check_at__gt=now + 2 * schedule.LONGEST)


def served_by(targets: Collection[str]) -> models.QuerySet[Watch]:
    """The watches of files that one of these endpoints serves, as they say themselves."""
    given: Any = list(targets)
    sql, given = (NAMES, given) if database.is_postgresql() else (NAMES_ON_SQLITE, json.dumps(given))
    names = RawSQL(sql, [given], models.BooleanField())  # noqa: S611  (constants and a placeholder only)
    found: models.QuerySet[Watch] = Watch.objects.exclude(served_by=[]).filter(names)
    return found


NAMES = "served_by ?| %s"
NAMES_ON_SQLITE = (
    "EXISTS (SELECT 1 FROM json_each(served_by) WHERE value IN (SELECT value FROM json_each(%s)))"
)


def due(now: datetime, host: str) -> models.QuerySet[Watch]:
    """What is to be looked at now by a machine of this name, the longest due first."""
    found: models.QuerySet[Watch] = Watch.objects.filter(is_due(now), host__in=("", host))
    return found.order_by("next_check_at", "id")
