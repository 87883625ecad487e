"""What dies is raised on another channel: once for ever, in the same transaction, never in a circle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from notifications import delivery
from notifications.conf import current
from notifications.deaths import escalation
from notifications.engine import outcome as verdict
from notifications.exceptions import PermanentError, TransientError
from notifications.models import Escalation, NotificationEvent, Status
from notifications.queue.claim import claim
from notifications.queue.reap import bury
from notifications.queue.record import record
from tests import factories
from tests.breakage import refused_rows
from tests.factories import ago
from tests.fixtures import Configure
from tests.scripted import ACCEPTED, Script, channel

pytestmark = pytest.mark.django_db

REFUSED = PermanentError("HTTP 404: no such channel", status=404)
BUSY = TransientError("HTTP 503: busy", status=503)
EVENTS = NotificationEvent.objects


@pytest.fixture
def refused(configure: Configure) -> Script:
    """Slack, Email and PagerDuty, which refuse everything; Slack falls back to Email."""
    script = Script(otherwise=REFUSED)
    names = ("Slack", "Email", "PagerDuty")
    configure(
        CHANNELS={name: channel(script) for name in names},
        ESCALATION={"Slack": "email:oncall@example.com"},
        MISSING_NOTIFIER="dead",
    )
    return script


def raised_for(event: NotificationEvent) -> NotificationEvent:
    """The one that it was escalated to."""
    link = Escalation.objects.get(notification=event)
    found: NotificationEvent = EVENTS.get(pk=link.raised_id)
    assert found.dedup_key == f"escalation:{event.pk}"
    return found


def die(event: NotificationEvent) -> NotificationEvent:
    event.mark_as_dead("HTTP 404: no such channel")
    return event


# Every way to die


def refused_for_good(script: Script) -> NotificationEvent:
    event = factories.failed(channel="Slack")
    delivery.retry_failed()
    return event


def out_of_attempts(script: Script) -> NotificationEvent:
    script.otherwise = BUSY
    event = factories.failed(channel="Slack", retry_count=4)
    delivery.retry_failed()
    return event


def killed_its_last_worker(script: Script) -> NotificationEvent:
    event = factories.lost(channel="Slack", retry_count=4)
    delivery.retry_failed()
    return event


def budget_was_lowered(script: Script) -> NotificationEvent:
    event = factories.failed(channel="Slack", retry_count=3)
    delivery.retry_failed(max_attempts=3)
    return event


def by_its_own_verb(script: Script) -> NotificationEvent:
    return die(factories.failed(channel="Slack"))


def refused_in_a_batch(script: Script) -> NotificationEvent:
    event = factories.failed(channel="Slack")
    due = EVENTS.filter(pk=event.pk)
    claimed = claim(due, 1, now=timezone.now(), lease=timedelta(minutes=2))
    outcome = verdict.decide(claimed[0], REFUSED, current(), timezone.now(), 5)
    assert record([outcome], now=timezone.now(), worker="w").written == {event.pk}
    return event


WAYS = [
    refused_for_good,
    out_of_attempts,
    killed_its_last_worker,
    budget_was_lowered,
    by_its_own_verb,
    refused_in_a_batch,
]


@pytest.mark.parametrize("way", WAYS)
def test_whatever_dies_is_raised_on_the_fallback(
    way: Callable[[Script], NotificationEvent], refused: Script
) -> None:
    event = way(refused)
    event.refresh_from_db()
    raised = raised_for(event)
    assert event.status == Status.DEAD
    assert (raised.status, raised.retry_count, raised.next_retry_at) == (Status.PENDING, 0, None)
    assert (raised.channel, raised.recipient) == ("Email", "oncall@example.com")
    assert (raised.type, raised.certificate_id) == (event.type, event.certificate_id)
    why = (event.last_error or "").split(":")[0]
    for told in ("Slack", event.recipient, event.pk, why, event.message):
        assert told in raised.message
    assert EVENTS.count() == 2


def test_a_channel_without_a_notifier_is_escalated_where_its_rows_die(
    refused: Script, configure: Configure
) -> None:
    configure(ESCALATION={"Pager": "Email:oncall@example.com"})
    event = factories.failed(channel="pager", due_at=ago(minutes=10))
    delivery.retry_failed()
    assert "the channel pager has no notifier" in raised_for(event).message


@pytest.mark.parametrize("spelling", ["Slack", "slack", "SLACK"])
def test_case_does_not_matter(spelling: str, refused: Script) -> None:
    raised = raised_for(die(factories.failed(channel=spelling)))
    assert raised.channel == "Email"
    assert raised.message.startswith("Not delivered on Slack to ops@example.com (notification ")


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_raised_without_the_setting(
    way: Callable[[Script], NotificationEvent], refused: Script, configure: Configure
) -> None:
    configure(ESCALATION={})
    way(refused)
    assert EVENTS.count() == 1
    assert not Escalation.objects.exists()


def test_without_the_setting_a_death_asks_the_database_nothing(
    refused: Script, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "notifications.deaths")  # at ERROR it is named

    def asked(fallbacks: dict[str, str]) -> list[str]:
        configure(ESCALATION=fallbacks)
        factories.failed(channel="PagerDuty", retry_count=5)
        return statements(lambda: bury(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=9))

    bare, on_another_channel = asked({}), asked({"Slack": "Email:a"})
    of_rows = [sql for sql in bare if "SAVEPOINT" not in sql and "set_config" not in sql]
    assert len(of_rows) == 4  # look, hold, give an error, bury
    assert len(on_another_channel) > len(bare)


def statements(work: Callable[[], object]) -> list[str]:
    """What `work` says to the database."""
    seen: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        work()
    return seen


def test_a_channel_without_a_fallback_is_left_alone(refused: Script) -> None:
    die(factories.failed(channel="PagerDuty"))
    assert EVENTS.count() == 1


def test_only_what_died_is_escalated(refused: Script) -> None:
    """Of one batch some are delivered, some are tried again, some die."""
    events = [factories.failed(channel="Slack") for _ in range(3)]
    refused.answers = dict(zip([e.pk for e in events], (ACCEPTED, BUSY, REFUSED), strict=True))
    delivery.retry_failed()
    assert [link.notification_id for link in Escalation.objects.all()] == [events[2].pk]
    assert EVENTS.count() == 4


# Once for ever


def test_a_second_death_raises_no_second_one(refused: Script) -> None:
    event = die(factories.failed(channel="Slack"))
    for way in ("verb", "sweep"):
        event.requeue(by="op")
        if way == "verb":
            die(event)
        else:
            delivery.send_pending(channel="Slack")
        event.refresh_from_db()
        assert event.status == Status.DEAD
    assert Escalation.objects.count() == 1
    assert EVENTS.count() == 2


def test_not_even_when_what_was_raised_is_pruned(refused: Script, caplog: pytest.LogCaptureFixture) -> None:
    event = die(factories.failed(channel="Slack"))
    raised_for(event).delete()
    event.requeue(by="op")
    die(event)
    assert EVENTS.count() == 1
    assert "was not escalated" not in caplog.text, "only the table's constraint was in the way"


def test_not_even_when_the_links_are_lost(refused: Script, caplog: pytest.LogCaptureFixture) -> None:
    """As by migrating back and forward again: the dedup_key is a guard of its own."""
    event = die(factories.failed(channel="Slack"))
    Escalation.objects.all().delete()
    event.requeue(by="op")
    die(event)
    assert EVENTS.count() == 2
    assert "was not escalated" not in caplog.text, "only the table's constraint was in the way"


# Never in a circle


@pytest.mark.parametrize(
    ("fallbacks", "expected"),
    [
        ({"Slack": "Email:a", "Email": "Slack:b"}, ["Slack", "Email"]),
        ({"SLACK": "email:a", "EMAIL": "slack:b"}, ["Slack", "Email"]),
        ({"Slack": "Email:a", "Email": "PagerDuty:b"}, ["Slack", "Email", "PagerDuty"]),
        (
            {"Slack": "Email:a", "Email": "PagerDuty:b", "PagerDuty": "Slack:c"},
            ["Slack", "Email", "PagerDuty"],
        ),
        (
            {"Slack": "Email:a", "Email": "PagerDuty:b", "PagerDuty": "Email:c"},
            ["Slack", "Email", "PagerDuty"],
        ),
    ],
)
def test_the_chain_ends_where_it_was_before(
    fallbacks: dict[str, str], expected: list[str], refused: Script, configure: Configure
) -> None:
    configure(ESCALATION=fallbacks)
    factories.pending(channel="Slack")
    for _ in range(6):
        delivery.send_pending()
    assert list(EVENTS.order_by("created_at").values_list("channel", flat=True)) == expected
    assert EVENTS.dead().count() == len(expected)


def test_the_end_of_the_chain_is_in_the_log(
    refused: Script, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(ESCALATION={"Slack": "Email:a", "Email": "Slack:b"})
    raised = raised_for(die(factories.failed(channel="Slack")))
    die(raised)
    assert f"notification {raised.pk} died, and its alert has died on its fallback before" in caplog.text


def test_each_alert_has_a_chain_of_its_own(refused: Script, configure: Configure) -> None:
    """In one batch: an alert's first death on Email, and the death of one that came from Slack."""
    configure(ESCALATION={"Slack": "Email:a", "Email": "Slack:b"})
    second = raised_for(die(factories.failed(channel="Slack")))
    first = factories.pending(channel="Email")
    delivery.send_pending(channel="Email")
    assert raised_for(first).channel == "Slack"
    assert not Escalation.objects.filter(notification=second).exists()


