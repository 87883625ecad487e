"""The words that all surfaces share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from notifications.models import Hold, NotificationEvent
from notifications.reporting import activity, held, words
from notifications.reporting.channels import Channels, settings
from notifications.reporting.timeline import NEWEST, Kind, timeline
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.reporting.rows import WEBHOOK, swept
from tests.reporting.rows import held as hold

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SIZES = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "day": 86400, "days": 86400}


def seconds_in(said: str) -> float:
    """What is said, in one unit or several."""
    numbers, units = said.split()[::2], said.split()[1::2]
    return sum(float(number) * SIZES[unit] for number, unit in zip(numbers, units, strict=True))


# Times and numbers


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.312, "312 ms"),
        (0.9999, "1 s"),
        (1.25, "1.2 s"),
        (9.99, "10 s"),
        (42.9, "42 s"),
        (60, "1 min"),
        (119.9, "1 min 59 s"),
        (120, "2 min"),
        (179, "2 min"),
        (3600, "1 h"),
        (7199, "1 h 59 min"),
        (7200, "2 h"),
        (24 * 3600, "1 day"),
        (47 * 3600, "1 day 23 h"),
        (400 * 86400, "400 days"),
    ],
)
def test_a_duration(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@given(st.floats(0.001, 1e9))
def test_a_duration_loses_less_than_half_and_never_reads_longer_than_it_is(seconds: float) -> None:
    shown = seconds_in(words.duration(seconds))
    assert shown <= seconds + max(0.0005, 0.05 * (1 <= seconds < 10))
    assert shown > seconds / 2


@pytest.mark.parametrize(
    ("seconds", "said"), [(59.2, "1 min"), (119.2, "2 min"), (61, "1 min 1 s"), (86_390, "1 day")]
)
def test_what_is_promised_is_rounded_up(seconds: float, said: str) -> None:
    assert words.at_most(seconds) == said


@given(st.floats(10, 1e9))
def test_what_is_promised_is_never_shorter(seconds: float) -> None:
    assert seconds <= seconds_in(words.at_most(seconds)) < seconds * 2


@given(st.integers(1, 10**7))
def test_a_setting_is_said_exactly(seconds: int) -> None:
    assert seconds_in(words.exact_duration(seconds)) == seconds
    assert words.exact_duration(4 * 3600) == "4 h"
    assert words.exact_duration(86400) == "1 day"
    assert words.exact_duration(0.5) == "0.5 s"


def test_a_time_has_its_zone() -> None:
    assert words.timestamp(NOW) == "2026-11-25 12:00:00 UTC"
    with timezone.override("Europe/Berlin"):
        assert words.timestamp(NOW) == "2026-11-25 13:00:00 CET"


def test_certctls_zero_time_is_no_error_anywhere() -> None:
    with timezone.override("America/New_York"):
        assert words.timestamp(datetime(1, 1, 1, tzinfo=UTC)).endswith("01-01 00:00:00 UTC")


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    assert words.ago(NOW + timedelta(hours=1), NOW) == "0 s ago"


def test_counts() -> None:
    assert words.count(12_000) == "12,000"
    assert words.count(120_000, estimated=True) == "about 120,000"
    assert (words.count(1000, most=1000), words.count(1001, most=1000)) == ("1,000", "1,000+")


def test_who_is_always_named() -> None:
    assert words.decided("ada", "cli") == "ada via cli"
    assert words.decided("", "api") == "somebody unnamed via api"


# A notification


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "failed", "retry_count": 2}, "2/5"),
        ({"status": "dead", "retry_count": 2}, "3/5"),
        ({"status": "dead", "retry_count": -7}, "1/5"),
        ({"status": "sent", "retry_count": 2}, ""),
        ({"status": "pending"}, ""),
    ],
)
def test_retries_of_the_budget(fields: dict[str, Any], said: str) -> None:
    assert words.retries(NotificationEvent(**fields), 5) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "pending"}, "with the next delivery"),
        ({"status": "pending", "leased_until": NOW + timedelta(minutes=1)}, "attempt running"),
        ({"status": "pending", "leased_until": NOW}, "with the next delivery"),
        ({"status": "failed"}, "not scheduled"),
        ({"status": "failed", "next_retry_at": NOW}, "due now"),
        ({"status": "failed", "next_retry_at": NOW + timedelta(minutes=4)}, "next in 4 min"),
    ],
)
def test_when_the_next_attempt_is(fields: dict[str, Any], said: str) -> None:
    assert words.next_attempt(NotificationEvent(**fields), NOW)[0] == said


def test_what_certctl_could_not_send_was_not_sent() -> None:
    event = NotificationEvent(status="failed", sent_at=datetime(1, 1, 1, tzinfo=UTC), created_at=NOW)
    assert "Sent" not in dict(words.facts(event, 5, NOW))


@pytest.mark.django_db
class TestTimeline:
    def kinds(self, event: NotificationEvent) -> list[str]:
        return [str(entry.kind) for entry in timeline(event, timezone.now())]

    def test_everything_in_its_order(self) -> None:
        event = factories.sent(created_at=ago(hours=9), sent_at=ago(hours=2))
        factories.attempt(event, started_at=ago(hours=8))
        event.requeues.create(by="ada", via="cli", at=ago(hours=7), status="dead", retry_count=4)
        factories.attempt(event, "sent", started_at=ago(hours=2))
        event.readings.create(by="bob", via="admin", at=ago(hours=1), status="sent")
        assert self.kinds(event) == ["raised", "attempt", "requeue", "attempt", "reading"]

    @pytest.mark.parametrize(
        ("make", "last"),
        [
            (lambda: factories.sent(), Kind.SENT),
            (lambda: factories.dead(), Kind.NEXT),
            (lambda: factories.stranded(sent_at=datetime(1, 1, 1, tzinfo=UTC)), Kind.NEXT),
            (lambda: factories.read(sent_at=ago()), Kind.RAISED),
        ],
        ids=["sent by certctl", "dead", "failed at certctl", "read at certctl"],
    )
    def test_what_others_left_is_told_for_what_it_is(
        self, make: Callable[[], NotificationEvent], last: Kind
    ) -> None:
        assert self.kinds(make())[-1] == last

    def test_a_long_history_is_bounded_and_says_so(self) -> None:
        event = factories.dead(created_at=ago(days=9))
        for n in range(NEWEST + 1):
            factories.attempt(event, number=n + 1, started_at=event.created_at + timedelta(minutes=n))
        entries = timeline(event, timezone.now())
        assert entries[1].kind == Kind.EARLIER
        assert sum(entry.kind == Kind.ATTEMPT for entry in entries) == NEWEST
        assert entries[2].what == "Attempt 2: failed, and may succeed later"


# Holds


@pytest.mark.parametrize(
    ("fields", "state", "until"),
    [
        ({}, "held", "tried again at 2026-11-25 12:05:00 UTC"),
        ({"until": NOW}, "held", "the next delivery tries it"),
        (
            {"since": NOW - timedelta(hours=5)},
            "held past the limit",
            "tried as usual again: what fails may die",
        ),
        ({"reason": "paused"}, "paused", "ends at 2026-11-25 12:05:00 UTC"),
        ({"reopened_at": NOW}, "recovering", "sent slowly until 2026-11-25 12:05:00 UTC"),
    ],
)
def test_a_hold_in_words(fields: dict[str, Any], state: str, until: str) -> None:
    values = {"reason": "server", "since": NOW, "until": NOW + timedelta(minutes=5), "channel": "Webhook"}
    said = held.in_words(Hold(**{**values, **fields}), NOW, timedelta(hours=4))
    assert (said.state, said.until) == (state, until)


def test_why_it_is_held() -> None:
    values = {
        "since": NOW,
        "until": NOW,
        "channel": "Slack",
        "recipient_prefix": "https://a/",
        "exact": False,
    }
    found = held.in_words(Hold(reason="server", error="HTTP 503", **values), NOW, timedelta(hours=4))
    wanted = held.in_words(Hold(reason="paused", by="ada", error="", **values), NOW, timedelta(hours=4))
    assert (found.scope, found.why) == ("Slack to https://a/…", "its server fails: HTTP 503")
    assert (wanted.cause, wanted.why) == ("by ada", "by ada")


@pytest.mark.django_db
def test_pauses_and_recoveries_that_are_over_say_nothing_any_more() -> None:
    kept = [hold("a", until=ago(hours=1)), hold("b", reason="paused"), hold("c", reopened_at=ago())]
    hold("d", reason="paused", until=ago(seconds=1))
    hold("e", reopened_at=ago(), until=ago(seconds=1))
    assert list(held.in_force(timezone.now())) == kept


@pytest.mark.django_db
def test_who_waits_is_counted_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "WAITING_COUNTED", 2)
    waited_for = hold("webhook")
    for said in (0, 1, 2, "2+"):
        assert held.waiting(waited_for) == said
        factories.pending()


# Channels


def test_channels_are_spelled_as_configured(configure: Configure) -> None:
    configure(CHANNELS={"Slack": WEBHOOK})
    channels = Channels()
    assert [channels.spelled(name) for name in ("sLACK", "Fax")] == ["Slack", "Fax"]
    assert [channels.is_configured(name) for name in ("sLACK", "Fax")] == [True, False]


def test_faulty_settings_leave_the_defaults(configure: Configure) -> None:
    configure(MAX_ATTEMPTS="many")
    assert settings().max_attempts == 5


# Who delivers


@pytest.mark.django_db
def test_the_last_end_of_each_kind_that_swept(django_assert_num_queries: Any) -> None:
    swept("retry", ago(hours=2))
    last = swept("retry", ago(hours=1))
    with django_assert_num_queries(2):
        assert activity.last_ends() == [last.ended_at]


def test_three_intervals_without_a_sweep_are_too_many(configure: Configure) -> None:
    configure(RETRY_INTERVAL=60, PROCESS_INTERVAL=30)
    assert activity.stalled([NOW - timedelta(seconds=180)], NOW) == ""
    assert activity.stalled([NOW - timedelta(seconds=181)], NOW).startswith("Nothing is being delivered")


@pytest.mark.django_db
def test_a_sentence_for_each_sweep() -> None:
    run = swept("retry", ahead())
    with time_machine.travel(run.ended_at + timedelta(minutes=3)):
        said = words.sweep(run, timezone.now())
    assert said == "3 min ago, 0 taken up, 0 sent, 0 to be tried again, 0 dead, by w"
    assert words.sweep(None, NOW) == "never"
