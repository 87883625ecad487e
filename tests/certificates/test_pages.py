"""The pages of certificates in a real browser: they fit, axe accepts them, and they answer.

UPDATE_SCREENSHOTS=1 also writes the picture in docs/images; SCREENSHOTS=<folder> writes all of them there.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

from notifications.certificates.models import Certificate, Watch
from notifications.certificates.readings import Reading
from notifications.certificates.verdicts import Verdict
from notifications.models import NotificationEvent
from tests.admin.browser import WIDTHS, Open, browser, live_server, look, looked_at, visit
from tests.certificates.authority import Authority, Issued
from tests.certificates.support import look as looks_at
from tests.certificates.support import seen, watch

__all__ = ["browser", "live_server", "look", "visit"]
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "certificate.png"
APP = "/admin/notifications_certificates/"
CA = Authority()
LONG_ENDPOINT = "europe-west." * 12 + "shop.example.com"  # which nobody watches
LONG_TARGET = "/etc/letsencrypt/live/" + "europe-west-" * 12 + "shop.example.com/fullchain.pem"
DAY = timedelta(days=1)
NAMES = ["shop", "api", "vpn", "mail", "wiki", "ci", "registry", "ldap", "git", "status"]


def issued(now: datetime, name: str, left: float, lifetime: float = 90) -> Issued:
    ends = now.replace(microsecond=0) + left * DAY
    return CA.issue(name, f"www.{name}", since=ends - lifetime * DAY, until=ends)


def a_site() -> tuple[Watch, Certificate]:
    """Some that are well, some that are not; one that was told of thrice, and what became of that."""
    now = timezone.now()
    ends = (61, 52, 40.2, 40, 39.8, 24, 12.1, 75, 200, 26)
    looked = []
    for n, (name, left) in enumerate(zip(NAMES, ends, strict=True)):
        one = watch(f"{name}.example.com")
        verdicts = [Verdict.INCOMPLETE_CHAIN] if n == 3 else []
        looked.append(
            (one, seen(now, issued(now, f"{name}.example.com", left), place=one.target, verdicts=verdicts))
        )
    many = [issued(now, f"host-{n}.example.com", 31 + n / 20) for n in range(40)]
    folder = watch("/etc/letsencrypt/live")
    looked.append((folder, seen(now, *many, place="/etc/letsencrypt/live/hosts/fullchain.pem")))
    down = watch("down.example.com")
    looked.append((down, Reading(problem="no connection: connection refused")))
    looks_at(now, *looked)
    watch("new.example.com", notify=[])
    shop = watch("checkout.example.com", notify=["Slack:#pki", "Email:ops@example.com"])
    ending = issued(now, "checkout.example.com", 3.2)
    for days in (20, 12, 0):
        looks_at(now - days * DAY, (shop, seen(now - days * DAY, ending, place=shop.target)))
    certificate = Certificate.objects.get(fingerprint=ending.fingerprint)
    events = NotificationEvent.objects.filter(certificate_id="checkout.example.com").order_by(
        "created_at", "channel"
    )
    for event, (status, error) in zip(
        events,
        (
            ("sent", None),
            ("dead", "SMTP 550: mailbox unavailable"),
            ("read", None),
            ("failed", "HTTP 503: busy"),
        ),
        strict=False,
    ):
        NotificationEvent.objects.filter(pk=event.pk).update(
            status=status,
            last_error=error,
            sent_at=event.created_at if status in ("sent", "read") else None,
        )
    return shop, certificate


def test_every_page_fits_and_is_accessible(visit: Open) -> None:
    shop, certificate = a_site()
    pages = {
        "certificates": f"{APP}certificate/",
        "certificate": f"{APP}certificate/{certificate.pk}/change/",
        "weeks": f"{APP}certificate/calendar/",
        "months": f"{APP}certificate/calendar/?by=month",
        "watches": f"{APP}watch/",
        "watch": f"{APP}watch/{shop.pk}/change/",
        "watch-long": f"{APP}watch/{watch(LONG_TARGET, served_by=[LONG_ENDPOINT]).pk}/change/",
    }
    page = visit(pages["certificates"], policy=False)
    for name, address in pages.items():
        page.goto(address)
        if os.environ.get("UPDATE_SCREENSHOTS") == "1" and name == "certificate":
            page.screenshot(path=PICTURE, full_page=True)
        looked_at(page.get_by_role("main"), name, WIDTHS)