@pytest.mark.parametrize(("back", "expected"), [("Slack", []), ("PagerDuty", ["PagerDuty"])])
def test_a_chain_whose_beginning_was_deleted_cannot_become_a_circle(
    back: str,
    expected: list[str],
    refused: Script,
    configure: Configure,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(ESCALATION={"Slack": "Email:a", "Email": f"{back}:b"})
    first = die(factories.failed(channel="Slack"))
    raised = raised_for(first)
    first.delete()
    die(raised)
    assert list(EVENTS.exclude(pk=raised.pk).values_list("channel", flat=True)) == expected
    assert "was not escalated" not in caplog.text


@pytest.mark.parametrize(
    ("fallbacks_then", "escalated"),
    [
        ({"Slack": "Email:a", "Email": "PagerDuty:b", "PagerDuty": "Slack:c"}, False),
        ({"PagerDuty": "Email:c"}, False),
        ({"PagerDuty": "Slack:c"}, True),
    ],
    ids=["back to what may have been its beginning", "back to what is known", "onward"],
)
def test_a_long_chain_whose_beginning_was_deleted(
    fallbacks_then: dict[str, str], escalated: bool, refused: Script, configure: Configure
) -> None:
    configure(ESCALATION={"Slack": "Email:a", "Email": "PagerDuty:b"})
    first = die(factories.failed(channel="Slack"))
    second = raised_for(first)
    third = raised_for(die(second))
    first.delete()
    configure(ESCALATION=fallbacks_then)
    die(third)
    assert Escalation.objects.filter(notification=third).exists() == escalated


def test_a_chain_is_followed_to_its_beginning(refused: Script, configure: Configure) -> None:
    """By what is on record: the settings have changed since."""
    configure(ESCALATION={"Slack": "Email:a", "Email": "PagerDuty:b"})
    third = raised_for(die(raised_for(die(factories.failed(channel="Slack")))))
    configure(ESCALATION={"PagerDuty": "Slack:c"})
    die(third)
    assert not Escalation.objects.filter(notification=third).exists()


NAMES = ("Slack", "Email", "PagerDuty", "Teams")


@given(
    fallbacks=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(NAMES)),
    starts=st.lists(st.sampled_from([*NAMES, "slack", "EMAIL"]), min_size=1, max_size=4),
    requeued=st.lists(st.integers(0, 20), max_size=6),
)
@examples(deadline=None, derandomize=True, max_examples=60, suppress_health_check=list(HealthCheck))
def test_whatever_the_settings_each_alert_visits_a_channel_once(
    fallbacks: dict[str, str], starts: list[str], requeued: list[int]
) -> None:
    """In a world where everything dies, and operators requeue some of it again and again."""
    EVENTS.all().delete()
    fallback = {name: f"{to.upper()}:x" for name, to in fallbacks.items() if name != to}
    channels = {name: channel(Script(otherwise=REFUSED)) for name in NAMES}
    with override_settings(NOTIFICATIONS={"CHANNELS": channels, "ESCALATION": fallback}):
        first = [factories.pending(channel=name).pk for name in starts]
        settle()
        for which in requeued:
            dead = list(EVENTS.dead().order_by("pk"))
            dead[which % len(dead)].requeue(by="op")
            settle()
    passed = {link.notification_id: link.raised_id for link in Escalation.objects.all()}
    on = {event.pk: event.channel.casefold() for event in EVENTS.all()}
    chains = [chain(pk, passed) for pk in first]
    assert sorted(pk for line in chains for pk in line) == sorted(on)
    for line in chains:
        visited = [on[pk] for pk in line]
        assert len(set(visited)) == len(visited)
        onward = {name.casefold(): to.casefold() for name, to in fallbacks.items() if name != to}
        assert onward.get(visited[-1]) in [None, *visited], "the chain ended too early"


