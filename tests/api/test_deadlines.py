"""Programs say when a certificate ends, read it, and are told what was renewed since."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from notifications.models import Deadline, NotificationEvent
from tests import factories
from tests.api.support import ALERT, faults
from tests.renewals import about, certificate, renew

pytestmark = pytest.mark.django_db
LIST = "/api/v1/notifications"
ENDS = "2026-12-31T10:00:00Z"


def test_whoever_raises_an_alert_may_say_when_its_certificate_ends(api: APIClient) -> None:
    made = api.post(LIST, {**ALERT, "not_after": ENDS}, format="json")
    assert (made.status_code, made.json()["not_after"]) == (201, ENDS)
    assert api.get(f"{LIST}/{made.json()['id']}").json()["not_after"] == ENDS
    many = api.post(f"{LIST}/batch", {"notifications": [{**ALERT, "not_after": ENDS}, ALERT]}, format="json")
    said = [api.get(f"{LIST}/{one['id']}").json()["not_after"] for one in many.json()["data"]]
    assert said == [ENDS, None]
    refused = api.post(LIST, {**ALERT, "not_after": "soon"}, format="json")
    assert list(faults(refused, 400)) == ["not_after"]


def test_what_ends_first_comes_first_where_one_asks_for_it(api: APIClient) -> None:
    later, never, sooner = factories.dead(), factories.dead(), factories.dead()
    Deadline.objects.create(notification=later, not_after=factories.ahead(days=9))
    Deadline.objects.create(notification=sooner, not_after=factories.ahead(hours=3))
    listed = api.get(LIST, {"status": "dead", "order": "ends"}).json()["data"]
    assert [row["id"] for row in listed] == [sooner.pk, later.pk, never.pk]
    assert list(faults(api.get(LIST, {"order": "luck"}), 400)) == ["order"]


def requeued(api: APIClient, **asked: Any) -> Any:
    return api.post(f"{LIST}/requeue", {"status": "dead", **asked}, format="json").json()


def test_a_requeue_of_many_leaves_what_was_renewed_unless_told(api: APIClient) -> None:
    old = certificate()
    over, other = about(old, make=factories.dead), factories.dead()
    renew(old)
    assert requeued(api, dry_run=True) == {"requeued": 1, "skipped": 1, "renewed": 1}
    assert requeued(api) == {"requeued": 1, "skipped": 1, "renewed": 1}
    assert list(NotificationEvent.objects.pending()) == [other]
    refused = api.post(f"{LIST}/{over.pk}/requeue", format="json")
    assert faults(refused, 409) == {}
    assert "renewed" in refused.json()["error"]["message"]
    assert requeued(api, renewed=True) == {"requeued": 1, "skipped": 0}
    assert set(NotificationEvent.objects.pending()) == {over, other}
