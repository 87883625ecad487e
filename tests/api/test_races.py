"""Many callers at once: of several requeues of one notification, exactly one happens."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from notifications.api.models import ApiToken
from notifications.models import NotificationEvent, Requeue
from tests import factories
from tests.api.support import make_user

CALLERS = 8


def together(server: str, secret: str, path: str, body: Any = None) -> list[tuple[int, Any]]:
    """(status, answer) of CALLERS equal calls that set out at the same moment."""
    barrier = threading.Barrier(CALLERS)

    def call(_: int) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        request = Request(f"{server}/api/v1{path}", json.dumps(body).encode(), headers, method="POST")
        barrier.wait()
        try:
            with urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(call, range(CALLERS)))


@pytest.fixture
def secret(server: str) -> str:
    return ApiToken.objects.issue(make_user("operator", "superuser"), "test")[1]


def test_of_many_requeues_exactly_one_happens(server: str, secret: str) -> None:
    for _ in range(5):
        event = factories.dead()
        answers = together(server, secret, f"/notifications/{event.pk}/requeue")
        assert sorted(status for status, _ in answers) == [200, *[409] * (CALLERS - 1)]
        assert Requeue.objects.filter(notification_id=event.pk).count() == 1


def test_of_many_bulk_requeues_each_row_is_counted_once(server: str, secret: str) -> None:
    for _ in range(40):
        factories.dead()
    answers = together(server, secret, "/notifications/requeue", {"status": "dead"})
    assert {status for status, _ in answers} == {200}
    assert sum(answer["requeued"] for _, answer in answers) == 40
    assert Requeue.objects.count() == 40


def test_one_dedup_key_raises_one_alert(server: str, secret: str) -> None:
    alert = {"type": "T", "channel": "Slack", "recipient": "#pki", "message": "m", "dedup_key": "k"}
    answers = together(server, secret, "/notifications", alert)
    assert sorted(status for status, _ in answers) == [*[200] * (CALLERS - 1), 201]
    assert {answer["id"] for _, answer in answers} == {NotificationEvent.objects.get().pk}
