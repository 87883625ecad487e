"""The probes: public, without secrets, and 503 when something is missing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from notifications.models import SweepRun, Worker
from tests.factories import ago
from tests.reporting.rows import swept


def readiness(client: Client, status: int) -> dict[str, Any]:
    response = client.get("/readyz")
    assert response.status_code == status, response.content
    assert "no-store" in response["Cache-Control"]
    checks: dict[str, Any] = response.json()["checks"]
    assert response.json()["status"] == ("ready" if status == 200 else "not ready")
    return checks


def test_alive_needs_no_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert client.head("/healthz").status_code == 200
    assert client.post("/healthz").status_code == 405


@pytest.mark.django_db
def test_ready_after_a_recent_sweep_of_either_kind(client: Client, settings: Any) -> None:
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "RETRY_INTERVAL": 60, "PROCESS_INTERVAL": 30}
    assert readiness(client, 503)["sweep"] == {"ok": False, "seconds_ago": None, "at_most": 180}
    swept("retry", ago(minutes=4))
    assert 239 <= readiness(client, 503)["sweep"]["seconds_ago"] <= 250
    swept("pending", ago(minutes=1))
    assert all(check["ok"] for check in readiness(client, 200).values())


def seen(age: timedelta, name: str = "host:1") -> None:
    Worker.objects.create(name=name, started_at=timezone.now(), seen_at=timezone.now() - age)


@pytest.mark.django_db
def test_a_site_that_sweeps_by_cron_is_ready_without_workers(client: Client) -> None:
    swept("retry", ago(minutes=1))
    assert readiness(client, 200)["workers"] == {"ok": True, "alive": 0, "seconds_ago": None}


@pytest.mark.django_db
def test_ready_while_a_worker_lives_and_not_when_the_last_one_fell_silent(client: Client) -> None:
    swept("retry", ago(minutes=3))
    seen(timedelta(minutes=2))
    found = readiness(client, 503)
    assert (found["sweep"]["ok"], found["workers"]["ok"], found["workers"]["alive"]) == (True, False, 0)
    assert 119 <= found["workers"]["seconds_ago"] <= 130
    seen(timedelta(seconds=3), "host:2")
    assert readiness(client, 200)["workers"]["alive"] == 1


@pytest.mark.django_db
def test_a_silent_worker_is_not_missed_where_another_sweeps_or_after_a_day(client: Client) -> None:
    seen(timedelta(minutes=5))
    swept("retry", ago(minutes=1))
    assert readiness(client, 200)["workers"]["ok"]
    SweepRun.objects.update(ended_at=timezone.now() - timedelta(minutes=5, seconds=5))
    assert not readiness(client, 503)["workers"]["ok"]
    Worker.objects.update(seen_at=timezone.now() - timedelta(hours=25))
    assert readiness(client, 200)["workers"] == {"ok": True, "alive": 0, "seconds_ago": None}


@pytest.mark.django_db
def test_not_ready_while_a_migration_is_missing(client: Client) -> None:
    swept("retry", ago())
    MigrationRecorder(connection).record_unapplied("notifications_api", "0001_initial")
    assert readiness(client, 503)["migrations"] == {"ok": False, "missing": 1}


@pytest.mark.django_db
def test_not_ready_without_the_database_and_it_says_no_more(client: Client, monkeypatch: Any) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("no route to db.example.com for user certctl, password hunter2")

    monkeypatch.setattr(connection, "cursor", away)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert not any(check["ok"] for check in response.json()["checks"].values())
    assert b"example.com" not in response.content
