"""What certctl knows of its certificates: read only, and its absence or another shape is no error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from notifications import delivery
from notifications.engine.listen import connection_parameters
from notifications.models import Deadline, NotificationEvent, certctl
from notifications.reporting import words
from tests.breakage import execute
from tests.factories import ago, ahead, dead, failed, pending
from tests.fixtures import Configure
from tests.notifiers.support import PAGERDUTY
from tests.receiver import Answer, HttpReceiver
from tests.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = NotificationEvent.objects
TABLES = """
    CREATE TABLE managed_certificates (
        id TEXT PRIMARY KEY, expires_at TIMESTAMPTZ, last_renewal_at TIMESTAMPTZ
    );
    CREATE TABLE certificate_versions (certificate_id TEXT, serial_number TEXT, created_at TIMESTAMPTZ)
"""


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    yield
    execute("DROP TABLE IF EXISTS managed_certificates, certificate_versions")


def theirs(pk: str, expires_at: datetime, renewed_at: datetime | None = None, serial: str = "") -> None:
    if not certctl.is_here():
        execute(TABLES)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM managed_certificates WHERE id = %s", [pk])
        cursor.execute("INSERT INTO managed_certificates VALUES (%s, %s, %s)", [pk, expires_at, renewed_at])
        if serial:
            cursor.execute("INSERT INTO certificate_versions VALUES (%s, %s, now())", [pk, serial])


def of_certctl(make: Any = pending, **fields: Any) -> NotificationEvent:
    """As certctl inserts it, an hour ago."""
    values = {"certificate_id": "mc-1", "created_at": ago(hours=1), "ours": None}
    event: NotificationEvent = make(**{**values, **fields})
    return event


def test_an_alert_knows_the_end_that_certctl_knows_and_passes_backlogs(script: Script) -> None:
    theirs("mc-1", ahead(hours=3, minutes=9))
    backlog = [pending(created_at=ago(hours=5), certificate_id=None) for _ in range(5)]
    event = of_certctl()
    delivery.send_pending(concurrency=1)
    assert script.ids[0] == event.pk
    assert len(script.ids) == 1 + len(backlog)
    found = EVENTS.get(pk=event.pk)
    assert words.ends(found, ago()) == "expires in 3 h"
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM managed_certificates")
        assert cursor.fetchone() == (1,)


def test_one_that_ends_later_is_known_when_it_is_claimed(script: Script) -> None:
    theirs("mc-1", ahead(days=9))
    event = of_certctl()
    assert delivery.send_pending().sent == 1
    assert words.ends(EVENTS.get(pk=event.pk), ago()) in ("expires in 8 days", "expires in 9 days")


@pytest.mark.parametrize("known_before", [True, False])
def test_what_was_renewed_since_is_withdrawn(known_before: bool, script: Script) -> None:
    """By a later end than the alert's; or, where that was never seen, by the renewal after it."""
    theirs("mc-1", ahead(hours=3))
    event = of_certctl()
    if known_before:
        Deadline.objects.create(notification=event, not_after=ahead(hours=3))
    theirs("mc-1", ahead(days=90), renewed_at=ago(minutes=10), serial="a1b2")
    assert delivery.send_pending().withdrawn == 1
    assert not script.ids
    reason = EVENTS.get(pk=event.pk).withdrawals.get().reason
    assert reason.startswith("renewed: serial a1b2, valid until ")


@pytest.mark.parametrize(
    "renewed_at",
    [None, timedelta(hours=2)],
    ids=["never renewed", "renewed before the alert"],
)
def test_what_is_not_certain_is_sent(renewed_at: timedelta | None, script: Script) -> None:
    theirs("mc-1", ahead(days=90), renewed_at=ago() - renewed_at if renewed_at else None)
    event, other = of_certctl(), of_certctl(certificate_id="mc-unknown")
    assert delivery.send_pending().sent == 2
    assert set(script.ids) == {event.pk, other.pk}


