"""`run_notifications` as its users run it: a process of its own, beside other programs."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from notifications.database import database_now
from notifications.endpoints.lanes import START
from notifications.engine.listen import POLL_SECONDS, connection_parameters
from notifications.models import AttemptOutcome, DeliveryAttempt, NotificationEvent, Status, SweepRun, Worker
from tests import factories
from tests.factories import ago
from tests.processes import Launcher, Process, eventually
from tests.receiver import HELD, HttpReceiver, MailReceiver

# Sweeps that a clock starts, and no call or poll, would be an hour late.
NEVER = {
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL": "1h",
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": "1h",
}
PROMPT = 2.0  # seconds: a call takes milliseconds, a poll one second, a busy machine the rest
INSERT = """
    INSERT INTO notification_events
           (id, type, certificate_id, channel, recipient, message, sent_at, status, error)
    VALUES ({0}, 'ExpirationWarning', NULL, 'Webhook', {0}, 'it expires', NULL, 'pending', NULL)
"""
STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def launcher(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Launcher]:
    loopback = {"CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    launcher = Launcher(process_environment | NEVER | loopback, tmp_path)
    try:
        yield launcher
    finally:
        launcher.kill_all()
        print(launcher.transcript())


def start(launcher: Launcher, *arguments: str, **environment: str) -> Process:
    """A worker that has shown its first sign of life."""
    worker = launcher.start("run_notifications", *arguments, **environment)
    eventually(lambda: heartbeat(worker) or worker.code() is not None, "a heartbeat")
    assert worker.code() is None
    return worker


def heartbeat(worker: Process) -> Worker | None:
    return Worker.objects.filter(name=f"{socket.gethostname()}:{worker.pid}").first()


def insert_as_another_program(url: str) -> str:
    """As certctl does: no Django, no `notify`, one INSERT of nine columns."""
    pk = str(uuid4())
    if connection.vendor == "postgresql":
        with psycopg.connect(**connection_parameters()) as theirs:
            theirs.execute(INSERT.format("%s"), [pk, url])
        return pk
    path = unquote(str(connection.settings_dict["NAME"]))
    with sqlite3.connect(path, timeout=30) as ours:
        ours.execute(INSERT.format("?"), [pk, url])
    ours.close()
    return pk


def status_of(pk: str) -> str:
    return NotificationEvent.objects.values_list("status", flat=True).get(pk=pk)


def outcomes(pk: str) -> list[str]:
    attempts = DeliveryAttempt.objects.filter(notification=pk).order_by("pk")
    return list(attempts.values_list("outcome", flat=True))


def test_delivers_at_once_what_another_program_inserts(launcher: Launcher, receiver: HttpReceiver) -> None:
    start(launcher)
    delays = []
    for number in range(1, 6):
        since = time.monotonic()
        pk = insert_as_another_program(receiver.url())
        eventually(lambda number=number: len(receiver.ids) == number, "the alert at its endpoint")
        delays.append(time.monotonic() - since)
        eventually(lambda pk=pk: status_of(pk) == Status.SENT, "sent")
    assert min(delays[1:]) < PROMPT, delays
    assert max(Counter(receiver.ids).values()) == 1


def test_repeats_what_failed_at_the_retry_interval(launcher: Launcher, receiver: HttpReceiver) -> None:
    receiver.script(503, 503)
    start(
        launcher,
        CERTCTL_NOTIFICATION_RETRY_INTERVAL="1s",
        CERTCTL_NOTIFICATION_BACKOFF_BASE="100ms",
    )
    pk = insert_as_another_program(receiver.url())
    eventually(lambda: status_of(pk) == Status.SENT, "sent")
    assert outcomes(pk) == [AttemptOutcome.TRANSIENT, AttemptOutcome.TRANSIENT, AttemptOutcome.SENT]
    assert receiver.ids == [pk] * 3


def test_what_dies_goes_out_on_its_fallback_at_once(
    launcher: Launcher, receiver: HttpReceiver, mail_receiver: MailReceiver
) -> None:
    receiver.always(400)
    start(
        launcher,
        CERTCTL_NOTIFICATION_ESCALATION='{"Webhook": "Email:oncall@example.com"}',
        CERTCTL_SMTP_HOST="127.0.0.1",
        CERTCTL_SMTP_PORT=str(mail_receiver.port),
        CERTCTL_SMTP_USE_TLS="0",
        CERTCTL_SMTP_FROM_ADDRESS="certctl@example.com",
    )
    pk = insert_as_another_program(receiver.url())
    eventually(lambda: mail_receiver.mails, "the mail that takes its place", seconds=10 * PROMPT)
    [mail] = mail_receiver.mails
    assert mail.recipients == ["oncall@example.com"]
    text = mail.parsed.get_body(("plain",)).get_content()
    assert f"(notification {pk}): HTTP 400" in text
    assert "it expires" in text
    assert status_of(pk) == Status.DEAD


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_stop_ends_what_is_in_flight_and_gives_the_rest_back(
    stop: signal.Signals, launcher: Launcher, receiver: HttpReceiver
) -> None:
    receiver.always(HELD)
    rows = {factories.pending(recipient=receiver.url()).pk for _ in range(18)}
    worker = start(launcher)
    eventually(lambda: len(receiver.ids) == START, "as many in flight as an endpoint starts with")

    worker.send(stop)
    eventually(lambda: unleased(Status.PENDING) == len(rows) - START, "the others given back")
    assert worker.code() is None
    receiver.let_go()

    assert worker.wait() == 0
    assert unleased(Status.SENT) == len(receiver.ids) == len(set(receiver.ids)) == START
    assert unleased(Status.PENDING) == len(rows) - START
    assert not Worker.objects.exists()
    assert "Traceback" not in worker.said


def unleased(status: str) -> int:
    return NotificationEvent.objects.filter(status=status, leased_until=None).count()


def test_the_grace_period_ends_what_does_not_answer(launcher: Launcher, receiver: HttpReceiver) -> None:
    receiver.always(HELD)
    pk = factories.pending(recipient=receiver.url()).pk
    worker = start(launcher, "--grace", "1")
    receiver.wait_for(1)

    since = time.monotonic()
    assert worker.end() == 0
    assert time.monotonic() - since < 15  # the send timeout is 30 seconds
    assert (status_of(pk), outcomes(pk)) == (Status.FAILED, [AttemptOutcome.UNKNOWN])
    assert NotificationEvent.objects.stranded().count() == 0


def test_two_stops_are_no_more_than_one(launcher: Launcher, receiver: HttpReceiver) -> None:
    receiver.always(HELD)
    pk = factories.pending(recipient=receiver.url()).pk
    worker = start(launcher)
    receiver.wait_for(1)
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGINT)
    receiver.let_go()
    assert worker.wait() == 0
    assert (status_of(pk), outcomes(pk)) == (Status.SENT, [AttemptOutcome.SENT])


def test_a_hung_endpoint_delays_no_other(launcher: Launcher, receiver: HttpReceiver) -> None:
    receiver.always(HELD)
    for _ in range(200):
        factories.pending(recipient=receiver.url())
    worker = start(launcher)
    receiver.wait_for(START)
    with HttpReceiver() as healthy:
        delays = []
        for number in range(1, 4):
            since = time.monotonic()
            insert_as_another_program(healthy.url())
            eventually(lambda number=number: len(healthy.ids) == number, "the alert at the healthy endpoint")
            delays.append(time.monotonic() - since)
    assert min(delays) < PROMPT, delays
    assert len(receiver.ids) == START
    worker.kill()


def test_a_sweep_that_has_had_its_limit_while_something_hangs_goes_on(
    launcher: Launcher, receiver: HttpReceiver
) -> None:
    """It cannot end before what hangs does: that took the send timeout, and nothing else went out."""
    receiver.always(HELD)
    hung = factories.pending(recipient=receiver.url())
    worker = start(launcher, CERTCTL_NOTIFICATION_SWEEP_LIMIT="5")
    receiver.wait_for(1)
    with HttpReceiver() as healthy:
        for number in range(1, 13):
            insert_as_another_program(healthy.url())
            eventually(lambda number=number: len(healthy.ids) == number, "the alert at the healthy endpoint")
    assert outcomes(hung.pk) == [], "it has been waited for"
    worker.kill()


def test_tells_systemd_and_the_table_that_it_lives(launcher: Launcher, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(60)
        worker = launcher.start("run_notifications", NOTIFY_SOCKET=str(path))
        assert systemd.recv(100) == b"READY=1"
        first = heartbeat(worker)
        assert first is not None
        assert systemd.recv(100) == b"WATCHDOG=1"
        eventually(lambda: heartbeat(worker).seen_at > first.seen_at, "a later heartbeat")
        assert heartbeat(worker).started_at == first.started_at
        worker.send(signal.SIGTERM)
        while (told := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert told == b"STOPPING=1"
    assert worker.wait() == 0
    assert not Worker.objects.exists()


def test_readyz_and_the_dashboard_show_its_heartbeat(launcher: Launcher, admin_client: Client) -> None:
    url = reverse("admin:notifications_notificationevent_dashboard")
    assert admin_client.get("/readyz").json()["checks"]["workers"]["alive"] == 0
    worker = start(launcher)
    eventually(lambda: admin_client.get("/readyz").status_code == 200, "ready: a worker that has swept")
    assert admin_client.get("/readyz").json()["checks"]["workers"]["alive"] == 1
    assert f"<b>{heartbeat(worker).name}</b>: seen" in admin_client.get(url).content.decode()
    assert worker.end() == 0
    assert admin_client.get("/readyz").json()["checks"]["workers"] == {
        "ok": True,
        "alive": 0,
        "seconds_ago": None,
    }


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_logs_a_line_for_each_sweep_and_at_debug_for_each_attempt(
    level: str, launcher: Launcher, receiver: HttpReceiver
) -> None:
    pks = {factories.pending(recipient=receiver.url()).pk for _ in range(3)}
    worker = start(launcher, CERTCTL_LOG_FORMAT="json", CERTCTL_LOG_LEVEL=level)
    eventually(lambda: unleased(Status.SENT) == len(pks), "sent")
    assert worker.end() == 0
    lines = [json.loads(line) for line in worker.said.splitlines()]
    ours = [
        line for line in lines if line["name"] in ("notifications.engine.loop", "notifications.engine.sender")
    ]

    swept = [line for line in ours if line["levelname"] == "INFO"]
    assert sum(line["sent"] for line in swept) == len(pks)
    assert {line["kind"] for line in swept} == {"pending", "retry"}
    assert all(line["timestamp"] and line["message"].startswith(line["kind"]) for line in swept)

    attempts = [line for line in ours if line["levelname"] == "DEBUG"]
    assert {line["notification"] for line in attempts} == (pks if level == "DEBUG" else set())
    assert len(attempts) == (len(pks) if level == "DEBUG" else 0)
    for line in attempts:
        assert (line["channel"], line["attempt"], line["outcome"]) == ("Webhook", 1, AttemptOutcome.SENT)
        assert line["milliseconds"] >= 0


def test_an_idle_worker_writes_no_sweep_every_second(launcher: Launcher, receiver: HttpReceiver) -> None:
    """Where it has to look for new rows, looking is not sweeping."""
    worker = start(launcher)
    eventually(SweepRun.objects.count, "a first sweep")
    swept = SweepRun.objects.count()
    time.sleep(3 * POLL_SECONDS)
    assert SweepRun.objects.count() <= swept + 2  # the other kind's first, and a call for what came before
    assert worker.end() == 0


def test_a_database_that_is_away_at_the_start_is_one_line_and_code_1(launcher: Launcher) -> None:
    nowhere = {
        "postgresql": "postgresql://certctl@127.0.0.1:1/certctl",
        "sqlite": "sqlite:////nowhere/at/all.sqlite3",
    }
    worker = launcher.start("run_notifications", DATABASE_URL=nowhere[connection.vendor])
    assert worker.wait() == 1
    lines = [line for line in worker.said.splitlines() if "delivers; SIGTERM" not in line]
    assert len(lines) == 1
    assert "database" in lines[0]


def test_a_probe_says_whether_a_worker_of_this_host_lives(launcher: Launcher) -> None:
    def probe(**environment: str) -> int:
        return launcher.start("run_notifications", "--probe", **environment).wait()

    host = socket.gethostname()
    Worker.objects.create(name=f"not-{host}:1", started_at=database_now(), seen_at=database_now())
    assert probe() == 1, "another host's worker is not ours"
    worker = start(launcher)
    assert probe() == 0
    assert worker.end() == 0
    assert probe() == 1, "it has ended"
    Worker.objects.create(name=f"{host}:1", started_at=ago(hours=1), seen_at=ago(minutes=2))
    assert probe() == 1, "it hangs"
    nowhere = launcher.start(
        "run_notifications", "--probe", DATABASE_URL="postgresql://nobody:s3cret@127.0.0.1:1/x"
    )
    assert nowhere.wait() == 0, "that the database is away is no fault of the worker's"
    assert "not known" in nowhere.said
    assert "s3cret" not in nowhere.said
