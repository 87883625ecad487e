"""What was delivered and is solved is told: to the provider under the alert's own key, to people who ask."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from notifications import conf, delivery
from notifications.certificates import watcher
from notifications.certificates.models import Watch
from notifications.models import Deadline, Escalation, NotificationEvent, Status
from notifications.models.solving import SOLVED_TYPE
from notifications.notifiers.loading import load
from notifications.queue import opened
from notifications.reporting import words
from notifications.reporting.preview import preview
from tests.certificates.authority import Authority
from tests.certificates.support import look, seen, watch
from tests.factories import ago, attempt, failed, read, sent
from tests.fixtures import Configure
from tests.notifiers.support import OPSGENIE, PAGERDUTY
from tests.receiver import Answer, HttpReceiver
from tests.renewals import about, certificate, renew
from tests.scripted import Script, channel

pytestmark = pytest.mark.django_db
EVENTS = NotificationEvent.objects
OLD = timedelta(days=89)


@pytest.fixture
def pagerduty(receiver: HttpReceiver, configure: Configure) -> HttpReceiver:
    receiver.always(Answer(202, body=PAGERDUTY.body))
    chat = channel(Script())
    configure(CHANNELS={"PagerDuty": PAGERDUTY.options(receiver.url("")), "Slack": chat, "Email": chat})
    return receiver


def actions(receiver: HttpReceiver) -> list[tuple[str, str]]:
    return [(r.json["event_action"], r.json["dedup_key"]) for r in receiver.requests]


def solved(**fields: Any) -> list[NotificationEvent]:
    return list(EVENTS.filter(type=SOLVED_TYPE, **fields).order_by("created_at", "pk"))


def test_a_page_resolves_itself_when_the_certificate_is_seen_renewed(
    pagerduty: HttpReceiver, configure: Configure
) -> None:
    """The story: watched, raised, delivered, renewed, resolved. Slack is told where it asks, and once."""
    configure(SOLVED_ON=["slack"])
    authority, now = Authority(), ago(hours=1)
    old = authority.issue("www.example.com", since=now - OLD)
    new = authority.issue("www.example.com", since=now)
    one = watch(notify=["PagerDuty:ops", "Slack:#pki", "Email:ops@example.com"])
    look(now, (one, seen(now, old)))
    assert delivery.send_pending().sent == 3
    page = EVENTS.get(channel="PagerDuty")
    for minutes in (10, 20):
        at = now + timedelta(minutes=minutes)
        look(at, (one, seen(at, new)))
    assert {event.channel for event in solved()} == {"PagerDuty", "Slack"}
    assert delivery.send_pending().sent == 2
    assert actions(pagerduty) == [("trigger", page.pk), ("resolve", page.pk)]
    [told] = solved(channel="Slack")
    first, _, ends = told.message.partition("\n\n")
    serial = f"{new.certificate.serial_number:x}"
    assert first.startswith(f"Solved: www.example.com was renewed: serial {serial}, valid until ")
    assert ends.startswith("It ends: www.example.com expires on ")
    assert all(row.settled for row in Deadline.objects.all())


@pytest.mark.parametrize("ended", ["sent", "dead"])
def test_what_a_worker_had_in_hand_when_the_renewal_was_seen_is_settled_later(
    ended: str, pagerduty: HttpReceiver
) -> None:
    authority, now = Authority(), ago(hours=1)
    old = authority.issue("www.example.com", since=now - OLD)
    new = authority.issue("www.example.com", since=now)
    one, other = (watch(name, notify=[f"PagerDuty:{name}"]) for name in ("www.example.com", "still.there"))
    look(now, (one, seen(now, old)), (other, seen(now, authority.issue("still.there", since=now - OLD))))
    EVENTS.update(leased_until=ago(hours=-1))
    look(ago(minutes=10), (one, seen(now, new)))
    Watch.objects.update(next_check_at=ago(hours=-1))
    event, another = EVENTS.get(recipient="www.example.com"), EVENTS.get(recipient="still.there")
    assert (event.status, another.status, solved()) == ("pending", "pending", [])
    EVENTS.update(status=ended, leased_until=None)
    for _ in range(2):
        watcher.check_due()
    event.refresh_from_db()
    another.refresh_from_db()
    assert event.withdrawn == (ended == "dead")
    assert [one.dedup_key for one in solved()] == [f"solved:{event.pk}"] * (ended == "sent")
    assert another.status == ended, "its certificate is shown as ever"


@pytest.mark.parametrize("make", [sent, read])
def test_each_alert_that_arrived_is_solved_once(make: Any, pagerduty: HttpReceiver) -> None:
    old = certificate()
    event = about(old, make=make, channel="pagerduty")
    about(certificate(), make=make, channel="PagerDuty")  # not renewed
    about(old, make=make, channel="PagerDuty", type="RenewalFailure")
    about(old, make=make, channel="Slack")  # which did not ask
    renew(old)
    assert [EVENTS.all().solve() for _ in range(2)] == [1, 0]
    [over] = solved()
    assert (over.channel, over.recipient, over.dedup_key) == (
        "pagerduty",
        event.recipient,
        f"solved:{event.pk}",
    )
    delivery.send_pending()
    assert actions(pagerduty) == [("resolve", event.pk)]


def test_one_that_may_have_arrived_is_solved_when_it_is_withdrawn(pagerduty: HttpReceiver) -> None:
    """Ending what is not open does nothing there; leaving it open wakes somebody."""
    old = certificate()
    doubtful, certain = (about(old, make=failed, channel="PagerDuty") for _ in range(2))
    attempt(doubtful, "unknown")
    attempt(certain, "transient")
    renew(old)
    assert delivery.retry_failed().withdrawn == 2
    delivery.send_pending()
    assert actions(pagerduty) == [("resolve", doubtful.pk)]


def test_it_is_retried_dead_lettered_and_escalated_as_any_other(
    pagerduty: HttpReceiver, configure: Configure
) -> None:
    configure(ESCALATION={"PagerDuty": "Email:ops@example.com"}, MAX_ATTEMPTS=2)
    old = certificate()
    event = about(old, make=sent, channel="PagerDuty")
    renew(old)
    EVENTS.all().solve()
    pagerduty.always(503)
    assert delivery.send_pending().rescheduled == 1
    EVENTS.filter(type=SOLVED_TYPE).update(next_retry_at=ago(minutes=1))
    assert delivery.retry_failed().dead == 1
    assert actions(pagerduty) == [("resolve", event.pk)] * 2
    raised = EVENTS.get(pk=Escalation.objects.get().raised_id)
    assert (raised.type, raised.channel) == (SOLVED_TYPE, "Email")
    assert raised.message.startswith("Not delivered on PagerDuty")
    pagerduty.always(Answer(202, body=PAGERDUTY.body))
    EVENTS.get(dedup_key=f"solved:{event.pk}").requeue(by="ada")
    assert delivery.send_pending().sent == 2
    assert actions(pagerduty)[-1] == ("resolve", event.pk)


def test_what_the_provider_refuses_is_no_success(pagerduty: HttpReceiver) -> None:
    """Here nothing else is out."""
    old = certificate()
    about(old, make=sent, channel="PagerDuty")
    renew(old)
    EVENTS.all().solve()
    pagerduty.always(400)
    assert delivery.send_pending().dead == 1


def test_where_it_is_not_known_which_alert_it_ends_it_waits(
    pagerduty: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = certificate()
    event = about(old, make=sent, channel="PagerDuty")
    renew(old)
    EVENTS.all().solve()
    monkeypatch.setattr(opened, "solves", None)
    assert delivery.send_pending().rescheduled == 1
    assert not pagerduty.requests
    monkeypatch.undo()
    EVENTS.filter(type=SOLVED_TYPE).update(next_retry_at=ago(minutes=1))
    assert delivery.retry_failed().sent == 1
    assert actions(pagerduty) == [("resolve", event.pk)]


def test_what_is_shown_of_it_is_what_is_sent(pagerduty: HttpReceiver) -> None:
    old = certificate()
    event = about(old, make=sent, channel="PagerDuty")
    renew(old)
    EVENTS.all().solve()
    [over] = solved()
    shown = preview(over, "PagerDuty", conf.current())
    assert (shown.fault, json.loads(shown.text)["event_action"]) == ("", "resolve")
    assert event.pk in shown.text
    notifier = load("PagerDuty", conf.current().channels["PagerDuty"], 30)
    message = words.error(over) or over.message
    assert notifier.resolves
    assert message.startswith("Solved: ")


def test_opsgenie_is_closed_by_the_alias(receiver: HttpReceiver, configure: Configure) -> None:
    receiver.always(Answer(202, body=OPSGENIE.body))
    configure(CHANNELS={"OpsGenie": OPSGENIE.options(receiver.url(""))})
    old = certificate()
    event = about(old, make=sent, channel="OpsGenie")
    renew(old)
    EVENTS.all().solve()
    assert delivery.send_pending().sent == 1
    [close] = receiver.requests
    assert close.path == f"/v2/alerts/{event.pk}/close?identifierType=alias"


def test_what_was_raised_in_an_alerts_place_goes_with_it(pagerduty: HttpReceiver) -> None:
    """An escalation: the dead letter is withdrawn, and what arrived in its place is resolved."""
    authority, now = Authority(), ago(hours=1)
    old = authority.issue("www.example.com", since=now - OLD)
    new = authority.issue("www.example.com", since=now)
    one = watch(notify=["Email:ops@example.com"])
    look(now, (one, seen(now, old)))
    event = EVENTS.get()
    EVENTS.update(status=Status.DEAD)
    raised = about(certificate(), make=sent, channel="PagerDuty", dedup_key=f"escalation:{event.pk}")
    known = Deadline.objects.get(notification=event)
    Deadline.objects.filter(notification=raised).update(fingerprints=known.fingerprints)
    Escalation.objects.create(notification=event, raised=raised, at=now)
    at = now + timedelta(minutes=10)
    look(at, (one, seen(at, new)))
    assert words.kind(EVENTS.get(pk=event.pk)) == "withdrawn"
    assert [over.dedup_key for over in solved()] == [f"solved:{raised.pk}"]
    assert Watch.objects.count() == 2
