"""What programs are told of certificates: REST, assistants, Prometheus. One set of facts for all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker
from rest_framework.test import APIClient

from notifications.api.shapes import object_of
from notifications.certificates import api, metrics
from notifications.certificates.models import Certificate, Watch
from notifications.certificates.readings import Reading
from notifications.models import NotificationEvent
from tests.api.support import SLACK, client_of, client_with, faults
from tests.assistant import Speak, calls, stdio
from tests.certificates.authority import Authority
from tests.certificates.support import days, look, seen, watch
from tests.fixtures import Configure
from tests.reporting.promtool import promtool
from tests.reporting.scraped import page, samples, value

__all__ = ["stdio"]

pytestmark = pytest.mark.django_db
CA = Authority()
PAGERDUTY = {
    "NOTIFIER": "notifications.notifiers.pagerduty.PagerDutyNotifier",
    "ROUTING_KEY": "k" * 32,
}
CERTIFICATES, WATCHES = "/api/v1/certificates", "/api/v1/watches"


def caller(*permissions: str) -> APIClient:
    user = User.objects.create_user(f"user-{User.objects.count()}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return client_of(user)


def a_site() -> tuple[Watch, str]:
    """(a watch whose certificate was told of and replaced, that one's fingerprint); two are there now."""
    now = timezone.now()
    old = CA.issue("www.example.com", since=now - days(80))
    new = CA.issue("www.example.com", "example.com", since=now - days(1))
    one, other = watch(), watch("over.example.com", notify=["Slack:#pki", "Email:ops@example.com"])
    look(now - days(1), (one, seen(now - days(1), old)))
    over = CA.issue("over.example.com", since=now - days(91))
    look(now, (one, seen(now, new)), (other, seen(now, over, place=other.target)))
    look(now, (watch("down.example.com"), Reading(problem="no connection: connection refused")))
    watch("new.example.com")
    NotificationEvent.objects.filter(recipient="#pki").update(status="sent", sent_at=now)
    NotificationEvent.objects.filter(recipient="ops@example.com").update(status="dead", last_error="SMTP 550")
    return one, old.fingerprint


def valid(shape: dict[str, Any], found: Any) -> None:
    strict = object_of(shape, additionalProperties=False)
    Draft202012Validator(strict, format_checker=FormatChecker()).validate(found)


def test_rest_tells_of_certificates_and_watches() -> None:
    one, old = a_site()
    rest = caller("view_certificate", "view_watch")
    listed = rest.get(CERTIFICATES, {"seen": "now"}).json()
    assert (listed["total"], listed["page"], listed["per_page"]) == (2, 1, 50)
    assert [row["names"][0] for row in listed["data"]] == ["over.example.com", "www.example.com"]
    assert [row["seen_at"] for row in listed["data"]] == [["over.example.com:443"], [one.target]]
    for row in listed["data"]:
        valid(api.LISTED, row)
    found = rest.get(f"{CERTIFICATES}/{old.upper()}").json()
    valid(api.WHOLE, found)
    assert (found["seen_at"], [row["current"] for row in found["sightings"]]) == ([], [False])
    [alert] = found["alerts"]
    assert (alert["what"], alert["text"], alert["status"], alert["attempts"]) == (
        "ends:15%",
        "15 % left",
        "sent",
        1,
    )
    assert alert["delivered_at"]
    assert found["warned"].startswith("1 alert was raised: 1 arrived. The last reached #pki on Slack on 20")
    over = rest.get(f"{CERTIFICATES}/{listed['data'][0]['fingerprint']}").json()
    assert over["warned"].startswith(
        "It expired 1 day ago, and is still shown. 2 alerts were raised: 1 arrived, 1 could not be delivered."
    )
    assert {(row["status"], row["error"]) for row in over["alerts"]} == {("sent", None), ("dead", "SMTP 550")}
    watch("/etc/ssl/shop.pem", served_by=["Shop.example.com"])
    [kept] = rest.get(WATCHES, {"target": "/etc/ssl/shop.pem"}).json()["data"]
    assert kept["served_by"] == ["shop.example.com:443"]
    watches = rest.get(WATCHES).json()["data"]
    for row in watches:
        valid(api.WATCH, row)
    assert {row["target"]: row["state"] for row in watches} == {
        "/etc/ssl/shop.pem": "not looked at yet",
        "down.example.com:443": "no connection: connection refused",
        "new.example.com:443": "not looked at yet",
        "over.example.com:443": "has expired",
        "www.example.com:443": "fine",
    }


def test_what_was_renewed_is_withdrawn_or_solved_and_says_so(configure: Configure) -> None:
    configure(CHANNELS={"PagerDuty": PAGERDUTY, "Slack": SLACK})
    now, one = timezone.now(), watch(notify=["PagerDuty:oncall", "Slack:#pki"])
    old, new = (CA.issue("www.example.com", since=now - days(n)) for n in (80, 1))
    look(now - days(1), (one, seen(now - days(1), old)))
    NotificationEvent.objects.filter(channel="PagerDuty").update(status="sent", sent_at=now)
    look(now, (one, seen(now, new)))
    found = caller("view_certificate").get(f"{CERTIFICATES}/{old.fingerprint}").json()
    valid(api.WHOLE, found)
    states = {
        row["channel"]: (row["status"], row["solved"] and row["solved"]["status"]) for row in found["alerts"]
    }
    assert states == {"PagerDuty": ("sent", "pending"), "Slack": ("withdrawn", None)}
    assert "1 arrived, 1 withdrawn, as it was renewed before." in found["warned"]


@pytest.mark.parametrize(
    ("address", "given", "total"),
    [
        (CERTIFICATES, {}, 3),
        (CERTIFICATES, {"seen": "gone"}, 1),
        (CERTIFICATES, {"search": "OVER.example"}, 1),
        (CERTIFICATES, {"search": "100%"}, 0),
        (CERTIFICATES, {"ends_before": timezone.now().isoformat()}, 1),
        (CERTIFICATES, {"ends_after": timezone.now().isoformat()}, 2),
        (CERTIFICATES, {"per_page": 1, "page": 9}, 3),
        (WATCHES, {"search": "example.com"}, 4),
        (WATCHES, {"target": "down.example.com:443"}, 1),
        (WATCHES, {"target": "down.example.com"}, 0),
    ],
)
def test_rest_finds_what_is_asked_for(address: str, given: dict[str, Any], total: int) -> None:
    a_site()
    found = caller("view_certificate", "view_watch").get(address, given).json()
    assert found["total"] == total
    assert len(found["data"]) == (0 if given.get("page") else total)


def test_rest_refuses_what_is_wrong_and_whoever_may_not() -> None:
    rest = caller("view_certificate", "view_watch")
    for address, name, given in (
        (CERTIFICATES, "seen", "soon"),
        (CERTIFICATES, "ends_before", "tomorrow"),
        (CERTIFICATES, "search", "a\x00b"),
        (CERTIFICATES, "per_page", "501"),
        (WATCHES, "page", "0"),
        (WATCHES, "status", "dead"),
    ):
        assert name in faults(rest.get(address, {name: given}))
    assert "x" in faults(rest.get(f"{CERTIFICATES}/{'0' * 64}", {"x": "1"}))
    for address in (f"{CERTIFICATES}/{'0' * 64}", f"{CERTIFICATES}/a/b%00"):
        faults(rest.get(address), 404)
    for address in (CERTIFICATES, WATCHES):
        faults(rest.post(address, {}), 405)
        faults(client_with(None).get(address), 401)
        faults(caller("view_notificationevent").get(address), 403)
    faults(caller("view_watch").get(CERTIFICATES), 403)
    faults(caller("view_certificate").get(WATCHES), 403)


@pytest.mark.django_db(transaction=True)
def test_an_assistant_is_told_the_same(stdio: Speak) -> None:
    _, old = a_site()
    told = caller("view_certificate").get(f"{CERTIFICATES}/{old}").json()
    found, ending, named, down, none, nul = stdio(
        calls(
            ("certctl_get_certificate", {"fingerprint": old}),
            ("certctl_list_certificates", {"ends_within_days": 0}),
            ("certctl_list_certificates", {"search": "www"}),
            ("certctl_list_watches", {"search": "down"}),
            ("certctl_get_certificate", {"fingerprint": "0" * 64}),
            ("certctl_list_watches", {"search": "a\x00b"}),
        )
    )
    assert found == told
    assert [row["names"][0] for row in ending["data"]] == ["over.example.com"]
    assert named["total"] == 1
    assert down["data"][0]["problem"] == "no connection: connection refused"
    assert none.endswith("There is no certificate of that fingerprint.")
    assert nul.endswith("A text has no NUL character in it.")


def test_prometheus_is_told_when_each_ends_and_what_fails(django_assert_max_num_queries: Any) -> None:
    now = timezone.now()
    empty = samples(page())
    assert value(empty, "certctl_certificates", state="seen") == 0
    assert value(empty, "certctl_certificate_last_check_timestamp_seconds") == 0
    a_site()
    Watch.objects.filter(target="new.example.com:443").update(next_check_at=now - timedelta(minutes=20))
    found = samples(page())
    name = "certctl_certificate_not_after_timestamp_seconds"
    ends = {dict(labels)["name"]: at for (metric, labels), at in found.items() if metric == name}
    assert sorted(ends) == ["over.example.com", "www.example.com"]
    assert ends["over.example.com"] == pytest.approx((now - days(1)).timestamp(), abs=60)
    for state, number in (("seen", 2), ("ended", 1)):
        assert value(found, "certctl_certificates", state=state) == number
    for state, number in (("read", 2), ("failing", 1), ("new", 1)):
        assert value(found, "certctl_certificate_watches", state=state) == number
    for outcome, number in (("read", 3), ("failed", 1)):
        assert value(empty, "certctl_certificate_checks_total", outcome=outcome) == 0
        assert value(found, "certctl_certificate_checks_total", outcome=outcome) == number
    assert value(found, "certctl_certificate_check_overdue_seconds") == pytest.approx(1200, abs=60)
    checked = value(found, "certctl_certificate_last_check_timestamp_seconds")
    assert checked == pytest.approx(now.timestamp(), abs=60)
    assert promtool("check", "metrics", given=page()).returncode == 0
    with django_assert_max_num_queries(10):
        list(metrics.families())


def test_the_number_of_series_has_a_bound_and_a_name_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, one = timezone.now(), watch()
    look(now, (one, seen(now, *(CA.issue(f"host-{n}.example.com", since=now - days(n)) for n in range(5)))))
    Certificate.objects.filter(names=["host-4.example.com"]).update(names=['a"b\\c\n\u202e' + "x" * 300])
    monkeypatch.setattr(metrics, "MOST_SERIES", 3)
    name = "certctl_certificate_not_after_timestamp_seconds"
    labels = [dict(labels)["name"] for metric, labels in samples(page()) if metric == name]
    assert len(labels) == 3
    assert all(len(label) <= 100 and label.isprintable() for label in labels)
    assert value(samples(page()), "certctl_certificates", state="seen") == 5


def test_without_its_tables_the_rest_of_the_page_stays() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE notification_watches RENAME TO elsewhere")
    found = samples(page())
    assert value(found, "certctl_notifications", status="dead") == 0
    assert not any(name.startswith("certctl_certificate") for name, _ in found)
