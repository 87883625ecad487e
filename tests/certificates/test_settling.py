"""What a renewal ends, and what only looked like one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from notifications.certificates.models import MISSED, Raised, Watch
from notifications.certificates.settling import remove
from notifications.certificates.verdicts import Verdict
from notifications.deaths.follow import follow
from notifications.models import NotificationEvent
from notifications.queue import ends
from tests.certificates.authority import NOW, Authority, Issued
from tests.certificates.support import alerts, days, look, seen, texts, watch
from tests.fixtures import Configure
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db
CA = Authority()
A = CA.issue("www.example.com", since=NOW)  # until 90 days later
B = CA.issue("www.example.com", since=NOW + days(60))
HOUR = timedelta(hours=1)
EVENTS = NotificationEvent.objects


@pytest.fixture
def told(configure: Configure) -> None:
    """Slack's alerts go on to Email when they die; both are told what is solved."""
    chat = channel(Script())
    configure(
        CHANNELS={"Slack": chat, "Email": chat},
        ESCALATION={"Slack": "Email:ops@example.com"},
        SOLVED_ON=["Slack", "Email"],
    )


def show(one: Watch, at: datetime, *issued: Issued) -> None:
    look(at, (one, seen(at, *issued, place=one.target)))


def warnings() -> list[str]:
    return [event.status for event in alerts(type="ExpirationWarning")]


def solved() -> list[str]:
    return [str(event.dedup_key).removeprefix("solved:") for event in alerts(type="Solved")]


def escalated() -> tuple[NotificationEvent, NotificationEvent]:
    """(the alert that died on Slack, the one that was raised on Email in its place)"""
    origin = EVENTS.get(channel="Slack")
    EVENTS.filter(pk=origin.pk).update(status="dead", retry_count=4, last_error="HTTP 404")
    follow(EVENTS.all(), [origin.pk])
    return origin, EVENTS.get(channel="Email")


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_raised_in_an_alerts_place_is_what_counts_when_its_certificate_returns(
    arrived: bool, told: None
) -> None:
    one = watch()
    show(one, NOW + days(61), A)
    origin, raised = escalated()
    EVENTS.filter(pk=origin.pk).dismiss(by="anna", reason="the channel is gone")
    if arrived:
        EVENTS.filter(pk=raised.pk).update(status="sent", sent_at=NOW)
    show(one, NOW + days(62), B)
    assert solved() == [raised.pk] * arrived
    assert warnings() == ["read", "sent" if arrived else "read"]
    show(one, NOW + days(63), A)
    assert warnings()[2:] == ["pending"], "nobody knows of it any more"


def test_what_was_deleted_in_between_breaks_no_chain(told: None) -> None:
    one = watch()
    show(one, NOW + days(61), A)
    origin, raised = escalated()
    EVENTS.filter(pk=raised.pk).update(status="sent", sent_at=NOW)
    origin.delete()
    show(one, NOW + days(62), B)
    assert solved() == [raised.pk]


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_settled_and_deleted_is_raised_anew(arrived: bool, told: None) -> None:
    one = watch()
    show(one, NOW + days(61), A)
    if arrived:
        EVENTS.update(status="sent", sent_at=NOW)
    show(one, NOW + days(62), B)
    EVENTS.all().delete()
    show(one, NOW + days(63), A)
    assert warnings() == ["pending"]


def test_what_ended_long_ago_is_solved_once_it_is_renewed(told: None) -> None:
    one = watch()
    show(one, NOW + days(91), A)
    EVENTS.update(status="sent", sent_at=NOW)
    ends.keep_up(NOW + days(150), beside_certctl=False)
    late = CA.issue("www.example.com", since=NOW + days(150))
    show(one, NOW + days(151), late)
    assert len(solved()) == 1


def test_a_deployment_in_several_steps_is_a_renewal_in_the_end(told: None) -> None:
    """Node after node, and one rolled back: after a while nobody shows the old one any more."""
    one, at = watch(), NOW + days(89.5)
    show(one, at, A)
    EVENTS.update(status="sent", sent_at=NOW)
    for issued in (B, A, B):
        at += HOUR / 4
        show(one, at, issued)
    assert warnings() == ["sent", "pending"]
    for _ in range(MISSED - 1):
        assert warnings()[1] == "pending"
        at += HOUR / 4
        show(one, at, B)
    assert warnings() == ["sent", "read"]


@pytest.mark.parametrize("hours", [-2, -400 * 24])
def test_a_clock_that_was_ahead_delays_a_renewal_and_no_more(hours: float) -> None:
    one, at = watch(), NOW + days(61)
    show(one, at - hours * HOUR, A)
    for n in range(MISSED + 1):
        show(one, at + n * HOUR, B)
    assert set(warnings()) <= {"read"}


