"""The console knows when certificates end, and which were renewed since."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from notifications.models import BulkOperation, Deadline, NotificationEvent
from notifications.operations import bulk
from tests.factories import ahead, dead
from tests.renewals import about, certificate, renew

pytestmark = pytest.mark.django_db
LIST = reverse("admin:notifications_notificationevent_changelist")


@pytest.fixture
def console() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_list_says_what_ends_and_puts_it_in_front(console: Client) -> None:
    later, never, sooner = dead(certificate_id="mc-later"), dead(certificate_id="mc-never"), dead()
    Deadline.objects.create(notification=later, not_after=ahead(days=9, hours=1))
    Deadline.objects.create(notification=sooner, not_after=ahead(hours=3, minutes=5))
    page = text(console.get(LIST, {"status": "dead", "o": "ends"}))
    places = [page.index(f"/{event.pk}/") for event in (sooner, later, never)]
    assert places == sorted(places)
    assert "expires in 3 h" in page
    assert "expires in 9 days" in page
    assert "What ends first" in page
    assert "expires in 3 h" in text(
        console.get(reverse("admin:notifications_notificationevent_change", args=[sooner.pk]))
    )


def test_a_requeue_of_many_says_which_are_renewed_and_leaves_them_unless_told(console: Client) -> None:
    old = certificate()
    over, other = about(old, make=dead), dead()
    renew(old)
    asked = {"action": "requeue_selected", "select_across": "1", "_selected_action": other.pk}
    page = text(console.post(f"{LIST}?status=dead", asked))
    assert "1 of 2 are about certificates renewed since" in page
    for told, left in (({}, {"renewed since": 1}), ({"renewed": "1"}, {})):
        console.post(f"{LIST}?status=dead", {**asked, **told, "confirm": "1"})
        operation = bulk.finish(BulkOperation.objects.latest("pk"))
        assert (operation.skips, operation.renewed) == (left, bool(told))
    assert set(NotificationEvent.objects.pending()) == {over, other}
    assert Deadline.objects.get(notification=over).insisted


def test_a_withdrawn_one_is_told_apart_and_its_page_says_why(console: Client) -> None:
    old = certificate()
    event = about(old, make=dead)
    new = renew(old)
    event.withdraw(by="ada", via="cli")
    page = text(console.get(LIST, {"status": "withdrawn"}))
    assert "nf-withdrawn" in page
    assert event.pk in page
    page = text(console.get(reverse("admin:notifications_notificationevent_change", args=[event.pk])))
    assert f"renewed: serial {new.serial}" in page
