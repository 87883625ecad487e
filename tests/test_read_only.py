"""A database that takes no change, as after a failover: a change is a 503 with a sentence, and not made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from notifications.models import Status
from tests import factories

SAID = "The database takes no change at the moment: it is read-only"
ALERT = {"type": "Revocation", "channel": "Webhook", "recipient": "https://x.example/", "message": "revoked"}


@contextmanager
def read_only() -> Iterator[None]:
    """As a standby answers, or SQLite on a full or protected disk."""
    on, off = ("PRAGMA query_only = ON", "PRAGMA query_only = OFF")
    if connection.vendor == "postgresql":
        on, off = (f"SET default_transaction_read_only = {word}" for word in ("on", "off"))
    with connection.cursor() as cursor:
        cursor.execute(on)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(off)


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("ada", password="right"))
    return client


def test_what_the_console_would_change(operator: Client) -> None:
    row = factories.dead()
    page = reverse("admin:notifications_notificationevent_changelist")
    posts = {
        page: {"action": "requeue_selected", "_selected_action": [row.pk]},
        reverse("admin:login") + "?next=/admin/": {"username": "ada", "password": "right"},
        reverse("admin:auth_user_add"): {"username": "bob", "usable_password": "false"},
        reverse("admin:logout"): {},
    }
    answers: dict[str, Any] = {}
    with read_only():
        for url, given in posts.items():
            answers[url] = operator.post(url, given)
        assert operator.get(page).status_code == 200
    for url, answer in answers.items():
        if answer.status_code < 400:
            continue  # asks first, or says what is wrong with the form
        assert answer.status_code == 503, url
        assert SAID in answer.text
        assert "No notification is lost" in answer.text
    assert answers[reverse("admin:login") + "?next=/admin/"].status_code == 503
    assert answers[reverse("admin:logout")].status_code == 503
    row.refresh_from_db()
    assert row.status == Status.DEAD


def test_what_rest_would_change(operator: Client) -> None:
    row = factories.dead()
    urls = [
        "/api/v1/notifications",
        f"/api/v1/notifications/{row.pk}/requeue",
        f"/api/v1/notifications/{row.pk}/read",
    ]
    with read_only():
        answers = [operator.post(url, json.dumps(ALERT), content_type="application/json") for url in urls]
        assert operator.get("/api/v1/notifications").status_code == 200
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
        assert SAID in answer.json()["error"]["message"]


def test_another_fault_stays_a_500_without_a_word_of_it(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("certctl.login.BoundedLogin.clean", fail)
    answer = operator.post(reverse("admin:login"), {"username": "ada", "password": "right"})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
