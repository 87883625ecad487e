"""Who may see and do what: every address and action, for every kind of person."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from notifications.models import BulkOperation, GroupNote, NotificationEvent, OperationKind
from tests.admin.support import DONE, LIST, LOGIN, PEOPLE, REFUSED, SEEN, As, act, answer, url
from tests.factories import dead
from tests.receiver import HttpReceiver

pytestmark = pytest.mark.django_db
SAME = "done, and the notification is as it was"


DATA = {
    "snoozing": {"snooze": "1", "length": "1h", "version": "0"},
    "waking": {"wake": "1", "version": "0"},
    "assigning": {"assign": "", "to": "", "version": "0"},
    "noting": {"note": "1", "text": "n", "version": "0"},
    "stopping": {"stop": "1"},
    "the rest": {"rest": "1"},
    "undo of requeueing": {"undo": "1"},
    "undo of dismissing": {"undo": "1"},
}
ON_A_GROUP = ("snoozing", "waking", "assigning", "noting")


@pytest.mark.parametrize(
    ("method", "view", "expected"),
    [
        ("GET", "changelist", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "dashboard", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "operations", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "certificate", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "group", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        *(
            ("POST", decision, (LOGIN, REFUSED, REFUSED, SAME, REFUSED, SAME))
            for decision in ("snoozing", "waking", "assigning", "noting")
        ),
        ("GET", "operation of requeueing", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("POST", "operation of requeueing", (LOGIN, REFUSED, REFUSED, REFUSED, DONE, DONE)),
        ("GET", "operation of dismissing", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("POST", "operation of dismissing", (LOGIN, REFUSED, REFUSED, DONE, REFUSED, DONE)),
        ("POST", "stopping", (LOGIN, REFUSED, REFUSED, REFUSED, SAME, SAME)),
        ("POST", "the rest", (LOGIN, REFUSED, REFUSED, REFUSED, DONE, DONE)),
        ("POST", "undo of requeueing", (LOGIN, REFUSED, REFUSED, REFUSED, SAME, SAME)),
        ("POST", "undo of dismissing", (LOGIN, REFUSED, REFUSED, SAME, REFUSED, SAME)),
        ("GET", "change", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("POST", "change", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("GET", "add", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("POST", "add", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)),
        ("GET", "history", (LOGIN, REFUSED, SEEN, SEEN, SEEN, SEEN)),
        ("GET", "delete", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, SEEN)),
        ("POST", "delete", (LOGIN, REFUSED, REFUSED, REFUSED, REFUSED, SEEN)),
        ("GET", "requeue", (LOGIN, 405, 405, 405, 405, 405)),
        ("POST", "requeue", (LOGIN, REFUSED, REFUSED, REFUSED, DONE, DONE)),
        ("GET", "send", (LOGIN, 405, 405, 405, 405, 405)),
        ("POST", "send", (LOGIN, REFUSED, REFUSED, REFUSED, DONE, DONE)),
    ],
)
def test_addresses(
    signed_in: As, webhook: HttpReceiver, method: str, view: str, expected: tuple[str | int, ...]
) -> None:
    for who, outcome in zip(PEOPLE, expected, strict=True):
        event = dead()
        code = DONE if outcome == SAME else outcome
        assert answer(signed_in(who), method, address_of(view, event), DATA.get(view, {})) == code, who
        event.refresh_from_db()
        assert (event.status != "dead") == (outcome == DONE), who
        assert len(webhook.requests) == (1 if view == "send" and outcome == DONE else 0), who
        webhook.requests.clear()
        if view in ON_A_GROUP:
            assert GroupNote.objects.exists() == (outcome == SAME), who
            GroupNote.objects.all().delete()
        User.objects.all().delete()


def address_of(view: str, event: NotificationEvent) -> str:
    lists = {"changelist": "", "add": "add/", "dashboard": "dashboard/", "operations": "operations/"}
    if view in lists:
        return LIST + lists[view]
    if view == "certificate":
        return f"{LIST}certificate/?id={event.certificate_id}"
    if view == "group" or view in ON_A_GROUP:
        return f"{LIST}group/?channel=Webhook&alike=HTTP+503:+upstream+is+down"
    if view.startswith("operation of") or view in DATA:
        kind = OperationKind.DISMISS if view.endswith("dismissing") else OperationKind.REQUEUE
        about: dict[str, Any] = {
            "kind": kind,
            "by": "alice",
            "via": "admin",
            "requested": 1,
            "filters": "status=dead",
        }
        if view == "the rest":
            about |= {"stopped_by": "alice", "ended_at": timezone.now()}
        operation = BulkOperation.objects.create(started_at=timezone.now(), **about)
        return f"{LIST}operations/{operation.pk}/"
    return url(view, event)


@pytest.mark.parametrize("who", PEOPLE)
def test_who_restores(signed_in: As, who: str) -> None:
    event = dead()
    event.dismiss(by="alice")
    act(signed_in(who), "restore_selected", event, confirm="1")
    event.refresh_from_db()
    assert (event.status == "dead") == (who in ("reader", "superuser"))


@pytest.mark.parametrize("data", [{"confirm": "1"}, {"try": "1"}, {"confirm": "1", "select_across": "1"}])
@pytest.mark.parametrize(
    ("action", "allowed"),
    [("requeue_selected", ("requeuer", "superuser")), ("dismiss_selected", ("reader", "superuser"))],
)
def test_actions(
    signed_in: As, webhook: HttpReceiver, action: str, allowed: tuple[str, ...], data: dict[str, str]
) -> None:
    does = "confirm" in data or action == "requeue_selected"  # there is no trying to read
    for who in PEOPLE:
        event = dead()
        act(signed_in(who), action, event, reason="known", **data)
        event.refresh_from_db()
        assert (event.status != "dead") == (does and who in allowed), who
        NotificationEvent.objects.all().delete()


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
        assert ("dismiss_selected" in markup) == reads, who
        assert ("dismiss_selected" in client.get(url("change", event)).content.decode()) == reads, who


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
