"""Who may see and do what: every address and action, for every kind of person."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from notifications.models import NotificationEvent
from tests.admin.conftest import LIST, As, act, url
from tests.factories import dead

pytestmark = pytest.mark.django_db
PEOPLE = ("anonymous", "nobody", "viewer", "reader", "requeuer", "superuser")
LOGIN, SEEN, DONE, REFUSED = "to the login page", 200, 302, 403


def answer(client: Client, method: str, address: str) -> str | int:
    response = client.generic(method, address)
    redirected = response.headers.get("Location", "").startswith("/admin/login/")
    return LOGIN if redirected else response.status_code


@pytest.mark.parametrize(
    ("method", "view", "expected"),
    [
        ("GET", "changelist", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "change", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("POST", "change", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("GET", "add", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("POST", "add", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("GET", "history", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "delete", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, SEEN)),
        ("GET", "requeue", (LOGIN, 405, 405, 405, 405, 405)),
        ("POST", "requeue", (LOGIN, REFUSED, REFUSED, REFUSED, DONE, DONE)),
    ],
)
def test_addresses(signed_in: As, method: str, view: str, expected: tuple[str | int, ...]) -> None:
    for who, outcome in zip(PEOPLE, expected, strict=True):
        event = dead()
        address = {"changelist": LIST, "add": LIST + "add/"}.get(view) or url(view, event)
        assert answer(signed_in(who), method, address) == outcome, who
        event.refresh_from_db()
        assert (event.status != "dead") == (outcome == DONE), who
        User.objects.all().delete()


@pytest.mark.parametrize(
    ("action", "allowed"),
    [("requeue_selected", ("requeuer", "superuser")), ("mark_read_selected", ("reader", "superuser"))],
)
def test_actions(signed_in: As, action: str, allowed: tuple[str, ...]) -> None:
    for who in PEOPLE:
        event = dead()
        act(signed_in(who), action, event, confirm="1")
        event.refresh_from_db()
        assert (event.status != "dead") == (who in allowed), who


def test_buttons_and_actions_are_shown_to_those_who_may(signed_in: As) -> None:
    event = dead()
    for who, requeues, reads in (
        ("viewer", False, False),
        ("reader", False, True),
        ("requeuer", True, False),
    ):
        client = signed_in(who)
        for address in (LIST, url("change", event)):
            markup = client.get(address).content.decode()
            assert (url("requeue", event) in markup) == requeues, (who, address)
        markup = client.get(LIST).content.decode()
        assert ("requeue_selected" in markup) == requeues, who
        assert ("mark_read_selected" in markup) == reads, who
        assert ("mark_read_selected" in client.get(url("change", event)).content.decode()) == reads, who


def test_requeue_needs_its_csrf_token(signed_in: As) -> None:
    event = dead()
    client = signed_in("superuser")
    client.handler.enforce_csrf_checks = True
    assert client.post(url("requeue", event)).status_code == 403
    assert NotificationEvent.objects.dead().count() == 1


def test_who_may_requeue_but_not_look_is_not_led_to_a_refusal(signed_in: As) -> None:
    client = signed_in("nobody")
    permission = Permission.objects.get(codename="requeue_notificationevent")
    User.objects.get(username="nobody").user_permissions.add(permission)
    response = client.post(url("requeue", dead()), {"page": "1"}, follow=True)
    assert response.redirect_chain == [("/admin/", 302)]
    assert response.status_code == 200


def test_deleting_takes_the_history_with_it(signed_in: As) -> None:
    event = dead()
    event.requeue(by="bob")
    signed_in("superuser").post(url("delete", event), {"post": "yes"})
    assert not NotificationEvent.objects.filter(pk=event.pk).exists()
