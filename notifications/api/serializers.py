"""The shapes: what goes in, with every name and type checked, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.db import models
from rest_framework import serializers

from ..models import DeliveryAttempt, Escalation, NotificationEvent
from ..operations.filters import STATUSES
from ..reporting.contract import ATTEMPT, EVENT

# What fits into PostgreSQL's index on the column, in any script.
LONGEST_KEY = 500
LARGEST = 2**31 - 1
MOST_AT_ONCE = 10_000


class Text(serializers.CharField):
    """A string as it was sent: nothing else becomes one, and no space is cut off."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """true or false; no word or number stands for one of them."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class UtcTime(serializers.DateTimeField):
    """RFC 3339 in UTC, whatever time zone the site is in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"default_timezone": UTC, "format": "iso-8601", **options})


class Strict(serializers.Serializer[Any]):
    """Refuses, by name, what it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [name for name in data if name not in self.fields]):
            known = f"Unknown. Known are: {', '.join(self.fields)}."
            raise serializers.ValidationError({name: [known] for name in unknown})
        return super().to_internal_value(data)


class Model(serializers.ModelSerializer[Any]):
    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.DateTimeField: UtcTime,
        models.CharField: Text,
        models.TextField: Text,
    }


# --- In ------------------------------------------------------------------------------------------


class Filters(Strict):
    """Which notifications; what is left out or empty does not narrow."""

    status = serializers.ChoiceField(
        STATUSES,
        required=False,
        allow_blank=True,
        help_text="Its state; `retrying` and `stranded` are the failed with and without a next attempt,"
        " `probably_delivered` the e-mails among the stranded,"
        " `not_delivered` the sent whose channel had no notifier, `refused` those of which the database takes"
        " no change.",
    )
    type = Text(max_length=255, required=False, allow_blank=True, help_text="The type, exactly.")
    channel = Text(
        max_length=255, required=False, allow_blank=True, help_text="The channel, without regard to case."
    )
    certificate_id = Text(
        max_length=LONGEST_KEY, required=False, allow_blank=True, help_text="The certificate's id, exactly."
    )
    recipient = Text(max_length=255, required=False, allow_blank=True, help_text="The recipient, exactly.")
    search = Text(
        max_length=200,
        required=False,
        allow_blank=True,
        help_text="A whole id, certificate or recipient;"
        " else words in the recipient, certificate, message or errors.",
    )
    error = Text(
        max_length=200, required=False, allow_blank=True, help_text="Part of the last error, in any case."
    )
    alike = Text(
        max_length=1000,
        required=False,
        allow_blank=True,
        help_text="The last error's fingerprint, in which `…` stands for what changes.",
    )
    since = UtcTime(required=False, help_text="Raised at this time or later.")
    until = UtcTime(required=False, help_text="Raised at this time or earlier.")
    dead_since = UtcTime(required=False, help_text="Dead ones that died at this time or later.")
    outage = serializers.IntegerField(
        min_value=1, max_value=LARGEST, required=False, help_text="Dead ones that died of this outage."
    )
    operation = serializers.IntegerField(
        min_value=1, max_value=LARGEST, required=False, help_text="What this operation changed."
    )


class ListQuery(Filters):
    order = serializers.ChoiceField(
        ("newest", "ends"),
        default="newest",
        help_text="`ends`: by when the certificates end that they are about, the first in front.",
    )
    page = serializers.IntegerField(min_value=1, max_value=LARGEST, required=False, help_text="From 1.")
    per_page = serializers.IntegerField(
        min_value=1, max_value=500, default=50, help_text="How many notifications a page has."
    )
    cursor = Text(
        max_length=1000,
        required=False,
        allow_blank=True,
        help_text="Reads on from a `next_cursor`; empty: from the newest. `page` and `order` then say"
        " nothing.",
    )


class BulkRequeue(Filters):
    """A filter, or `"all": true` for every notification that can be requeued."""

    renewed = Flag(default=False, help_text="Also those whose certificates were renewed since.")

    all = Flag(default=False, help_text="Needed where no filter is given.")
    dry_run = Flag(default=False, help_text="Count, and change nothing.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not any(value for name, value in attrs.items() if name not in ("dry_run", "renewed")):
            raise serializers.ValidationError(
                {"all": ['No filter is given: this would requeue everything. Say "all": true to mean that.']}
            )
        return attrs


class Creation(Model, Strict):
    not_after = UtcTime(
        required=False,
        allow_null=True,
        help_text="When the certificate ends that it is about: what ends sooner goes sooner.",
    )

    class Meta:
        model = NotificationEvent
        fields = ("type", "channel", "recipient", "message", "certificate_id", "dedup_key", "not_after")
        extra_kwargs = {
            "message": {"help_text": "The text to deliver."},
            "recipient": {"help_text": "Whom: an address, a channel's name or a URL; the channel decides."},
            "certificate_id": {"max_length": LONGEST_KEY, "help_text": "The certificate it is about."},
            "dedup_key": {
                "max_length": LONGEST_KEY,
                "validators": [],  # a key seen before is no error but answers the first event
                "help_text": "The same key again answers the first event, and raises nothing.",
            },
        }


class Creations(Strict):
    """Many at once, in one transaction."""

    notifications = serializers.ListField(
        child=Creation(), min_length=1, max_length=MOST_AT_ONCE, help_text="Each as in one call."
    )


# --- Out -----------------------------------------------------------------------------------------


class Attempt(Model):
    class Meta:
        model = DeliveryAttempt
        fields = ATTEMPT
        read_only_fields = fields


class Event(Model):
    not_after = UtcTime(
        read_only=True,
        allow_null=True,
        help_text="When the certificate ends that it is about; null where that is not known.",
    )
    withdrawn = serializers.BooleanField(
        read_only=True,
        help_text="Whether a `read` one was taken back: its certificate was renewed before it had arrived.",
    )
    dismissed = serializers.BooleanField(
        read_only=True,
        help_text="Whether a `read` one was dead before, and a person closed it; else it was seen.",
    )

    class Meta:
        model = NotificationEvent
        fields: tuple[str, ...] = EVENT
        read_only_fields = EVENT


class Raised(Event):
    warnings = serializers.ListField(
        child=Text(), required=False, help_text="Why nothing may be delivered; else left out."
    )

    class Meta(Event.Meta):
        fields = (*EVENT, "warnings")


class EventWithAttempts(Event):
    attempts = Attempt(source="deliveryattempts", many=True, read_only=True)
    escalation_of = serializers.SerializerMethodField(
        help_text="The id of the dead notification in whose place this one was raised."
    )
    escalated_to = serializers.SerializerMethodField(
        help_text="The id of the notification that was raised on another channel when this one died."
    )

    class Meta(Event.Meta):
        fields = (*EVENT, "attempts", "escalation_of", "escalated_to")

    def get_escalation_of(self, event: NotificationEvent) -> str | None:
        before, _ = Escalation.around(event)
        return before.notification_id if before else None

    def get_escalated_to(self, event: NotificationEvent) -> str | None:
        _, after = Escalation.around(event)
        return after.raised_id if after else None
