"""Watches and certificates in the admin: who may see and do what, and what outsiders' texts cannot do."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from notifications.certificates.models import Certificate, Watch
from notifications.models import NotificationEvent
from tests.certificates.authority import Authority
from tests.certificates.support import look, seen, watch

pytestmark = pytest.mark.django_db
WATCHES = "/admin/notifications_certificates/watch/"
CERTIFICATES = "/admin/notifications_certificates/certificate/"
CA = Authority()
DAY = timedelta(days=1)


def client(*permissions: str) -> Client:
    """Of a staff user with these; of a superuser with "all"."""
    number = User.objects.count()
    if permissions == ("all",):
        user = User.objects.create_superuser(f"all-{number}")
    else:
        user = User.objects.create_user(f"user-{number}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    signed_in = Client()
    signed_in.force_login(user)
    return signed_in


def made(name: str = "www.example.com", days: float = 10, **fields: Any) -> Watch:
    now, one = timezone.now(), watch(name, **fields)
    issued = CA.issue(name, since=now.replace(microsecond=0) - (90 - days) * DAY)
    look(now, (one, seen(now, issued, place=one.target)))
    return one


FORM = {
    "target": "New.example.com",
    "notify": "Slack:#pki\nEmail:ops@example.com",
    "at": "30d, 7d",
    "interval": "6:00:00",
}


@pytest.mark.parametrize(
    ("permissions", "lists", "adds", "changes", "deletes", "looks"),
    [
        ((), 403, 403, 403, 403, False),
        (("view_notificationevent", "requeue_notificationevent"), 403, 403, 403, 403, False),
        (("view_watch",), 200, 403, 403, 403, False),
        (("view_watch", "check_watch"), 200, 403, 403, 403, True),
        (("view_watch", "add_watch"), 200, 302, 403, 403, False),
        (("view_watch", "change_watch"), 200, 403, 302, 403, False),
        (("all",), 200, 302, 302, 302, True),
    ],
)
def test_watching_has_permissions_of_its_own(
    permissions: tuple[str, ...], lists: int, adds: int, changes: int, deletes: int, looks: bool
) -> None:
    one, http = made(), client(*permissions)
    before = Watch.objects.get(pk=one.pk).next_check_at
    assert http.get(WATCHES).status_code == lists
    http.post(WATCHES, {"action": "look_now", "_selected_action": [one.pk]})
    assert (Watch.objects.get(pk=one.pk).next_check_at < before) is looks
    assert http.post(f"{WATCHES}add/", FORM).status_code == adds
    changed = FORM | {"target": one.target}
    assert http.post(f"{WATCHES}{one.pk}/change/", changed).status_code == changes
    assert http.post(f"{WATCHES}{one.pk}/delete/", {"post": "yes"}).status_code == deletes


def test_a_watch_is_added_as_on_the_command_line() -> None:
    http = client("all")
    assert http.post(f"{WATCHES}add/", FORM).status_code == 302
    one = Watch.objects.get()
    assert (one.target, one.notify, one.at) == (
        "new.example.com:443",
        ["Slack:#pki", "Email:ops@example.com"],
        ["30d", "7d"],
    )
    page = http.get(f"{WATCHES}{one.pk}/change/").content.decode()
    assert "Slack:#pki\nEmail:ops@example.com" in page
    assert "not looked at yet" in page
    for field, value, said in (
        ("target", "new.EXAMPLE.com:443", "This is watched already."),
        ("target", "*.example.com", "A wildcard is no host"),
        ("notify", "#pki", "Write whom to tell as Channel:recipient"),
        ("at", "soon", "A threshold is a share of the lifetime"),
        ("interval", "1", "An interval is from a minute to 30 days."),
    ):
        answer = http.post(f"{WATCHES}add/", FORM | {"target": "two.example.com", field: value})
        assert said in answer.content.decode()
    assert Watch.objects.count() == 1


def test_what_serves_a_file_is_named_there_too() -> None:
    http = client("all")
    form = FORM | {"target": "/etc/ssl/shop.pem", "served_by": "Shop.example.com\nshop.example.com:443\n"}
    unwatched = "shop.example.com:443 is not watched: nobody sees what it serves."
    answer = http.post(f"{WATCHES}add/", form, follow=True)
    assert unwatched[1:] in answer.content.decode()
    one = Watch.objects.get()
    assert one.served_by == ["shop.example.com:443"]
    page = http.get(f"{WATCHES}{one.pk}/change/").content.decode()
    assert f"<bdi>{unwatched}</bdi>" in page
    assert ">\nshop.example.com:443</textarea>" in page
    for target, value, said in (
        ("two.example.com", "shop.example.com", "Only a watch of files says what serves them."),
        ("/etc/ssl/two.pem", "*.example.com", "A wildcard is no host"),
        ("/etc/ssl/two.pem", "/etc/ssl", "What serves a file is an endpoint"),
        ("*.example.com", "shop.example.com", "A wildcard is no host"),
    ):
        page = http.post(f"{WATCHES}add/", form | {"target": target, "served_by": value}).content.decode()
        assert said in page
        assert page.count('class="errorlist"') == 1
    watch("shop.example.com")
    for viewer in (http, client("view_watch")):
        page = viewer.get(f"{WATCHES}{one.pk}/change/").content.decode()
        assert "not watched" not in page
        assert "shop.example.com:443" in page


def test_the_list_tells_how_things_stand() -> None:
    made("www.example.com", 10.01)
    page = client("view_watch").get(WATCHES).content.decode()
    for text in ("www.example.com:443", "<bdi>www.example.com</bdi>", "ends in 10 days", "Slack:#pki"):
        assert text in page


def test_the_number_of_queries_does_not_grow_with_the_list(django_assert_max_num_queries: Any) -> None:
    http = client("view_watch", "view_certificate")
    for n in range(20):
        made(f"host-{n}.example.com", 10 + n)
    one = Certificate.objects.first()
    for address, most in (
        (WATCHES, 15),
        (CERTIFICATES, 15),
        (f"{CERTIFICATES}calendar/", 20),
        (f"{CERTIFICATES}{one.pk}/change/", 20),
        (f"{WATCHES}{Watch.objects.first().pk}/change/", 20),
    ):
        with django_assert_max_num_queries(most):
            assert http.get(address).status_code == 200


def test_the_calendar_has_what_ends_when() -> None:
    """Weeks begin on Monday, by the site's clock; what is not seen any more ends nobody's service."""
    assert client("view_watch").get(f"{CERTIFICATES}calendar/").status_code == 403
    for name, left in (("soon.example.com", 1), ("over.example.com", -2), ("late.example.com", 400)):
        made(name, left)
    for n in range(12):
        made(f"host-{n}.example.com", 50)
    gone = made("gone.example.com", 50)
    gone.delete()
    http = client("view_certificate")
    for by, later in (("week", 1), ("month", 0)):
        page = http.get(f"{CERTIFICATES}calendar/", {"by": by}).content.decode()
        assert "<bdi>soon.example.com</bdi>" in page
        assert "1 has ended and is still shown" in page
        assert "and 4 more" in page
        assert "gone.example.com" not in page
        assert ("1 ends later" in page) == bool(later)
    [query] = re.findall(r'href="[^"?]*\?([^"]*)">and 4 more', page)
    assert "12 certificates" in http.get(f"{CERTIFICATES}?{unescape(query)}").content.decode()
    for ends, found in (("7d", 1), ("90d", 13), ("over", 1)):
        assert (
            f"{found} certificate" in http.get(CERTIFICATES, {"ends": ends, "seen": "now"}).content.decode()
        )
    assert "1 certificate" in http.get(CERTIFICATES, {"seen": "gone"}).content.decode()


@pytest.mark.parametrize("sees", [False, True])
def test_only_who_sees_notifications_is_led_to_them(sees: bool) -> None:
    made()
    http = client("view_certificate", *(["view_notificationevent"] if sees else []))
    page = http.get(f"{CERTIFICATES}{Certificate.objects.get().pk}/change/").content.decode()
    assert ("/admin/notifications/notificationevent/" in page) is sees
    assert "1 alert was raised: 1 on the way." in page


def test_a_certificates_page_says_where_it_was_seen_and_what_was_raised() -> None:
    made("www.example.com", 10.01)
    certificate = Certificate.objects.get()
    assert client("view_watch").get(CERTIFICATES).status_code == 403
    http = client("view_certificate")
    assert "<bdi>www.example.com</bdi>" in http.get(CERTIFICATES).content.decode()
    assert "1 certificate" in http.get(CERTIFICATES, {"q": "WWW.example"}).content.decode()
    assert "0 certificates" in http.get(CERTIFICATES, {"q": "other"}).content.decode()
    page = http.get(f"{CERTIFICATES}{certificate.pk}/change/").content.decode()
    for text in (
        "<bdi>www.example.com:443</bdi>",
        "15 % left",
        "<bdi>#pki</bdi> on <bdi>Slack</bdi>",
        "Pending",
    ):
        assert text in page
    everything = client("all")
    assert everything.get(f"{CERTIFICATES}add/").status_code == 403
    assert everything.post(f"{CERTIFICATES}{certificate.pk}/delete/", {"post": "yes"}).status_code == 403
    assert everything.post(f"{CERTIFICATES}{certificate.pk}/change/", {}).status_code == 403


def test_an_outsiders_name_stays_in_its_place() -> None:
    one = made()
    Certificate.objects.update(
        names=["<script>alert(1)</script>\u202egnp.exe" + "x" * 1000], issuer="\u2067<b>"
    )
    certificate = Certificate.objects.get()
    http = client("all")
    for address in (
        WATCHES,
        f"{WATCHES}{one.pk}/change/",
        CERTIFICATES,
        f"{CERTIFICATES}{certificate.pk}/change/",
    ):
        page = http.get(address).content.decode()
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "\u2067" not in page
        assert "x" * 200 not in page


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("sent", "alert was raised: 1 arrived. The last reached #pki on Slack on"),
        ("dead", "alert was raised: 1 could not be delivered."),
        ("", "Nobody was warned yet. The next look does it."),
        ("nobody", "Nobody was warned, and nobody will be: no watch that sees it says whom to tell."),
    ],
)
def test_the_answer_about_an_expired_one_is_loud(status: str, said: str) -> None:
    """Whatever became of its alerts: it is red, an alert for screen readers, and says since when."""
    made(days=-2, notify=["Slack:#pki"] if status in ("sent", "dead") else [])
    Watch.objects.update(notify=[] if status == "nobody" else ["Slack:#pki"])
    NotificationEvent.objects.update(status=status, sent_at=timezone.now())
    page = client("all").get(f"{CERTIFICATES}{Certificate.objects.get().pk}/change/").content.decode()
    [answer] = re.findall(r'<p class="nf-verdict nf-problem nf-dead" role="alert">(.*?)</p>', page)
    assert re.sub(r"<[^>]+>", "", answer).startswith("It expired 2 days ago, and is still shown. ")
    assert said in unescape(answer)
