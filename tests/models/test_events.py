"""One notification's own words and verbs, edge by edge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from notifications.models import Escalation, NotificationEvent, Reading, Requeue
from tests import factories
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db

EVENTS = NotificationEvent.objects
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
ALERT = {"type": "Expiry", "channel": "Slack", "recipient": "#pki", "message": "7 days"}


def test_in_words() -> None:
    assert str(NotificationEvent(**ALERT)) == "Expiry to #pki on Slack"


@pytest.mark.parametrize(
    ("field", "unit", "most", "said"),
    [
        ("certificate_id", "x", 2000, "This text is longer than 2000 bytes."),
        ("dedup_key", "é", 1000, "This text is longer than 2000 bytes."),
        ("message", "é", 128 * 1024, "This text is longer than 256 KiB."),
    ],
)
def test_the_longest_text_that_is_taken(field: str, unit: str, most: int, said: str) -> None:
    NotificationEvent(**{**ALERT, field: unit * most}).clean()
    with pytest.raises(ValidationError) as refused:
        NotificationEvent(**{**ALERT, field: unit * most + "x"}).clean()
    assert refused.value.message_dict == {field: [said]}


@pytest.mark.parametrize("field", ["type", "certificate_id", "channel", "recipient", "message", "dedup_key"])
def test_half_a_character_is_no_text(field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        NotificationEvent(**{**ALERT, field: "\udc80"}).clean()
    assert refused.value.message_dict == {field: ["This text is not valid Unicode."]}


@pytest.mark.parametrize(("retry_count", "number"), [(0, 1), (4, 5), (-3, 1), (2**31 - 1, 2**31 - 1)])
def test_the_next_attempts_number(retry_count: int, number: int) -> None:
    assert NotificationEvent(retry_count=retry_count).attempt_number == number


@pytest.mark.parametrize(
    ("fields", "stranded", "delivered"),
    [
        ({"status": "failed", "channel": "EMAIL"}, True, True),
        ({"status": "failed", "channel": "Slack"}, True, False),
        ({"status": "failed", "channel": "Email", "last_error": "refused"}, True, False),
        ({"status": "failed", "channel": "Email", "next_retry_at": NOW}, False, False),
        ({"status": "pending", "channel": "Email"}, False, False),
    ],
)
def test_what_certctl_left_failed_and_whether_it_was_probably_delivered(
    fields: dict[str, Any], stranded: bool, delivered: bool
) -> None:
    """The row says what the filters find."""
    event = factories.notification(**fields)
    assert (event.stranded, event.probably_delivered) == (stranded, delivered)
    found = [rows.exists() for rows in (EVENTS.stranded(), EVENTS.probably_delivered(), EVENTS.lost())]
    assert found == [stranded, delivered, stranded and not delivered]


def test_whether_a_sent_one_was_delivered(django_assert_num_queries: Any) -> None:
    """Asked of the database only where it can matter, and where the list has not asked already."""
    missed, odd = factories.not_delivered(), factories.sent(error="odd")
    factories.attempt(odd, "sent")
    with django_assert_num_queries(2):
        assert (missed.not_delivered, odd.not_delivered) == (True, False)
    listed = {event.pk: event for event in EVENTS.with_kind()}
    others = [factories.sent(), factories.dead(error="x")]
    with django_assert_num_queries(0):
        assert (listed[missed.pk].not_delivered, listed[odd.pk].not_delivered) == (True, False)
        assert [event.not_delivered for event in others] == [False, False]


def test_the_verbs_of_one_say_who_and_through_which_surface() -> None:
    one, two, other = (factories.dead() for _ in range(3))
    one.requeue(by="ada")
    two.requeue(by="bob", via="admin")
    assert list(Requeue.objects.order_by("id").values_list("by", "via")) == [
        ("ada", "python"),
        ("bob", "admin"),
    ]
    factories.sent().mark_read()
    other.mark_read(by="bob", via="admin")
    assert list(Reading.objects.order_by("id").values_list("by", "via")) == [
        ("", "python"),
        ("bob", "admin"),
    ]
    assert (one.status, other.status) == ("pending", "read")


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_failed_attempt_makes_it_failed_and_due_again(status: str) -> None:
    event = factories.notification(status, retry_count=1)
    event.record_failed_attempt("a NUL \x00", NOW)
    assert (event.status, event.retry_count, event.next_retry_at) == ("failed", 2, NOW)
    assert "\x00" not in str(event.last_error)


def test_a_failed_attempt_without_a_next_one_is_refused_in_plain_words() -> None:
    event = factories.pending()
    with pytest.raises(ValueError, match=r"^next_retry_at is needed: a failed .* is never retried$"):
        event.record_failed_attempt("down", None)  # type: ignore[arg-type]


def test_what_dies_by_its_own_verb_is_escalated(configure: Configure) -> None:
    configure(
        CHANNELS={name: channel(Script()) for name in ("Slack", "Email")}, ESCALATION={"Slack": "Email:ops"}
    )
    event, other = factories.pending(channel="Slack"), factories.dead(channel="Slack")
    event.mark_as_dead("a NUL \x00")
    assert Escalation.objects.get().notification_id == event.pk != other.pk
    assert "\x00" not in str(event.last_error)