def test_new_certificates_without_end_raise_none_without_end() -> None:
    """One node keeps the old one, another makes a new one each time."""
    one, at = watch(), NOW + days(61)
    for n in range(20):
        at += HOUR / 4
        show(one, at, A)
        at += HOUR / 4
        show(one, at, CA.issue("www.example.com", since=NOW + days(60) + n * HOUR))
    assert warnings() == ["read", "pending"]


def test_a_fault_that_is_there_all_day_is_told_whatever_else_comes_and_goes() -> None:
    """Two nodes behind one name: both are wrong, one in another way, too."""
    one = watch()
    for n in range(5):
        at = NOW + n * 12 * HOUR
        found = [Verdict.WRONG_NAME, Verdict.INCOMPLETE_CHAIN][: 1 + n % 2]
        look(at, (one, seen(at, A, verdicts=found)))
    assert texts() == ["The certificate of www.example.com is for other names than the one it was asked for."]


def test_a_fault_begins_anew_where_the_certificate_was_gone() -> None:
    one = watch()
    wrong = [Verdict.WRONG_NAME]
    for day, issued in ((1, A), (2, None), (11, A), (11.2, A)):
        at = NOW + days(day)
        look(at, (one, seen(at, *([issued] if issued else []), verdicts=wrong)))
    assert texts() == []


def test_of_two_that_a_file_held_before_each_is_told_of_where_it_is_shown() -> None:
    newest = CA.issue("www.example.com", since=NOW + days(80))
    file, first, second = watch("/etc/ssl/web.pem"), watch("one.example.com"), watch("two.example.com")
    for day, issued in ((1, A), (61, B), (81, newest)):
        show(file, NOW + days(day), issued)
    at = NOW + days(82)
    shown = ((first, A), (second, B), (file, newest))
    look(at, *((each, seen(at, held, place=each.target)) for each, held in shown))
    [event] = alerts(type="DeploymentFailure")
    assert event.message.startswith("At 2 places a certificate was renewed and not reloaded.")


def names(*numbers: int) -> list[str]:
    return [f"host-{n}.example.com" for n in numbers]


@pytest.mark.parametrize(
    ("new", "renewed"),
    [
        (names(*range(105), *range(200, 215)), False),
        (names(*range(119, -1, -1)), True),
        (names(*range(120)), True),
        (names(*range(121)), False),
    ],
    ids=["others", "another order", "the same", "one more: not certain"],
)
def test_of_more_names_than_are_kept_the_same_ones_are_certain(new: list[str], renewed: bool) -> None:
    old = CA.issue(*names(*range(120)), since=NOW)
    one = watch()
    show(one, NOW + days(61), old)
    show(one, NOW + days(62), CA.issue(*new, since=NOW + days(60)))
    assert warnings()[0] == ("read" if renewed else "pending")


def test_a_watch_that_is_removed_settles_also_what_it_showed_once() -> None:
    server, folder = watch(), watch("/etc/ssl/certs")
    at = NOW + days(61)
    look(at, *((each, seen(at, A, place=each.target)) for each in (server, folder)))
    look(at + HOUR, (folder, seen(at, place=folder.target)), (server, seen(at, B)))
    assert warnings() == ["pending"], "in the folder it has no successor"
    remove([folder.pk])
    assert warnings() == ["read"]


def test_what_is_raised_says_since_when_it_is_settled() -> None:
    one = watch()
    show(one, NOW + days(61), A)
    show(one, NOW + days(62), B)
    [row] = Raised.objects.filter(what="ends:33%")
    assert (row.settled_at, row.undone_at) == (NOW + days(62), None)
    show(one, NOW + days(63), A)
    row.refresh_from_db()
    assert row.undone_at == NOW + days(63)


def test_certctl_says_nothing_of_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed in its table, and never deployed: that is the case to tell of."""
    from notifications.models import certctl, relevance

    one = watch()
    show(one, NOW + days(91), A)
    event = alerts()[0]
    known: dict[str, Any] = {str(event.certificate_id): certctl.Certificate(NOW + days(150), NOW + days(60))}
    monkeypatch.setattr(certctl, "certificates", lambda ids: known)
    assert event.certificate_id == "www.example.com"
    assert relevance.renewed([event]) == {}
    assert EVENTS.all().withdraw(by="system", via="worker").changed == 0


def test_names_that_differ_in_case_alone_are_the_same() -> None:
    one, now = watch(), NOW + days(61)
    show(one, now, CA.issue("WWW.Example.com", since=NOW))
    assert warnings() == ["pending"]
    show(one, now + HOUR, CA.issue("www.example.com", "example.com", since=now))
    assert warnings() == ["read"]
