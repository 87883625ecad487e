"""PostgreSQL's plans for the engine's own statements, in a table where little is due among much."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from notifications.conf import Conf
from notifications.delivery import due
from notifications.engine.source import DueRows, Scope
from notifications.engine.sweep import Options
from notifications.models import NotificationEvent, SweepKind
from notifications.notifiers.base import Endpoint
from notifications.notifiers.endpoint import going_to
from notifications.queue import beside
from notifications.queue.beside import Terms
from notifications.queue.claim import Claimed
from notifications.queue.claim import claim as claim_from
from notifications.queue.opened import told
from notifications.queue.reap import bury, reap, schedule_stranded
from notifications.queue.record import Outcome, record
from notifications.queue.release import release

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(minutes=2)
KEY = "notification_events_pkey"
RETRIES = "idx_notification_events_retry_sweep"
BESIDE = {"uniq_notification_deadlines_event"}  # asked for the rows that were taken
SMALL = {"idx_notification_refusals_notification"}  # of a table that is read from end to end as well

# 200,000 rows that no sweep wants: finished ones, retries to come and rows in other workers' hands;
# then a thousand each that are due, pending, or left behind by a worker that died.
CROWD = """
    INSERT INTO notification_events
      (id, type, certificate_id, channel, recipient, message, status,
       retry_count, next_retry_at, leased_until, created_at)
    SELECT 'crowd-' || n, 'ExpirationWarning', 'mc-' || mod(n, 500), 'Webhook', 'https://example.com/', 'm',
           status, 0,
           CASE status WHEN 'failed' THEN %(now)s + n * INTERVAL '1 second' END,
           CASE WHEN mod(n, 100) = 0 AND status IN ('pending', 'failed')
                THEN %(now)s + n * INTERVAL '1 millisecond' END,
           %(now)s - n * INTERVAL '1 minute'
      FROM generate_series(1, 200000) AS n,
           LATERAL (SELECT CASE WHEN mod(n, 100) = 0 THEN (ARRAY['pending', 'failed'])[1 + mod(n / 100, 2)]
                                WHEN mod(n, 40) = 1 THEN 'failed'
                                ELSE (ARRAY['sent', 'read', 'dead'])[1 + mod(n, 3)] END AS status) AS s;
    INSERT INTO notification_events
      (id, type, channel, recipient, message, status, retry_count, next_retry_at, leased_until, created_at)
    SELECT kind || '-' || n, 'Revocation', 'Webhook', 'https://example.com/', 'm',
           CASE kind WHEN 'pending' THEN 'pending' ELSE 'failed' END, 1,
           CASE kind WHEN 'pending' THEN NULL ELSE %(now)s - n * INTERVAL '1 second' END,
           CASE kind WHEN 'lost' THEN %(now)s - n * INTERVAL '1 second' END,
           %(now)s - n * INTERVAL '1 hour'
      FROM generate_series(1, 1000) AS n, unnest(ARRAY['due', 'pending', 'lost']) AS kind;
    ANALYZE notification_events;
"""


STRANDED = """
    INSERT INTO notification_events (id, type, channel, recipient, message, status, created_at)
    SELECT 'stranded-' || n, 'Revocation', 'Webhook', 'https://example.com/', 'm', 'failed',
           %(now)s - INTERVAL '1 year' - n * INTERVAL '1 hour'
      FROM generate_series(1, 20000) AS n;
    ANALYZE notification_events;
"""


class Statement(NamedTuple):
    sql: str
    params: Any


class Plan(NamedTuple):
    """indexes: those that are read; scanned: whether the table is read from end to end somewhere."""

    indexes: set[str]
    scanned: bool = False


@pytest.fixture(scope="module")
def crowd(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            cursor.execute(CROWD, {"now": NOW})
        yield
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE notification_events CASCADE")


pytestmark = [pytest.mark.usefixtures("crowd"), pytest.mark.django_db]


def issued(work: Callable[[], object]) -> list[Statement]:
    """The statements on notification_events that `work` really sends to the database."""
    seen: list[Statement] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "notification_events" in sql:
            seen.append(Statement(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        work()
    return seen


def plan(statements: list[Statement]) -> Plan:
    """How PostgreSQL would run all of them."""
    nodes = [node for statement in statements for node in below(explain(statement))]
    return Plan(
        {node["Index Name"] for node in nodes if "Index Name" in node} - BESIDE,
        any(n["Node Type"] == "Seq Scan" and n["Relation Name"] == "notification_events" for n in nodes),
    )


def explain(statement: Statement) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.params)
        [(answer,)] = cursor.fetchall()
    root: dict[str, Any] = (answer if isinstance(answer, list) else json.loads(answer))[0]["Plan"]
    return root


def below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from below(child)


def claim(kind: str, count: int, *closed: Endpoint) -> list[Claimed]:
    eligible = due(kind, NotificationEvent.objects.all(), NOW, 5).exclude(going_to(closed))
    return claim_from(eligible, count, now=NOW, lease=LEASE)


def held(host: str) -> Endpoint:
    return Endpoint(f"webhook {host}", "Webhook", f"https://{host}/")


KINDS = [
    (SweepKind.RETRY, "idx_notification_events_retry_sweep"),
    (SweepKind.PENDING, "idx_notification_events_due"),
]


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize(("kind", "index"), KINDS)
def test_a_claim_reads_its_own_index_and_takes_rows_by_their_key(kind: str, index: str, count: int) -> None:
    statements = issued(lambda: claim(kind, count))
    assert plan(statements) == Plan({index, KEY})


@pytest.mark.parametrize(("kind", "index"), KINDS)
def test_a_claim_around_held_endpoints_does_too(kind: str, index: str) -> None:
    statements = issued(lambda: claim(kind, 200, held("down.example.com"), held("slow.example.com")))
    assert plan(statements) == Plan({index, KEY})


@pytest.mark.parametrize(("kind", "index"), KINDS)
def test_a_claim_that_leaves_unknown_channels_to_others_does_too(kind: str, index: str) -> None:
    here = Conf(channels={"Webhook": {}, "Email": {}})
    source = DueRows(kind, here, Options(limit=200))
    statements = issued(lambda: source.claim(200, Scope(outside=frozenset()), NOW))
    found = plan(statements)
    assert {index, KEY} <= found.indexes
    assert not found.scanned


ENDING = """
    INSERT INTO notification_deadlines (notification_id, not_after, fingerprints, waiting)
    SELECT id, %(now)s + INTERVAL '1 hour', '[]', id = 'pending-7'
      FROM notification_events WHERE id LIKE 'crowd-%%' OR id = 'pending-7';
    ANALYZE notification_deadlines
