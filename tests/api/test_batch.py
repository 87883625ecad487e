"""Raising many alerts in one call."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from notifications.models import NotificationEvent
from tests import factories
from tests.api.support import client_of, make_user
from tests.api.test_calls import ALERT, SLACK, faults
from tests.fixtures import Configure

BATCH = "/api/v1/notifications/batch"
EVENTS = NotificationEvent.objects


def post(api: APIClient, alerts: Any) -> Any:
    return api.post(BATCH, {"notifications": alerts}, format="json")


def test_all_are_raised_and_answered_in_their_order(api: APIClient, configure: Configure) -> None:
    configure(CHANNELS={"Slack": SLACK})
    old = factories.pending(dedup_key="old")
    response = post(
        api, [ALERT | {"dedup_key": "old"}, ALERT | {"message": "2"}, ALERT | {"channel": "Pager"}]
    )
    assert response.status_code == 201
    first, second, third = response.json()["data"]
    assert first == {"id": old.pk, "created": False}
    assert (second["created"], EVENTS.get(pk=second["id"]).message) == (True, "2")
    assert third["warnings"] == ["The channel Pager has no notifier, so nothing may be delivered."]
    assert post(api, [ALERT | {"dedup_key": "old"}]).status_code == 200
    assert EVENTS.count() == 3


def test_a_fault_in_one_names_its_place_and_nothing_is_raised(api: APIClient) -> None:
    """Also what only notify knows."""
    assert set(faults(post(api, [ALERT, {"type": "x"}, ALERT | {"status": "sent"}]))) == {
        "notifications.1.channel",
        "notifications.1.recipient",
        "notifications.1.message",
        "notifications.2.status",
    }
    said = faults(post(api, [ALERT, ALERT | {"dedup_key": "digest:1"}]))
    assert list(said) == ["notifications.1.dedup_key"]
    assert list(faults(post(api, []))) == ["notifications"]
    assert list(faults(post(api, ALERT))) == ["notifications"]
    assert faults(api.post(BATCH, [ALERT], format="json")) == {}
    assert list(faults(post(api, [ALERT] * 10_001))) == ["notifications"]
    assert not EVENTS.exists()


def test_it_needs_what_raising_one_needs(db: None) -> None:
    factories.pending(id="n1", dedup_key="known", message="for the eyes of others")
    adder, viewer = client_of(make_user("adder", "adder")), client_of(make_user("viewer", "viewer"))
    assert post(viewer, [ALERT]).status_code == 403
    said = post(adder, [ALERT | {"dedup_key": "known"}])
    assert said.json() == {"data": [{"id": "n1", "created": False}]}
    assert adder.get(BATCH).status_code == 405
