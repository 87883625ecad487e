"""Escalations where workers really meet: processes that kill the same rows, certctl, a lost connection."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from notifications.deaths import follow as deaths
from notifications.engine.listen import connection_parameters
from notifications.models import Death, Escalation, NotificationEvent, Status
from notifications.queue.reap import bury
from tests import factories
from tests.breakage import execute, refused_rows
from tests.engine.support import at_once
from tests.fixtures import Configure
from tests.processes import ROOT, eventually
from tests.receiver import HttpReceiver
from tests.scripted import Script, channel

COUNT = 150
EVENTS = NotificationEvent.objects
FALLBACK = {
    "CERTCTL_NOTIFICATION_ESCALATION": '{"webhook": "Email:oncall@example.com"}',
    "CERTCTL_NOTIFICATION_DIGEST_TO": "Email:pki@example.com",
    "CERTCTL_SMTP_HOST": "127.0.0.1",
    "CERTCTL_SMTP_FROM_ADDRESS": "certctl@example.com",
    "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}
# Kills and requeues the same rows as fast as it can, as if five operators and a program fought over them.
FIGHT = """
import sys, django
django.setup()
from notifications.exceptions import TransitionRefused
from notifications.models import NotificationEvent
print("ready", flush=True)
sys.stdin.readline()
for turn in range(4):
    for event in NotificationEvent.objects.filter(channel="Webhook").order_by("pk"):
        try:
            event.mark_as_dead(f"killed in turn {turn}")
            event.requeue(by="op")
        except TransitionRefused:
            pass
"""


@pytest.fixture
def fallback(configure: Configure) -> None:
    channels = {name: channel(Script()) for name in ("Webhook", "Email")}
    configure(CHANNELS=channels, ESCALATION={"Webhook": "Email:oncall@example.com"})


def assert_each_escalated_once(dead: set[str]) -> None:
    assert Counter(Escalation.objects.values_list("notification_id", flat=True)) == dict.fromkeys(dead, 1)
    raised = EVENTS.filter(channel="Email")
    assert Counter(raised.values_list("dedup_key", flat=True)) == {f"escalation:{pk}": 1 for pk in dead}
    assert set(Escalation.objects.values_list("raised_id", flat=True)) == set(
        raised.values_list("pk", flat=True)
    )


def test_sweeps_in_three_processes_escalate_every_death_once(
    receiver: HttpReceiver, process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    """Rows that a worker left, rows without an attempt left, and rows that are refused."""
    receiver.always(400)
    url = receiver.url()
    dead = {factories.lost(recipient=url, retry_count=4).pk for _ in range(COUNT)}
    dead |= {factories.failed(recipient=url, retry_count=5).pk for _ in range(COUNT)}
    dead |= {factories.failed(recipient=url).pk for _ in range(COUNT)}
    command = [*certctl_command, "retry_notifications", "--json"]

    results = at_once([command] * 3, process_environment | FALLBACK)

    assert sum(result["dead"] for result in results) == len(dead)
    assert EVENTS.dead().count() == len(dead)
    assert_each_escalated_once(dead)
    assert sum(Death.objects.values_list("notifications", flat=True)) == len(dead)


def test_processes_that_kill_and_requeue_the_same_rows_escalate_each_once(
    process_environment: dict[str, str],
) -> None:
    rows = {factories.pending().pk for _ in range(15)}
    fighters = [
        subprocess.Popen(
            [sys.executable, "-c", FIGHT],
            env=process_environment | FALLBACK,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for fighter in fighters:
            assert fighter.stdout
            assert fighter.stdout.readline() == "ready\n"
        answers = at_the_same_moment(fighters)
    finally:
        for fighter in fighters:
            fighter.kill()
    assert [fighter.returncode for fighter in fighters] == [0, 0, 0], answers
    assert not any("was not escalated" in errors for _, errors in answers), answers
    assert_each_escalated_once(rows)


def at_the_same_moment(fighters: list[subprocess.Popen[str]]) -> list[tuple[str, str]]:
    for fighter in fighters:
        assert fighter.stdin
        fighter.stdin.write("go\n")
        fighter.stdin.flush()
    return [fighter.communicate(timeout=60) for fighter in fighters]


@pytest.mark.django_db(transaction=True)
def test_listeners_are_called_when_something_is_escalated(fallback: None) -> None:
    event = factories.failed()
    with psycopg.connect(**connection_parameters(), autocommit=True) as listener:
        listener.execute("LISTEN notification_events")
        event.mark_as_dead("refused")
        assert [call.channel for call in listener.notifies(timeout=10, stop_after=1)] == [
            "notification_events"
        ]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_breaks_meanwhile_is_an_error_and_no_silent_rollback(fallback: None) -> None:
    """Else the worker would take for recorded what is not."""
    event = factories.failed(retry_count=5)
    try:
        end = "PERFORM pg_terminate_backend(pg_backend_pid())"
        with refused_rows("NEW.dedup_key LIKE 'escalation:%'", end):
            with pytest.raises(DatabaseError):
                bury(EVENTS.all(), now=timezone.now(), max_attempts=5, limit=10)
            connection.close()
            event.refresh_from_db()
            assert event.status == Status.FAILED
            assert EVENTS.count() == 1
    finally:
        connection.close()


CERTIFICATES = """
    CREATE TABLE managed_certificates (id TEXT PRIMARY KEY);
    INSERT INTO managed_certificates VALUES ('mc-1'), ('mc-2');
    ALTER TABLE notification_events ADD CONSTRAINT certctls FOREIGN KEY (certificate_id)
        REFERENCES managed_certificates (id) ON DELETE CASCADE
"""


@pytest.fixture
def certificates(transactional_db: None) -> Iterator[None]:
    """The database as certctl made it: it deletes a certificate's notifications with the certificate."""
    execute(CERTIFICATES)
    yield
    EVENTS.all().delete()
    execute("DROP TABLE managed_certificates CASCADE")


def test_certctl_can_delete_a_certificate_while_its_notification_dies(
    certificates: None, fallback: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds the certificate and waits for the row; who raises another row waits for the certificate."""
    doomed = factories.failed(certificate_id="mc-1", retry_count=5)
    other = factories.failed(certificate_id="mc-2", retry_count=5)
    with psycopg.connect(**connection_parameters(), autocommit=True) as certctl:
        delete = threading.Thread(
            target=certctl.execute, args=["DELETE FROM managed_certificates WHERE id = 'mc-1'"]
        )
        with transaction.atomic():
            list(EVENTS.filter(pk=doomed.pk).select_for_update())
            delete.start()
            eventually(lambda: waits(certctl.info.backend_pid), "certctl at the row")
            dead = [event.pk for event in (doomed, other)]
            EVENTS.filter(pk__in=dead).update(status=Status.DEAD)
            deaths.follow(EVENTS.all(), dead)
        delete.join(30)
        assert not delete.is_alive()
    assert EVENTS.get(status=Status.DEAD).pk == other.pk
    assert_each_escalated_once({other.pk})
    [line] = [text for text in caplog.messages if "was not escalated" in text]
    assert doomed.pk in line
    assert "lock timeout" in line


def waits(backend: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [backend])
        answer: bool = cursor.fetchone()[0]
    return answer


def test_the_patience_for_locks_is_as_before_afterwards(fallback: None, transactional_db: None) -> None:
    event = factories.failed()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        event.mark_as_dead("refused")
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
