"""What else the page that asks first says: how many are stale, how long it takes, some to look at."""

from __future__ import annotations

import pytest
from django.test import Client

from notifications.models import SweepKind
from tests.admin.support import LIST, As, text
from tests.factories import ago, dead
from tests.reporting.rows import swept
from tests.scripted import Script

pytestmark = pytest.mark.django_db
ALL = {"select_across": "1", "_selected_action": "-"}


@pytest.fixture
def client(signed_in: As) -> Client:
    return signed_in("superuser")


def test_before_many_are_requeued(client: Client, script: Script) -> None:
    stale = [dead(last_error="HTTP 503", created_at=ago(days=days)) for days in (8, 9)]
    young = [
        dead(last_error="HTTP 404", message="<b>soon</b>\nmore", created_at=ago(days=6 + n / 24))
        for n in range(3)
    ]
    page = client.post(LIST + "?status=dead", {"action": "requeue_selected", **ALL})
    assert "Nothing is being delivered: no sweep has ever run." in text(page)
    assert page.context["pace"] == "How long it takes is not known: nothing is being delivered."
    swept(SweepKind.PENDING, ago(seconds=30))
    page = client.post(LIST + "?status=dead", {"action": "requeue_selected", **ALL})
    said = text(page)
    assert "Nothing is being delivered" not in said
    assert "2 of them were raised more than a week ago." in said
    assert [event.pk for event, _ in page.context["samples"]] == [young[0].pk, stale[0].pk, stale[1].pk]
    assert "<b>soon</b> more" in said
    assert "How long it takes is not known. Webhook: 5 at a pace that nothing tells of" in said
    counted = client.post(LIST + "?status=dead", {"action": "requeue_selected", **ALL, "count": ""}).json()
    assert (counted["count"], counted["old"]) == (5, 2)
    page = client.post(LIST + "?status=dead&age=7d", {"action": "dismiss_selected", **ALL})
    assert page.context["old"] == 0
    assert page.context["pace"] == "", "nothing is sent"
    assert "to look at" not in text(page)