"""


def test_what_is_urgent_is_found_by_its_index_among_all_that_is_not() -> None:
    """However many rows wait, and however many deadlines are over."""
    with connection.cursor() as cursor:
        cursor.execute(ENDING, {"now": NOW})
    source = DueRows(SweepKind.PENDING, Conf(channels={"Webhook": {}}), Options(limit=200))
    statements = issued(lambda: source._claim_urgent(200, Scope(frozenset()), NOW))
    found = plan(statements)
    assert {"idx_notification_deadlines_waiting", KEY} <= found.indexes
    assert not found.scanned
    assert not {"idx_notification_events_due"} & found.indexes


def test_a_claim_that_leaves_fresh_ones_to_certctl_does_too() -> None:
    source = DueRows(SweepKind.PENDING, Conf(channels={"Webhook": {}}), Options(limit=200))
    source.terms = Terms(beside.RESCUE, timedelta(minutes=5), NOW)
    statements = issued(lambda: source.claim(200, Scope(outside=frozenset()), NOW))
    found = plan(statements)
    assert {"idx_notification_events_due", KEY} <= found.indexes
    assert not found.scanned


def test_what_certctl_left_failed_is_found_by_an_index_of_its_own() -> None:
    """However many it left there in the years before."""
    with connection.cursor() as cursor:
        cursor.execute(STRANDED, {"now": NOW})
    terms = Terms(beside.RESCUE, timedelta(minutes=5), NOW)
    rows = NotificationEvent.objects.all()
    [left] = terms.left_failed(rows, NOW, unscheduled=False, probably_delivered=False)
    statements = issued(lambda: schedule_stranded(left, now=NOW, limit=1000))
    assert "idx_notification_events_unscheduled" in plan(statements[:1]).indexes
    assert not plan(statements).scanned


def test_what_was_not_delivered_is_found_by_an_index_of_its_own() -> None:
    rows = NotificationEvent.objects.order_by()
    found = plan(issued(lambda: rows.not_delivered(among=10_000).count()))
    assert "idx_notification_events_not_delivered" in found.indexes
    assert not found.scanned


@pytest.mark.parametrize(("kind", "prefix"), [(SweepKind.RETRY, "due"), (SweepKind.PENDING, "pending")])
def test_a_claim_finds_what_is_due_in_the_crowd_oldest_first(kind: str, prefix: str) -> None:
    assert [event.id for event in claim(kind, 200)] == [f"{prefix}-{n}" for n in range(1000, 800, -1)]
    assert [event.id for event in claim(kind, 5000)] == [f"{prefix}-{n}" for n in range(800, 0, -1)]


def test_ending_lost_leases_reads_the_index_of_leases() -> None:
    everything = NotificationEvent.objects.all()
    statements = issued(lambda: reap(everything, now=NOW, max_attempts=5, limit=1000))
    assert plan(statements[:3]).indexes - SMALL == {"idx_notification_events_leased", RETRIES}
    assert not plan(statements).scanned


def test_burying_spent_rows_reads_the_index_of_retries() -> None:
    everything = NotificationEvent.objects.all()
    statements = issued(lambda: bury(everything, now=NOW, max_attempts=1, limit=1000))
    assert plan(statements[:1]).indexes - SMALL == {RETRIES}
    assert not plan(statements).scanned


@pytest.mark.parametrize("count", [1, 200])
def test_recording_finds_rows_by_their_key(count: int) -> None:
    """Not by their leases: all rows of one claim have the same."""
    outcomes = [
        Outcome(event=event, channel="Webhook", status="sent", kind="sent", started_at=NOW, duration=5)
        for event in claim(SweepKind.RETRY, count)
    ]
    statements = issued(lambda: record(outcomes, now=NOW, worker="w"))
    updates = [statement for statement in statements if "UPDATE notification_events" in statement.sql]
    assert plan(updates) == Plan({KEY})


def test_releasing_does_not_scan_the_table() -> None:
    events = claim(SweepKind.RETRY, 200)
    statements = issued(lambda: release(events, due_at=NOW))
    assert statements
    assert not plan(statements).scanned


def test_what_a_success_ends_is_found_by_an_index() -> None:
    [event] = claim(SweepKind.PENDING, 1)
    claimed = [event._replace(type="RenewalSuccess", channel="PagerDuty", certificate_id="mc-7")]
    statements = issued(lambda: told(claimed, {"pagerduty"}))
    assert len(statements) == 1
    found = plan(statements)
    assert found.indexes <= {"idx_notification_events_certificate_id", "idx_notification_events_type"}
    assert not found.scanned
