"""What only PostgreSQL does: estimates, settings of a transaction, being away."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api.models import ApiToken
from notifications.models import DeliveryAttempt, NotificationEvent, Outage
from notifications.reporting import metrics, parts
from notifications.reporting import snapshot as stats
from tests import factories
from tests.reporting.rows import held, swept
from tests.reporting.scraped import names, page


@pytest.mark.django_db
def test_it_leaves_the_callers_transaction_as_it_was() -> None:
    def setting(name: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting(%s)", [name])
            return str(cursor.fetchone()[0])

    before = setting("statement_timeout"), setting("enable_seqscan")
    with transaction.atomic():
        factories.dead()
        stats.snapshot()
        assert (setting("statement_timeout"), setting("enable_seqscan")) == before
    assert NotificationEvent.objects.dead().count() == 1


@pytest.mark.django_db
def test_beyond_what_is_counted_exactly_the_planner_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "EXACT_UP_TO", 50)
    NotificationEvent.objects.bulk_create(
        NotificationEvent(id=str(n), status="dead" if n < 50 else "sent", type="t", channel="c", message="m")
        for n in range(1050)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notification_events")
    shown = stats.snapshot()
    assert shown.estimated == {"sent"}
    assert shown.counts is not None
    assert shown.counts["dead"] == 50
    assert shown.counts["sent"] == pytest.approx(1000, rel=0.1)


@pytest.mark.django_db
def test_an_estimate_is_never_less_than_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "EXACT_UP_TO", 5)
    monkeypatch.setattr(parts, "_estimate", lambda rows: 0)
    for _ in range(9):
        factories.sent()
    assert (stats.snapshot().counts or {})["sent"] == 6


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Point the database at a port of this machine, with a pool as the web server has one."""
    used = connections["default"]

    def point(port: int) -> None:
        moved = used.copy()
        moved.settings_dict |= {"HOST": "127.0.0.1", "PORT": str(port)}
        moved.settings_dict["OPTIONS"] = {"connect_timeout": 10, "pool": {"timeout": 10}}
        connections["default"] = moved

    yield point
    connections["default"] = used


@pytest.mark.usefixtures("transactional_db")
def test_a_database_that_refuses_costs_no_time(elsewhere: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    elsewhere(port)
    start = time.monotonic()
    text = page()
    assert time.monotonic() - start < 2
    assert "python_info" in text
    assert not names(text)


@pytest.mark.usefixtures("transactional_db")
def test_a_database_that_never_answers_costs_two_seconds(elsewhere: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        elsewhere(silent.getsockname()[1])
        start = time.monotonic()
        text = page()
    assert time.monotonic() - start < metrics.CONNECT_SECONDS + 2
    assert "python_info" in text
    assert not names(text)


@pytest.mark.usefixtures("transactional_db")
def test_probes_do_not_wait_for_a_database_that_never_answers(elsewhere: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        elsewhere(silent.getsockname()[1])
        start = time.monotonic()
        response = Client().get("/readyz")
    assert time.monotonic() - start < metrics.CONNECT_SECONDS + 2
    assert response.status_code == 503
    assert set(map(str, response.json()["checks"].values())) == {"{'ok': False}"}


@contextmanager
def read_only() -> Iterator[None]:
    """The server has become a standby, or is what was failed over from."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute("SET default_transaction_read_only = off")


@pytest.mark.django_db(transaction=True)
def test_a_server_that_takes_no_change_is_not_ready_and_takes_no_alert(client: Client) -> None:
    swept("pending", timezone.now())
    token = ApiToken.objects.issue(User.objects.create_superuser("ada"), "test")[1]
    assert client.get("/readyz").status_code == 200
    with read_only():
        response = client.get("/readyz")
        assert (response.status_code, response.json()["checks"]["database"]) == (503, {"ok": False})
        alert = {"type": "t", "channel": "Webhook", "recipient": "#pki", "message": "m"}
        headers = {"authorization": f"Bearer {token}"}
        response = client.post(
            "/api/v1/notifications", alert, content_type="application/json", headers=headers
        )
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["", "dashboard/", "endpoints/"])
def test_a_page_of_the_console_waits_for_no_lock_for_ever(monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    """The server is asked to end the statement, and the sentence comes in time; then all is as before."""
    monkeypatch.setattr("notifications.admin.guard.LOOKING_SECONDS", 1.0)
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    address = f"/admin/notifications/notificationevent/{page}"
    names = ("host", "port", "user", "password", "dbname")
    known = {k: v for k, v in connection.get_connection_params().items() if k in names}
    with psycopg.connect(**known) as other:
        other.execute("LOCK TABLE notification_events, notification_holds IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        response = client.get(address)
        assert time.monotonic() - began < 20
        said = response.content.decode()
        assert response.status_code == 503 or "How things stand is not known" in said
        other.rollback()
    monkeypatch.undo()  # what follows may take its time
    assert client.get(address).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_endpoints_are_shown_though_the_notifications_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.admin.guard.PART_SECONDS", 0.3)
    held("webhook")
    Outage.objects.create(
        endpoint="webhook",
        channel="Webhook",
        reason="server",
        error="e",
        since=factories.ago(hours=1),
        died=3,
    )
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    asked = ("host", "port", "user", "password", "dbname")
    known = {k: v for k, v in connection.get_connection_params().items() if k in asked}
    with psycopg.connect(**known) as other:
        other.execute("LOCK TABLE notification_events IN ACCESS EXCLUSIVE MODE")
        response = client.get("/admin/notifications/notificationevent/endpoints/")
        other.rollback()
    assert response.status_code == 200
    [row], [offer] = response.context["rows"], response.context["offers"]
    assert (row.words.state, row.waiting, offer.count) == ("held", "not known", "not known")


@pytest.mark.django_db
def test_an_index_finds_what_failed_lately() -> None:
    event: NotificationEvent = factories.sent()
    DeliveryAttempt.objects.bulk_create(
        DeliveryAttempt(
            notification=event,
            number=1,
            channel="Slack",
            started_at=factories.ago(minutes=n),
            duration_ms=1,
            outcome="sent" if n % 50 else "transient",
            worker="w",
        )
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notification_attempts")
    with CaptureQueriesContext(connection) as queries:
        parts.died_last_hour(parts.AsOf(timezone.now()))
    asked = [query["sql"] for query in queries if "notification_attempts" in query["sql"]]
    assert len(asked) == 2
    for sql in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"))
            assert "idx_notification_attempts_failed" in "\n".join(line for (line,) in cursor.fetchall())
