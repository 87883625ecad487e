"""An expiry warning whose certificate was renewed since is withdrawn: guarded, on record, and never else."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from notifications import delivery
from notifications.certificates.models import Sighting, Watch
from notifications.certificates.renewals import renews
from notifications.exceptions import TransitionRefused
from notifications.models import EventType, NotificationEvent, Status, Withdrawal
from notifications.operations.filters import of_status
from notifications.reporting import timeline, words
from tests.factories import ago, ahead, dead, failed, leased, pending, read, sent, stranded
from tests.fixtures import Configure
from tests.renewals import about, certificate, renew, see
from tests.scripted import Script

pytestmark = pytest.mark.django_db
EVENTS = NotificationEvent.objects


@pytest.mark.parametrize("make", [pending, failed, stranded, dead])
def test_what_has_not_arrived_is_withdrawn_with_the_reason_on_record(make: Any) -> None:
    old = certificate()
    event, before = about(old, make=make), make().status
    new = renew(old)
    event.withdraw(by="ada", via="cli")
    assert (event.status, event.next_retry_at, event.leased_until) == ("read", None, None)
    assert (event.withdrawn, event.dismissed, words.status(event)) == (True, False, "withdrawn")
    record = Withdrawal.objects.get()
    assert (record.by, record.via, record.status) == ("ada", "cli", before)
    assert re.fullmatch(rf"renewed: serial {new.serial}, valid until \d{{4}}-.*", record.reason)
    assert record.reason in str(timeline.timeline(event, ahead())[-1].facts)
    for status, rows in (("withdrawn", [event]), ("seen", []), ("dismissed", [])):
        assert list(of_status(EVENTS.filter(pk=event.pk), status)) == rows


def test_what_is_read_tells_the_three_apart() -> None:
    old = certificate()
    withdrawn, dismissed, seen = about(old, make=dead), dead(), sent()
    renew(old)
    withdrawn.withdraw(by="ada")
    dismissed.dismiss(by="ada")
    seen.mark_seen(by="ada")
    found = {event.pk: words.kind(event) for event in EVENTS.with_kind()}
    assert found == {withdrawn.pk: "withdrawn", dismissed.pk: "dismissed", seen.pk: "seen"}
    assert found == {event.pk: words.kind(event) for event in EVENTS.all()}
    with pytest.raises(TransitionRefused, match="it is read: it was withdrawn"):
        withdrawn.restore(by="bob")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (sent, "it is sent: it was delivered"),
        (read, "it is read already"),
        (leased, "an attempt is running"),
    ],
)
def test_nothing_else_is_withdrawn(make: Any, why: str) -> None:
    old = certificate()
    event = about(old, make=make)
    renew(old)
    before = EVENTS.values().get()
    with pytest.raises(TransitionRefused, match=why):
        event.withdraw(by="ada")
    assert EVENTS.values().get() == before
    assert not Withdrawal.objects.exists()


@pytest.mark.parametrize("type", [*EventType.values, "renewal_failure", "expiration_warning", "Other"])
def test_only_expiry_warnings_are(type: str) -> None:
    old = certificate()
    event = about(old, make=dead, type=type)
    renew(old)
    assert EVENTS.all().withdraw(by="ada").changed == (type in ("ExpirationWarning", "expiration_warning"))
    if type not in ("ExpirationWarning", "expiration_warning"):
        with pytest.raises(TransitionRefused, match="only expiry warnings"):
            event.withdraw(by="ada")


def still_there(old: Any) -> None:
    new = renew(old, places=1)
    see(old, Watch.objects.create(target="other.example.com:443"), ago(hours=1))
    assert new


def gone_without_a_successor(old: Any) -> None:
    Sighting.objects.update(current=False)


def other_names(old: Any) -> None:
    old.names = ["www.example.com", "api.example.com"]
    old.save()
    new = renew(old)
    new.names = ["www.example.com"]
    new.save()


def ends_sooner(old: Any) -> None:
    new = renew(old)
    new.not_after = old.not_after - timedelta(hours=1)
    new.save()


def in_turn(old: Any) -> None:
    """Both were seen, one after the other, and again."""
    renew(old)
    Sighting.objects.filter(certificate=old).update(last_seen=ahead(hours=1))


def not_everywhere(old: Any) -> None:
    renew(old, places=1)


def not_watched_any_more(old: Any) -> None:
    renew(old)
    Watch.objects.all().delete()


@pytest.mark.parametrize(
    "happened",
    [
        still_there,
        gone_without_a_successor,
        other_names,
        ends_sooner,
        in_turn,
        not_everywhere,
        not_watched_any_more,
    ],
)
def test_what_is_not_certain_is_sent(happened: Callable[[Any], None], script: Script) -> None:
    old = certificate(places=2)
    event = about(old)
    happened(old)
    with pytest.raises(TransitionRefused, match="is not certain"):
        event.withdraw(by="ada")
    assert delivery.send_pending().sent == 1
    assert script.ids == [event.pk]


def test_of_several_certificates_all_must_be_renewed(script: Script) -> None:
    one, other = certificate(), certificate()
    event = about(one, other)
    renew(one)
    assert EVENTS.all().withdraw(by="ada") == (0, 1)
    new = renew(other)
    assert delivery.send_pending().as_dict()["withdrawn"] == 1
    assert words.kind(EVENTS.get()) == "withdrawn"
    assert new.not_after > one.not_after
    assert renews(new, other)
    assert event.pk not in script.ids


def test_before_each_attempt_it_is_asked_and_what_was_renewed_costs_nothing(script: Script) -> None:
    """Also of a retry, and in one go with others, which are sent."""
    old = certificate()
    first, second, other = about(old), about(old, make=failed), pending()
    renew(old)
    result = delivery.send_pending().as_dict()
    assert (result["claimed"], result["sent"], result["withdrawn"]) == (1, 1, 1)
    assert delivery.retry_failed().withdrawn == 1
    assert script.ids == [other.pk]
    for event in (first, second):
        event.refresh_from_db()
        assert words.kind(event) == "withdrawn"
        assert (event.leased_until, event.next_retry_at) == (None, None)
        assert not event.deliveryattempts.exists()
    assert {record.by for record in Withdrawal.objects.all()} == {"system"}


def test_one_setting_turns_it_off(script: Script, configure: Configure) -> None:
    configure(WITHDRAW_RENEWED=False)
    old = certificate()
    event = about(old)
    renew(old)
    assert delivery.send_pending().sent == 1
    assert script.ids == [event.pk]
    assert EVENTS.filter(pk=about(old, make=dead).pk).withdraw(by="ada").changed == 0


def test_a_requeue_leaves_them_unless_told(script: Script) -> None:
    """And what an operator wants all the same is sent, whatever was renewed."""
    old = certificate()
    over, other = about(old, make=dead), dead()
    new = renew(old)
    assert EVENTS.dead().requeue(by="ada") == (1, 1)
    with pytest.raises(TransitionRefused, match=f"its certificate is renewed: serial {new.serial}"):
        over.requeue(by="ada")
    over.requeue(by="ada", renewed=True)
    assert delivery.send_pending().sent == 2
    assert set(script.ids) == {over.pk, other.pk}


def test_what_ended_with_its_worker_is_on_record(script: Script) -> None:
    old = certificate()
    event = about(old, make=leased, until=ago(minutes=1))
    renew(old)
    event.withdraw(by="ada")
    assert [a.outcome for a in event.deliveryattempts.all()] == ["interrupted"]


def test_many_at_once_and_each_once() -> None:
    old = certificate()
    for _ in range(3):
        about(old, make=dead)
    dead()
    renew(old)
    assert EVENTS.dead().withdraw(by="ada") == (3, 1)
    assert EVENTS.all().withdraw(by="ada").changed == 0
    assert Withdrawal.objects.count() == 3
    assert Status.DEAD in EVENTS.values_list("status", flat=True)
