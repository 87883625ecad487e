"""`run_notifications` looks at certificates beside delivering, and neither waits for the other."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from notifications.certificates.apps import CertificatesConfig
from notifications.certificates.models import Raised, Watch
from notifications.delivery import run_worker
from notifications.models import NotificationEvent, Status, Worker
from tests import factories
from tests.certificates.authority import Authority
from tests.certificates.servers import Servers
from tests.certificates.support import watch
from tests.processes import Launcher, eventually
from tests.receiver import HttpReceiver

CA = Authority()
DAY = timedelta(days=1)


@pytest.fixture
def launcher(process_environment: dict[str, str], tmp_path: Path) -> Iterator[Launcher]:
    loopback = {"CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    launcher = Launcher(process_environment | loopback, tmp_path)
    try:
        yield launcher
    finally:
        launcher.kill_all()
        print(launcher.transcript())


def test_an_alert_is_raised_and_arrives(
    launcher: Launcher, servers: Servers, receiver: HttpReceiver, tmp_path: Path
) -> None:
    port = servers.tls(CA.issue("www.example.com", since=timezone.now() - 89 * DAY).context(tmp_path))
    one = watch(f"www.example.com@127.0.0.1:{port}", notify=[f"Webhook:{receiver.url()}"])
    worker = launcher.start("run_notifications")
    eventually(lambda: NotificationEvent.objects.filter(status=Status.SENT).exists(), "a delivery")
    assert Raised.objects.get(certificate__names=["www.example.com"], what="ends:5%").channel == "Webhook"
    one.refresh_from_db()
    assert timedelta(0) < one.next_check_at - timezone.now() < timedelta(minutes=20)
    assert worker.end() == 0


def test_servers_that_hang_delay_no_delivery_and_no_end(
    launcher: Launcher, servers: Servers, receiver: HttpReceiver
) -> None:
    port = servers.saying(b"", ends=False)
    for n in range(200):
        watch(f"host-{n}.example.com@127.0.0.1:{port}")
    before = servers.connections
    worker = launcher.start("run_notifications")
    eventually(lambda: servers.connections >= before + 20, "servers that are asked")
    event = factories.pending(recipient=receiver.url())
    eventually(lambda: NotificationEvent.objects.get(pk=event.pk).status == Status.SENT, "a delivery")
    assert not Watch.objects.exclude(checked_at=None).exists()  # nothing of the round has ended yet
    assert worker.end(signal.SIGTERM, 20) == 0
    due = Watch.objects.filter(next_check_at__lte=timezone.now()).count()
    assert due == 200  # given back


def test_of_two_workers_one_looks_at_each(launcher: Launcher, servers: Servers, tmp_path: Path) -> None:
    port = servers.tls(CA.issue("www.example.com", since=timezone.now()).context(tmp_path))
    for n in range(60):
        watch(f"host-{n}.example.com@127.0.0.1:{port}")
    before = servers.connections
    workers = [launcher.start("run_notifications") for _ in range(2)]
    eventually(lambda: not Watch.objects.filter(checked_at=None).exists(), "all looked at")
    eventually(lambda: Worker.objects.count() == 2, "both work")
    assert servers.connections - before == 60
    assert [worker.end() for worker in workers] == [0, 0]


@pytest.mark.django_db(transaction=True)
def test_what_cannot_begin_beside_a_worker_keeps_it_from_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A library that is missing, say."""

    def broken(_: CertificatesConfig) -> None:
        raise ImportError("no such library")

    monkeypatch.setattr(CertificatesConfig, "beside_worker", broken)
    run_worker(stop=lambda: True)
    assert "nothing of notifications_certificates is done beside the worker" in caplog.text


def test_what_goes_wrong_with_watching_keeps_nothing_from_being_delivered(
    launcher: Launcher, receiver: HttpReceiver
) -> None:
    """Its tables are gone, say, or were never made."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notification_watches RENAME TO elsewhere")
    try:
        event = factories.pending(recipient=receiver.url())
        worker = launcher.start("run_notifications")
        eventually(lambda: NotificationEvent.objects.get(pk=event.pk).status == Status.SENT, "a delivery")
        eventually(lambda: "certificates are not watched, next try in 60 s" in worker.said, "a word of it")
        assert worker.end() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO notification_watches")
