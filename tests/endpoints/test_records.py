"""What is on record of endpoints, row by row: holds, pauses, recoveries and outages."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Q

from notifications.conf import made
from notifications.database import database_now
from notifications.endpoints import holds, outages
from notifications.endpoints.breaker import Change, Learned, OnRecord, State
from notifications.exceptions import PermanentError, Reason, TransientError
from notifications.models import Hold, Outage
from notifications.notifiers.base import Endpoint
from tests import factories
from tests.breakage import refused_rows

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
LIMIT, PROBE = 4 * HOUR, timedelta(minutes=2)
HOST = Endpoint("webhook a", "Webhook", "https://a/")
CHANNEL = Endpoint("slack", "Slack")
DOWN = TransientError("HTTP 503 \x00", reason=Reason.SERVER)


def hold(endpoint: Endpoint = HOST, **fields: Any) -> Hold:
    given = {"reason": "server", "error": "HTTP 503", "since": NOW, "until": NOW + HOUR, **fields}
    made: Hold = Hold.objects.create(**outages.which(endpoint), **given)
    return made


def outage(endpoint: Endpoint = HOST, **fields: Any) -> Outage:
    given = {"reason": "server", "error": "HTTP 503", "since": NOW - HOUR, "failures": 3, **fields}
    made: Outage = Outage.objects.create(**outages.which(endpoint), **given)
    return made


def read(now: datetime = NOW) -> list[OnRecord]:
    return list(holds.read(now=now, probe_for=PROBE, limit=LIMIT).held)


# Reading


def test_a_hold_is_read_as_it_stands() -> None:
    hold(times=3)
    assert read() == [OnRecord(HOST, State.HELD, times=3, until=NOW + HOUR, error="HTTP 503")]


def test_a_hold_that_has_run_out_is_the_probe_of_the_first_who_reads_it() -> None:
    hold(until=NOW)
    assert read(NOW - TICK) == [OnRecord(HOST, State.HELD, times=1, until=NOW, error="HTTP 503")]
    assert read() == [OnRecord(HOST, State.HELD, times=1, ours=True, until=NOW + PROBE, error="HTTP 503")]
    assert read() == [OnRecord(HOST, State.HELD, times=1, until=NOW + PROBE, error="HTTP 503")]


def test_a_hold_that_nobody_needed_for_a_day_is_forgotten() -> None:
    hold(until=NOW - DAY - TICK)
    hold(CHANNEL, until=NOW - DAY)
    assert [found.endpoint for found in read()] == [CHANNEL]
    assert Hold.objects.count() == 1


@pytest.mark.parametrize("fields", [{"reason": "paused"}, {"reopened_at": NOW - HOUR}])
def test_a_pause_and_a_recovery_just_end(fields: dict[str, Any]) -> None:
    hold(until=NOW, **fields)
    assert [found.ours for found in read(NOW - TICK)] == [False]
    assert read() == []
    assert not Hold.objects.exists()


def test_who_makes_no_probes_leaves_them_to_whoever_gets_the_rows() -> None:
    hold(until=NOW)
    hold(CHANNEL, until=NOW + TICK)
    for found in (
        holds.read(now=NOW, probe_for=None, limit=LIMIT),
        holds.read_endpoints(made({}), NOW, False),
    ):
        assert [(held.endpoint, held.ours) for held in found.held] == [(CHANNEL, False)]
    assert Hold.objects.get(endpoint=HOST.key).until == NOW


def test_the_state_of_a_hold() -> None:
    def state(**fields: Any) -> State:
        given = {"reason": "server", "since": NOW - LIMIT, "until": NOW + HOUR, **fields}
        return holds.state_of(Hold(**given), NOW, LIMIT)

    assert state() == State.HELD
    assert state(since=NOW - LIMIT - TICK) == State.PAST_LIMIT
    assert state(since=NOW - LIMIT - TICK, reason="paused") == State.HELD
    assert state(since=NOW - LIMIT - TICK, reopened_at=NOW) == State.RECOVERING


def test_past_its_limit_there_is_no_probe_and_a_pause_says_that_it_is_one() -> None:
    hold(since=NOW - LIMIT - TICK, until=NOW)
    hold(CHANNEL, reason="paused", times=0)
    paused, late = read()
    assert (paused.paused, paused.state, paused.times) == (True, State.HELD, 0)
    assert (late.paused, late.state, late.ours) == (False, State.PAST_LIMIT, False)


def test_a_sweep_reads_by_the_sites_settings() -> None:
    settings = made({"LEASE": 600, "HOLD_LIMIT": 1800})
    hold(until=NOW, since=NOW - timedelta(minutes=31))
    hold(CHANNEL, until=NOW, since=NOW - timedelta(minutes=29))
    outage()
    ours, late = holds.read_endpoints(settings, NOW).held
    assert (ours.state, ours.until) == (State.HELD, NOW + timedelta(minutes=10))
    assert late.state == State.PAST_LIMIT
    assert holds.read_endpoints(settings, NOW).failing == [(HOST, NOW - HOUR, 3)]


# Writing what a sweep learned


def test_what_a_sweep_learned_is_written(django_assert_num_queries: Any) -> None:
    """Of all that fails together, in one statement for the outages and one for the holds, both or none."""
    since = NOW - timedelta(minutes=3)
    refused = PermanentError("HTTP 401", reason=Reason.AUTH, advice="look")
    changes = [
        Change(Learned.FAILS, HOST, DOWN, since=since, failures=2, died=1),
        Change(Learned.HELD, HOST, DOWN, seconds=90.0, times=2, since=since, failures=4, died=2),
        Change(Learned.FAILS, CHANNEL, refused, failures=0),
    ]
    with django_assert_num_queries(2 + 2):  # and a savepoint
        holds.write(changes, now=NOW)
    found = Hold.objects.get()
    assert outages.endpoint_of(found) == HOST
    assert (found.reason, found.error, found.by) == ("server", outages.said(DOWN)["error"], "")
    assert (found.since, found.until, found.times) == (NOW, NOW + timedelta(seconds=90), 2)
    slack, host = Outage.objects.all()
    assert (outages.endpoint_of(slack), outages.endpoint_of(host)) == (CHANNEL, HOST)
    assert (slack.since, slack.failures, slack.died) == (NOW, 0, 0)
    assert (slack.reason, slack.error, slack.exact) == ("auth", "HTTP 401: look", False)
    assert (host.since, host.failures, host.died) == (since, 4, 3)
    assert "\x00" not in host.error


def test_what_the_database_refuses_of_one_is_written_plainly_or_left_and_the_others_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = TransientError("HTTP 500 日本", reason=Reason.SERVER)
    errors = {HOST: odd, CHANNEL: odd, Endpoint("slack 2", "Slack"): DOWN, Endpoint("email", "Email"): DOWN}
    changes = [Change(Learned.HELD, each, error, 90.0, 1, NOW, 5) for each, error in errors.items()]
    with refused_rows("NEW.error LIKE '%日%' OR NEW.channel = 'Slack'", table="notification_holds"):
        holds.write(changes, now=NOW)
    email, host = Hold.objects.order_by("endpoint")
    assert (email.endpoint, email.until) == ("email", NOW + timedelta(seconds=90))
    assert (host.endpoint, host.error, host.reason, host.until) == (
        HOST.key,
        "HTTP 500 ??",
        "server",
        email.until,
    )
    assert Outage.objects.count() == 2
    said = [line for line in caplog.messages if line.startswith("not on record, of the endpoint slack")]
    assert ["endpoint slack: it is held: " in said[0], "endpoint slack 2: it is held: " in said[1]] == [
        True,
        True,
    ]


def test_the_earliest_failure_and_the_longest_streak_count_in_whatever_order() -> None:
    early, late = NOW - HOUR, NOW - timedelta(minutes=1)
    for first, second in (((early, 7), (late, 2)), ((late, 2), (early, 7))):
        outages.note(
            [Change(Learned.FAILS, HOST, DOWN, since=at, failures=n, died=n) for at, n in (first, second)],
            now=NOW,
        )
        found = Outage.objects.get()
        assert (found.since, found.failures, found.died) == (early, 7, 9)
        found.delete()


def test_two_spellings_of_one_host_are_two_outages_and_two_holds() -> None:
    """Each has the rows that spell it so."""
    changes = [
        Change(Learned.HELD, Endpoint(HOST.key, "Webhook", prefix), DOWN, seconds=9.0, times=1)
        for prefix in ("https://a/", "https://A/")
    ]
    holds.write(changes, now=NOW)
    assert (Outage.objects.count(), Hold.objects.count()) == (2, 2)


def test_what_was_noted_is_found_by_its_time() -> None:
    outages.note([Change(Learned.FAILS, HOST, DOWN, since=NOW - DAY - TICK)], now=NOW)
    assert outages.ongoing(now=NOW) == []


def test_a_change_without_an_error_is_no_failure() -> None:
    outages.note([Change(Learned.FAILS, HOST)], now=NOW)
    assert not Outage.objects.exists()


def test_one_that_delivers_recovers_and_the_others_stay_held() -> None:
    hold()
    hold(CHANNEL)
    outage(died=1)
    holds.write([Change(Learned.DELIVERS, HOST)], now=NOW)
    recovering, held = Hold.objects.order_by("-endpoint")
    assert (recovering.reopened_at, recovering.until) == (NOW, NOW + timedelta(minutes=10))
    assert (held.reopened_at, held.until) == (None, NOW + HOUR)
    assert Outage.objects.get().ended_at == NOW


def test_a_probe_that_was_not_made_is_given_back() -> None:
    hold(until=NOW + PROBE)
    hold(CHANNEL)
    recovering = hold(Endpoint("webhook a", "Webhook", "https://A/"), reopened_at=NOW)
    holds.write([Change(Learned.PROBE_UNUSED, HOST)], now=NOW)
    ends = {row.recipient_prefix: row.until for row in Hold.objects.all()}
    assert ends == {"https://a/": NOW, "": NOW + HOUR, "https://A/": recovering.until}


def test_what_a_sweep_learned_in_turn_is_written_in_turn() -> None:
    delivers = Change(Learned.DELIVERS, HOST)
    held = Change(Learned.HELD, HOST, DOWN, seconds=30.0, times=1)
    for changes, recovering in (([held, delivers], True), ([delivers, held], False)):
        holds.write(changes, now=NOW)
        assert (Hold.objects.get().reopened_at is not None) == recovering


def test_reopening_says_how_many_holds_it_ended_and_leaves_pauses_and_recoveries() -> None:
    hold()
    hold(CHANNEL, reason="paused")
    before = hold(Endpoint("email", "Email"), reopened_at=NOW - HOUR)
    assert holds.reopen(Q(), now=NOW) == 1
    assert holds.reopen(Q(), now=NOW) == 0
    assert list(Hold.objects.order_by("endpoint").values_list("reopened_at", "until")) == [
        (before.reopened_at, before.until),
        (None, NOW + HOUR),
        (NOW, NOW + timedelta(minutes=10)),
    ]


# Pauses


def pause(recipient: str = "", length: timedelta = HOUR, **options: Any) -> Hold:
    given = {"by": "ada", "limit": LIMIT, **options}
    return holds.pause("Webhook", recipient, length=length, **given)


def test_a_pause_says_what_it_covers_and_who_wanted_it() -> None:
    begin = database_now()
    paused = pause(why="they move \x00")
    assert (paused.endpoint, paused.channel, paused.recipient_prefix) == ("webhook paused", "Webhook", "")
    assert (paused.reason, paused.by, paused.exact, paused.times) == ("paused", "ada", False, 0)
    assert "\x00" not in paused.error
    assert paused.error.startswith("they move")
    assert begin <= paused.since <= database_now()
    assert paused.until == paused.since + HOUR
    assert Hold.objects.get() == paused
    assert pause("https://a/x").error == ""


@pytest.mark.parametrize("exact", [True, False])
def test_a_pause_of_a_recipient_is_found_again_by_its_name(exact: bool) -> None:
    """Which every version has to make alike, and that tells the recipient from those that begin with it."""
    paused = pause("https://a/x", exact=exact)
    digest = hashlib.sha256(f"{exact} https://a/x".encode()).hexdigest()[:12]
    assert paused.endpoint == f"webhook paused {digest}"
    assert (paused.recipient_prefix, paused.exact) == ("https://a/x", exact)


def test_the_longest_pause_and_the_longest_recipient() -> None:
    assert pause(length=LIMIT).until
    assert pause("x" * 255).recipient_prefix == "x" * 255
    with pytest.raises(ValueError, match=r"^a recipient is at most 255 characters long$"):
        pause("x" * 256)
    with pytest.raises(ValueError, match=r"^a pause is at most 4 h long \(HOLD_LIMIT\)"):
        pause(length=LIMIT + TICK)
    with pytest.raises(ValueError, match="a pause is at most"):
        pause(length=timedelta(0))


def test_pausing_again_moves_the_end_and_never_past_the_limit_from_the_start() -> None:
    first, other = pause(), pause("https://a/x")
    assert pause(length=2 * HOUR).until > first.until
    assert pause(length=HOUR / 2, by="bob", why="sooner").until < first.until
    Hold.objects.filter(pk=first.pk).update(since=first.since - 3 * HOUR)
    capped = pause(length=3 * HOUR)
    assert (capped.pk, capped.until) == (first.pk, first.since + HOUR)
    stored = Hold.objects.get(pk=first.pk)
    assert (stored.until, stored.by) == (capped.until, "ada")
    assert Hold.objects.get(pk=other.pk).until == other.until


def test_a_pause_that_is_over_is_not_prolonged_and_a_hold_is_left_alone() -> None:
    over = database_now() - TICK
    first = pause()
    Hold.objects.update(until=over, since=over - HOUR)
    found = hold(until=over)
    assert pause().since > over
    assert not Hold.objects.filter(since__lte=first.since - HOUR, reason="paused").exists()
    assert Hold.objects.filter(pk=found.pk).exists()


# Lifting


@pytest.mark.parametrize("fields", [{"reason": "paused"}, {"reopened_at": NOW}])
def test_a_pause_or_a_recovery_that_is_lifted_is_over(fields: dict[str, Any]) -> None:
    lifted, other = hold(**fields), hold(CHANNEL, **fields)
    assert holds.lift(lifted, by="ada") is True
    assert Hold.objects.get() == other
    assert holds.lift(lifted, by="ada") is False


def test_a_hold_that_is_lifted_has_its_probe_now() -> None:
    lifted, other = hold(until=database_now() + HOUR), hold(CHANNEL)
    begin = database_now()
    assert holds.lift(lifted, by="ada") is True
    lifted.refresh_from_db()
    assert begin <= lifted.until <= database_now()
    assert Hold.objects.get(pk=other.pk).until == NOW + HOUR


@pytest.mark.parametrize(
    ("seen", "meanwhile"),
    [
        ({}, {"reason": "paused"}),
        ({}, {"reopened_at": NOW}),
        ({"reason": "paused"}, {"reason": "auth"}),
        ({"reopened_at": NOW}, {"reopened_at": None}),
        ({"reopened_at": NOW}, {"reopened_at": NOW + HOUR}),
    ],
)
def test_what_became_another_since_it_was_looked_at_is_not_lifted(
    seen: dict[str, Any], meanwhile: dict[str, Any]
) -> None:
    looked_at = hold(**seen)
    Hold.objects.update(**meanwhile)
    assert holds.lift(looked_at, by="ada") is False
    assert Hold.objects.get().until == NOW + HOUR


# In words and numbers


def test_which_rows_in_words() -> None:
    whole, door, host = (
        Endpoint("a", "Slack"),
        Endpoint("b", "Webhook", "https://a/x", exact=True),
        Endpoint("c", "Webhook", "https://a/"),
    )
    assert [holds.scope(hold(e)) for e in (whole, door, host)] == [
        "Slack",
        "Webhook to https://a/x",
        "Webhook to https://a/…",
    ]


def test_how_many_wait_behind_a_hold() -> None:
    held = hold()
    for factory in (factories.pending, factories.failed, factories.pending):
        factory(recipient="https://a/x")
    factories.dead(recipient="https://a/x")
    factories.pending(recipient="https://b/x")
    assert [holds.waiting(held, most) for most in (1, 2, 3, 4)] == [2, 3, 3, 3]


# Outages


@pytest.mark.parametrize("endpoint", [HOST, CHANNEL, Endpoint("d", "Webhook", "https://a/x", exact=True)])
def test_an_endpoint_comes_back_as_it_was_written(endpoint: Endpoint) -> None:
    outages.note([Change(Learned.FAILS, endpoint, DOWN)], now=NOW)
    assert outages.endpoint_of(Outage.objects.get()) == endpoint


def test_an_outage_that_killed_nothing_leaves_no_trace_and_others_are_history() -> None:
    outage()
    killer, other = outage(CHANNEL, died=1), outage(Endpoint("email", "Email"))
    outages.end(Q(endpoint__in=[HOST.key, CHANNEL.key]), now=NOW)
    assert dict(Outage.objects.values_list("pk", "ended_at")) == {killer.pk: NOW, other.pk: None}
    outages.end(Q(endpoint=CHANNEL.key), now=NOW + HOUR)
    assert Outage.objects.get(pk=killer.pk).ended_at == NOW


def test_history_is_kept_for_ninety_days() -> None:
    kept = outage(since=NOW - 90 * DAY, died=1, ended_at=NOW - DAY)
    old = outage(since=NOW - 90 * DAY - TICK, died=1, ended_at=NOW - DAY)
    outages.end(Q(endpoint=CHANNEL.key), now=NOW)
    assert Outage.objects.count() == 2, "nothing ended"
    ended = outage(CHANNEL, died=1)
    outages.end(Q(endpoint=CHANNEL.key), now=NOW)
    assert set(Outage.objects.all()) == {kept, ended}
    assert not Outage.objects.filter(pk=old.pk).exists()


def test_a_failure_that_nothing_followed_is_forgotten_after_a_day() -> None:
    outage(since=NOW - DAY, failures=1)
    outage(CHANNEL, since=NOW - DAY - TICK)
    killer = outage(Endpoint("email", "Email"), since=NOW - 9 * DAY, died=1, failures=5)
    ended = outage(since=NOW - 9 * DAY, ended_at=NOW - DAY)
    assert sorted(outages.ongoing(now=NOW), key=lambda found: found[2]) == [
        (HOST, NOW - DAY, 1),
        (outages.endpoint_of(killer), NOW - 9 * DAY, 5),
    ]
    assert Outage.objects.filter(pk=ended.pk).exists()
    assert not Outage.objects.filter(endpoint=CHANNEL.key).exists()