def settle() -> None:
    """Sweep until all is dead."""
    while EVENTS.exclude(status=Status.DEAD).exists():
        delivery.send_pending()


def chain(pk: str, passed: dict[str, str]) -> list[str]:
    return [pk, *(chain(passed[pk], passed) if pk in passed else [])]


# The record comes first


@pytest.mark.parametrize("way", WAYS)
def test_an_escalation_that_cannot_be_raised_is_logged_and_the_death_recorded(
    way: Callable[[Script], NotificationEvent], refused: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with refused_rows("NEW.dedup_key LIKE 'escalation:%'"):
        event = way(refused)
    event.refresh_from_db()
    assert event.status == Status.DEAD
    assert EVENTS.count() == 1
    assert not Escalation.objects.exists()
    [line] = [r.message for r in caplog.records if "was not escalated" in r.message]
    assert event.pk in line
    assert "full" in line


def test_one_that_cannot_be_raised_takes_no_other_with_it(
    refused: Script, caplog: pytest.LogCaptureFixture
) -> None:
    events = [factories.failed(channel="Slack", message=text) for text in ("a", "poison", "c")]
    with refused_rows("NEW.message LIKE '%poison'"):
        delivery.retry_failed()
    assert EVENTS.dead().count() == 3
    assert {link.notification_id for link in Escalation.objects.all()} == {events[0].pk, events[2].pk}
    assert [r.message for r in caplog.records if "was not escalated" in r.message] == [
        line for line in caplog.messages if events[1].pk in line and "was not escalated" in line
    ]


def test_bad_settings_do_not_keep_a_death_from_being_recorded(
    refused: Script, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(ESCALATION={"Slack": "Nowhere:x"})
    event = die(factories.failed(channel="Slack"))
    assert event.status == Status.DEAD
    assert event.pk in caplog.text
    assert "'Nowhere', which is not configured" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_raises_nothing(refused: Script) -> None:
    event = factories.failed(channel="Slack")
    with transaction.atomic():
        die(event)
        assert Escalation.objects.count() == 1
        transaction.set_rollback(True)
    assert EVENTS.get().status == Status.FAILED
    assert not Escalation.objects.exists()


# What it says


SECRETS = [
    (
        {"recipient": "https://hooks.example.com/services/T0/hunter2?key=hunter2"},
        "https://hooks.example.com/…",
    ),
    ({"recipient": "HTTPS://u:hunter2@hooks.example.com/x"}, "HTTPS://hooks.example.com/…"),
    ({"recipient": "http://hooks.example.com/x/hunter2"}, "http://hooks.example.com/…"),
    ({"recipient": "slack://hunter2/hunter2"}, "slack://…"),
    ({"recipient": "https://[hunter2"}, "https://…"),
    ({"last_error": 'Post "https://hooks.example.com/T/hunter2": dial tcp: i/o timeout'}, ": dial tcp"),
    ({"last_error": "refused: key hunter2-of-ours is revoked"}, "[redacted] is revoked"),
]


@pytest.mark.parametrize(("fields", "shown"), SECRETS)
def test_it_says_where_to_and_why_without_secrets(
    fields: dict[str, str], shown: str, refused: Script, configure: Configure
) -> None:
    slack = {**channel(refused), "API_KEY": "hunter2-of-ours"}
    configure(CHANNELS={"Slack": slack, "Email": channel(refused)})
    event = factories.failed(channel="Slack", retry_count=5, **fields)
    bury(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=10)
    message = raised_for(event).message
    assert "hunter2" not in message
    assert shown in message


@pytest.mark.parametrize(
    ("last_error", "error", "shown"),
    [
        ("HTTP 503", "HTTP 500", "HTTP 503"),
        (None, "HTTP 500", "HTTP 500"),
        (None, None, "no error is on record"),
        ("x" * 400, None, "x" * 300),
    ],
)
def test_the_cause_is_the_newest_error_on_record(
    last_error: str | None, error: str | None, shown: str, refused: Script
) -> None:
    event = NotificationEvent(channel="Slack", last_error=last_error, error=error)
    said = escalation.cause(event, current())
    assert said[:200] == shown[:200]
    assert len(said) == len(shown)


def test_a_long_error_leaves_room_for_the_alert(refused: Script) -> None:
    event = factories.failed(channel="Slack", message="it expires\ntomorrow")
    event.mark_as_dead("x\n\x1b[2J" * 5000)
    head, text = raised_for(event).message.split("\n\n")
    assert text == "it expires\ntomorrow"
    assert len(head) < 500
    assert head.isprintable()


def test_two_hundred_deaths_cost_hardly_more_statements_than_one(refused: Script) -> None:
    def buried(count: int) -> int:
        for _ in range(count):
            factories.failed(channel="Slack", retry_count=5)
        return len(statements(lambda: bury(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=200)))

    one, many = buried(1), buried(200)
    assert Escalation.objects.count() == 201
    assert many <= one + 5  # SQLite takes an INSERT of many values in parts
