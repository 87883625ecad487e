"""Beside certctl: what is left to it, what is taken up, and what says so. The races are in reliability."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from notifications import conf, delivery
from notifications.checks import check_beside
from notifications.database import database_now, is_postgresql
from notifications.models import Beside, NotificationEvent, Status
from notifications.queue import beside
from notifications.reporting import snapshot as stats
from notifications.reporting import words
from notifications.reporting.timeline import timeline
from tests import factories
from tests.factories import ago
from tests.fixtures import Configure
from tests.scripted import Script

pytestmark = pytest.mark.django_db


def theirs(status: str = Status.PENDING, **fields: Any) -> NotificationEvent:
    """As another program's INSERT leaves it."""
    return factories.notification(status, **{"ours": None, **fields})


def failed(**fields: Any) -> NotificationEvent:
    """As certctl leaves what it could not send."""
    return theirs(Status.FAILED, **{"created_at": ago(minutes=10), **fields})


@pytest.fixture
def rescue(configure: Configure, script: Script) -> Script:
    configure(BESIDE="rescue")
    return script


def test_whose_a_row_is() -> None:
    event, _ = NotificationEvent.objects.notify(type="t", channel="Webhook", recipient="r", message="m")
    assert event.ours
    dead = theirs(Status.DEAD)
    dead.requeue(by="ada")
    assert dead.ours


def test_without_certctl_it_is_off(script: Script) -> None:
    theirs()
    assert delivery.send_pending().sent == 1
    assert not Beside.objects.exists()


def test_a_pending_row_of_theirs_is_left_alone_for_the_grace(rescue: Script) -> None:
    fresh, old, ours = theirs(), theirs(created_at=ago(minutes=6)), factories.pending()
    again = theirs(created_at=ago(days=3), requeued_at=ago(minutes=1))
    ahead = theirs(created_at=factories.ahead(days=3))
    assert delivery.send_pending().sent == 3
    assert set(rescue.ids) == {old.pk, ours.pk, ahead.pk}
    assert set(NotificationEvent.objects.pending()) == {fresh, again}


def test_the_grace_is_a_setting(rescue: Script, configure: Configure) -> None:
    theirs(created_at=ago(minutes=6))
    configure(BESIDE_GRACE=timedelta(minutes=10))
    assert delivery.send_pending().claimed == 0


def test_in_takeover_theirs_are_ours_to_deliver(script: Script, configure: Configure) -> None:
    configure(BESIDE="takeover")
    theirs()
    assert delivery.send_pending().sent == 1


def test_what_they_left_failed_is_taken_up_after_the_grace(rescue: Script) -> None:
    lost, again = failed(), failed(created_at=ago(days=9), requeued_at=ago(minutes=7))
    failed(created_at=ago(minutes=1))
    failed(created_at=ago(days=2))
    failed(channel="email")
    result = delivery.retry_failed()
    assert (result.adopted, result.sent, result.as_dict()["adopted"]) == (2, 2, 2)
    assert set(rescue.ids) == {lost.pk, again.pk}
    assert "adopted" not in delivery.retry_failed().as_dict()


def test_what_failed_while_no_worker_ran_is_not_old(rescue: Script) -> None:
    Beside.objects.create(mode="rescue", since=ago(days=30))
    failed(created_at=ago(days=8))
    assert delivery.retry_failed().adopted == 1


def test_what_a_dry_run_says(rescue: Script) -> None:
    failed()
    theirs()
    said = StringIO()
    for command in ("retry_notifications", "send_notifications"):
        call_command(command, "--dry-run", stdout=said)
    assert "retry sweep, dry run: 0 due and 1 unscheduled" in said.getvalue()
    assert "pending sweep, dry run: 0 due" in said.getvalue()
    assert not Beside.objects.exists()


def test_mails_are_resent_only_when_asked_for_by_name(script: Script) -> None:
    """Also where certctl is no more."""
    mail = failed(channel="Email")
    assert delivery.retry_failed(include_unscheduled=True).adopted == 0
    assert delivery.retry_failed(include_probably_delivered=True).adopted == 1
    mail.refresh_from_db()
    assert mail.next_retry_at is not None


def test_a_change_of_terms_is_written_and_begins_anew(rescue: Script, configure: Configure) -> None:
    delivery.send_pending()
    begun = Beside.objects.get().since
    delivery.send_pending()
    assert Beside.objects.get().since == begun
    configure(BESIDE="off")
    delivery.send_pending()
    assert (Beside.objects.get().mode, Beside.objects.get().since > begun) == ("off", True)


# What says so


def test_the_words(rescue: Script) -> None:
    now = database_now()
    fresh, lost, mail = theirs(created_at=now - timedelta(minutes=1)), failed(), failed(channel="email")
    young = failed(created_at=now - timedelta(minutes=2))
    events = [fresh, young, lost, failed(created_at=ago(days=2)), mail]
    beside.noted(events, conf.current())
    assert [words.next_attempt(event, now)[0] for event in events] == [
        "certctl is sending, taken up in 4 min",
        "left to certctl, taken up in 3 min",
        "with the next delivery",
        "not scheduled",
        "probably delivered by certctl",
    ]
    assert words.status(mail) == "probably delivered"
    assert ("When", "probably delivered by certctl") in timeline(mail, now)[-1].facts


def test_the_snapshot(rescue: Script) -> None:
    theirs(created_at=ago(minutes=3))
    failed(channel="Email")
    failed()
    shown = stats.snapshot()
    assert (shown.beside, shown.in_grace, shown.stranded, shown.probably_delivered) == ("rescue", 1, 2, 1)
    assert shown.oldest_due == 0.0
    summary = stats.summary(shown)
    assert (summary["notifications_in_grace"], summary["notifications_probably_delivered"]) == (1, 1)


def test_the_console(rescue: Script, admin_client: Client) -> None:
    mail = failed(channel="Email")
    theirs()
    url = "/admin/notifications/notificationevent/"
    listed = admin_client.get(url + "?status=probably_delivered").content.decode()
    assert "nf-probably_delivered" in listed
    assert mail.pk in listed
    assert "left to certctl, which is sending" in admin_client.get(url + "dashboard/").content.decode()
    assert "probably delivered by certctl" in admin_client.get(f"{url}{mail.pk}/change/").content.decode()


def test_the_checks(configure: Configure) -> None:
    def ids() -> set[str]:
        return {str(message.id).removeprefix("notifications.") for message in check_beside(["default"])}

    assert ids() == set()
    unguarded = set() if is_postgresql() else {"W011"}
    configure(BESIDE="takeover")
    assert ids() == {"W009"} | unguarded
    configure(BESIDE="rescue", BESIDE_GRACE=timedelta(minutes=1))
    assert ids() == {"W009", "W010"} | unguarded