@pytest.mark.parametrize("told", ["%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M+00:00", "%Y-%m-%dT00:00+00:00"])
def test_an_end_that_is_told_less_exactly_is_no_renewal(
    told: str, receiver: HttpReceiver, configure: Configure
) -> None:
    """To the second, to the minute, as a date: it is sent, it is not solved, and what died stays dead."""
    receiver.always(Answer(202, body=PAGERDUTY.body))
    configure(CHANNELS={"PagerDuty": PAGERDUTY.options(receiver.url(""))})
    ends = ahead(days=9).replace(hour=23, second=35, microsecond=400_000)
    theirs("mc-1", ends, renewed_at=ago(days=80))
    not_after = datetime.fromisoformat(ends.strftime(told))
    alert = {"type": "ExpirationWarning", "channel": "PagerDuty", "recipient": "pki", "message": "m"}
    EVENTS.notify(**alert, certificate_id="mc-1", not_after=not_after)
    died = of_certctl(dead, channel="PagerDuty")
    Deadline.objects.create(notification=died, not_after=not_after)
    for _ in range(2):
        delivery.send_pending()
        delivery.retry_failed()
    assert [request.json["event_action"] for request in receiver.requests] == ["trigger"]
    assert words.kind(EVENTS.get(pk=died.pk)) == "dead"


def test_what_is_renewed_for_hours_only_is_known_by_the_renewal_itself(script: Script) -> None:
    theirs("mc-1", ahead(hours=9))
    EVENTS.notify(
        type="ExpirationWarning",
        channel="Webhook",
        recipient="ops@example.com",
        message="m",
        certificate_id="mc-1",
        not_after=ahead(hours=3),
    )
    theirs("mc-1", ahead(hours=9), renewed_at=ahead())
    assert delivery.send_pending().withdrawn == 1


def test_what_was_delivered_is_resolved_once(receiver: HttpReceiver, configure: Configure) -> None:
    receiver.always(Answer(202, body=PAGERDUTY.body))
    configure(CHANNELS={"PagerDuty": PAGERDUTY.options(receiver.url(""))})
    theirs("mc-1", ahead(days=9))
    event = of_certctl(channel="PagerDuty")
    delivery.send_pending()
    died = of_certctl(dead, channel="PagerDuty")
    Deadline.objects.create(notification=died, not_after=ahead(days=9))
    theirs("mc-1", ahead(days=90), renewed_at=ago(), serial="a1b2")
    for _ in range(3):
        delivery.retry_failed()
        delivery.send_pending()
    keys = [(r.json["event_action"], r.json["dedup_key"]) for r in receiver.requests]
    assert keys == [("trigger", event.pk), ("resolve", event.pk)]
    assert words.kind(EVENTS.get(pk=died.pk)) == "withdrawn"


@pytest.mark.parametrize(
    "shape",
    [
        "CREATE TABLE managed_certificates (id TEXT PRIMARY KEY)",
        "CREATE TABLE managed_certificates (id INTEGER, expires_at TIMESTAMPTZ, last_renewal_at TIMESTAMPTZ)",
        "CREATE TABLE managed_certificates (id TEXT, expires_at TEXT, last_renewal_at TEXT);"
        "INSERT INTO managed_certificates VALUES ('mc-1', 'soon', 'never')",
        "CREATE TABLE managed_certificates"
        " (id TEXT, expires_at TIMESTAMPTZ, last_renewal_at TIMESTAMPTZ);"
        "INSERT INTO managed_certificates VALUES ('mc-1', 'infinity', '-infinity'), ('mc-1', NULL, NULL)",
        "CREATE VIEW managed_certificates AS"
        " SELECT 'mc-1' AS id, 1 / (random() * 0)::int AS expires_at, now() AS last_renewal_at",
    ],
)
def test_another_shape_is_no_error(shape: str, script: Script) -> None:
    for statement in shape.split(";"):
        execute(statement)
    try:
        event = of_certctl()
        assert delivery.send_pending().sent == 1
        assert script.ids == [event.pk]
        of_certctl(failed)
        assert delivery.retry_failed().sent == 1
        assert not Deadline.objects.exists()
    finally:
        execute("DROP VIEW IF EXISTS managed_certificates" if "VIEW" in shape else "SELECT 1")


def test_a_lock_on_its_table_keeps_nobody_waiting(script: Script) -> None:
    """Somebody migrates it: the alerts go out meanwhile."""
    theirs("mc-1", ahead(hours=3))
    event = of_certctl()
    done = threading.Event()
    with psycopg.connect(**connection_parameters()) as other:
        other.execute("LOCK TABLE managed_certificates IN ACCESS EXCLUSIVE MODE")
        sweep = threading.Thread(target=lambda: (delivery.send_pending(), connection.close(), done.set()))
        sweep.start()
        assert done.wait(60)
        other.rollback()
    sweep.join()
    assert script.ids == [event.pk]
