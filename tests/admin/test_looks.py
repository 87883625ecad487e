"""Every page on a telephone and on a screen, in light and in dark: it fits, and axe-core accepts it.

UPDATE_SCREENSHOTS=1 also writes the pictures in docs/images; SCREENSHOTS=<folder> writes all of them there.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page, expect

from notifications.models import BulkOperation, NotificationEvent, Requeue, SweepRun, Tally, Worker
from notifications.models.tallies import COUNTS
from notifications.notifiers.mail.html import html_of
from notifications.notifiers.wording import words_of
from tests.admin.browser import HEIGHT, WIDTHS, Look, Open, assert_accessible, assert_fits, looked_at
from tests.admin.outages import outage
from tests.admin.support import LIST, url
from tests.factories import ago, ahead, attempt, dead, failed, leased, not_delivered, pending, sent
from tests.fixtures import Configure
from tests.notifiers.support import a_message
from tests.reporting.rows import held, swept

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PICTURES = {
    (1280, "light", "dead-letter"): "dead-letter.png",
    (1280, "light", "notification"): "notification.png",
    (1280, "light", "confirmation"): "confirmation.png",
    (1280, "light", "dashboard"): "dashboard.png",
    (375, "dark", "dead-letter"): "dead-letter-phone.png",
}
NOTIFIERS = "notifications.notifiers"
CHANNELS = {
    "Slack": {
        "NOTIFIER": f"{NOTIFIERS}.slack.SlackNotifier",
        "URL": "https://hooks.example.com/T0/B0/secret",
    },
    "Email": {"NOTIFIER": f"{NOTIFIERS}.email.EmailNotifier", "FROM_ADDRESS": "certctl@example.com"},
    "PagerDuty": {"NOTIFIER": f"{NOTIFIERS}.pagerduty.PagerDutyNotifier", "ROUTING_KEY": "k" * 32},
    "Teams": {"NOTIFIER": f"{NOTIFIERS}.teams.TeamsNotifier", "URL": "https://teams.example.com/secret"},
}


def an_ordinary_night() -> NotificationEvent:
    """Some of everything, and one notification with a story."""
    for minute in range(0, 60, 4):
        sent(type="RenewalSuccess", channel="Email", created_at=ago(minutes=minute))
    pending(channel="Slack", recipient="#pki", created_at=ago(seconds=20))
    for n, due in enumerate((ago(seconds=5), ahead(minutes=3, seconds=20)), 1):
        failed(due, channel="Teams", recipient="PKI team", retry_count=n, last_error="HTTP 429: slow down")
    leased(channel="OpsGenie", recipient="pki-oncall", last_error="timed out after 30 s")
    mailbox = "SMTP 550: mailbox unavailable: ops@old.example.com no longer exists; ask the postmaster"
    for n in range(3):
        certificate = f"mc-shop-{n}"
        dead(
            channel="Email",
            retry_count=0,
            last_error=mailbox,
            certificate_id=certificate,
            created_at=ago(hours=n + 1),
        )
    dead(channel="PagerDuty", recipient="pki-oncall", type="Revocation", created_at=ago(minutes=25))
    event = dead(
        channel="Slack",
        recipient="#pki",
        type="RenewalFailure",
        created_at=ago(minutes=70),
        certificate_id="mc-api-prod",
        message="api.example.com: renewal failed, CAA forbids it.\nThe certificate expires in 3 days.",
        last_error="HTTP 404: no_service: the webhook was deleted: create a new one and configure it",
    )
    attempt(event, number=1, started_at=ago(minutes=70), duration_ms=312, status_code=503, reason="server")
    attempt(
        event,
        "unknown",
        number=2,
        started_at=ago(minutes=69),
        duration_ms=30_000,
        reason="unknown",
        error="no answer within 30 s: it may have arrived",
    )
    attempt(
        event,
        "permanent",
        number=3,
        started_at=ago(minutes=67),
        duration_ms=88,
        status_code=404,
        reason="gone",
        error=event.last_error,
    )
    event.requeue(by="alice", via="cli")
    Requeue.objects.update(at=ago(minutes=30))
    NotificationEvent.objects.filter(pk=event.pk).update(
        status="dead", last_error=event.deliveryattempts.last().error
    )
    attempt(
        event,
        "permanent",
        number=1,
        started_at=ago(minutes=29),
        duration_ms=95,
        status_code=404,
        reason="gone",
        error=event.deliveryattempts.last().error,
    )
    return event


def a_week_of_work() -> None:
    """What the dashboard draws: tallies, a hold, sweeps, a worker; and operations that were and are."""
    now = timezone.now()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    zeros = dict.fromkeys(COUNTS, 0)
    for channel, size in (("Email", 40), ("Slack", 18), ("PagerDuty", 3)):
        for n in range(168):
            sent_now, lost = size + (n * 7) % size, (n % 24 == 5) * size // 2
            at = this_hour - timedelta(hours=n)
            counts = {"attempts": sent_now, "age_1": sent_now - 2, "age_4": 2, "milliseconds": 90 * sent_now}
            Tally.objects.create(hour=at, channel=channel, outcome="sent", **{**zeros, **counts})
            if lost:
                Tally.objects.create(
                    hour=at, channel=channel, outcome="transient", **{**zeros, "attempts": lost}
                )
    error = "HTTP 404: no_service: the webhook was deleted"
    held("slack hooks.example.com", channel="Slack", reason="gone", error=error, since=ago(minutes=9))
    counts = {"sent": 12, "rescheduled": 2, "dead": 1, "no_notifier": 0, "released": 0}
    for kind in ("pending", "retry"):
        SweepRun.objects.create(
            kind=kind,
            started_at=ago(seconds=25),
            ended_at=ago(seconds=20),
            claimed=15,
            worker="pki-1:4711",
            **counts,
        )
    Worker.objects.create(name="pki-1:4711", started_at=ago(hours=9), seen_at=ago(seconds=4), in_flight=3)
    done = {"by": "alice", "via": "admin", "kind": "requeue", "requested": 2000, "filters": "status=dead"}
    BulkOperation.objects.create(
        **done,
        changed=1998,
        skips={"changed in the meantime": 2},
        started_at=ago(hours=2),
        ended_at=ago(hours=2),
    )


def test_every_page_fits_and_is_accessible(visit: Open, configure: Configure) -> None:
    configure(CHANNELS=CHANNELS)
    event = an_ordinary_night()
    a_week_of_work()
    running = BulkOperation.objects.create(
        by="bob",
        via="admin",
        kind="read",
        requested=500,
        changed=120,
        started_at=ago(minutes=1),
        stopped_by="bob",
        ended_at=ago(seconds=20),
        reason="the old webhook",
        filters="status=dead",
    )
    page = visit(LIST, policy=False)
    pages = {
        "all": LIST,
        "dead-letter": LIST + "?status=dead",
        "notification": url("change", event),
        "dashboard": LIST + "dashboard/",
        "operations": LIST + "operations/",
        "operation": LIST + f"operations/{running.pk}/",
        "confirmation": LIST + "?status=dead",
    }
    for name, address in pages.items():
        page.goto(address)
        if name == "confirmation":
            page.locator("#action-toggle").check()
            page.keyboard.press("r")
            page.get_by_role("heading", name="Requeue: 5 notifications?").wait_for()
        for (width, theme, pictured), file in PICTURES.items():
            if pictured == name and os.environ.get("UPDATE_SCREENSHOTS") == "1":
                page.emulate_media(color_scheme=theme)
                page.set_viewport_size({"width": width, "height": HEIGHT})
                page.screenshot(path=IMAGES / file, full_page=width > 400)
        looked_at(page.get_by_role("main"), name, WIDTHS)


HOOKS = "https://hooks7.example.com/services/"
PAGE_OF_503 = (
    "HTTP 503 from hooks{}.example.com: <html> <head><title>503 Service Temporarily Unavailable</title>"
    "</head> <body> <center><h1>503 Service Temporarily Unavailable</h1></center> request {} </body> </html>"
)
TRACEBACK = (
    "Traceback (most recent call last):\n"
    + "".join(
        f'  File "/srv/site/notifiers/step_{n}.py", line {n + 40}, in handle\n    return step_{n}(message)\n'
        for n in range(14)
    )
    + "shop.gateway.GatewayError: no route to the paging gateway for pki-oncall"
)
LONG = "host-{}.europe-west.example.com will expire in 7 days (2026-12-03), " + "and so on " * 17


def a_bad_night() -> NotificationEvent:
    """Long texts everywhere: holds, pauses, outages, pages of HTML and tracebacks as errors."""
    swept("retry", ago(minutes=9))
    webhook = {"channel": "Webhook", "recipient": HOOKS + "T0" * 30}
    for n in range(8):
        dead(**webhook, retry_count=n % 5, last_error=PAGE_OF_503.format(n, n), message=LONG.format(n))
        dead(channel="Slack", recipient=f"#pki-{n}", last_error=f"kind {chr(97 + n)}: " + "down " * 30)
    for n in range(3):
        dead(channel="PagerDuty", recipient="pki-oncall", last_error=TRACEBACK, message=LONG.format(n))
    not_delivered(recipient="ops@example.com", message=LONG.format(9))
    failed(channel="Teams", recipient="PKI team", retry_count=3, last_error="HTTP 429: slow down")
    pending(channel="Webhook", recipient=HOOKS + "T0/B0")
    waits = {"channel": "Webhook", "recipient_prefix": HOOKS, "reason": "server"}
    held("webhook hooks7", **waits, error=PAGE_OF_503.format(7, 7), since=ago(minutes=50))
    held("slack", channel="Slack", reason="gone", error="HTTP 404: no_service", since=ago(hours=1))
    held("teams", channel="Teams", reason="paused", by="anna", error="they move their tenant elsewhere")
    recovers = {"reopened_at": ago(minutes=1), "until": ahead(minutes=9)}
    held("email", channel="Email", reason="server", error="SMTP 421: try again later", **recovers)
    for n in range(4):
        over = None if n == 1 else ago(minutes=60 * n + 20)
        outage(
            0 if n < 2 else 2,
            channel="Webhook",
            recipient_prefix=HOOKS,
            error=PAGE_OF_503.format(n, n),
            since=ago(hours=n + 1),
            ended_at=over,
            died=5,
        )
    event = dead(channel="PagerDuty", message=LONG.format(0), last_error=TRACEBACK, retry_count=4)
    for number in range(1, 6):
        alike = {"error": TRACEBACK, "duration_ms": 119_000}
        attempt(event, number=number, started_at=ago(minutes=9 - number), **alike)
    return event


def test_a_bad_night_is_read_as_well(visit: Open, configure: Configure) -> None:
    configure(CHANNELS=CHANNELS)
    event = a_bad_night()
    page = visit(LIST, policy=False)
    pages = {
        "bad-all": LIST,
        "bad-dead": LIST + "?status=dead",
        "bad-not-delivered": LIST + "?status=not_delivered",
        "bad-page": url("change", event),
        "bad-dashboard": LIST + "dashboard/",
        "bad-endpoints": LIST + "endpoints/",
        "bad-channel": LIST + "channel/?name=Webhook",
        "bad-certificate": LIST + "certificate/?id=mc-api-prod",
        "bad-delete": url("delete", event),
        "bad-history": url("history", event),
        "bad-confirm": LIST + "?status=dead",
    }
    for name, address in pages.items():
        page.goto(address)
        if name == "bad-confirm":
            page.locator("#action-toggle").check()
            page.keyboard.press("r")
            page.get_by_role("heading", name="Requeue:").wait_for()
        looked_at(page.get_by_role("main"), name, WIDTHS)


@pytest.mark.parametrize("look", [(1440, "light")], indirect=True)
def test_rows_begin_high_and_are_reached_in_a_handful_of_tabs(visit: Open) -> None:
    for n in range(12):
        dead(
            recipient=f"https://hooks.example.com/services/{'T0/' * 30}{n}",
            certificate_id="mc-" + "europe-west-" * 12,
            message=f"host-{n}.example.com will expire in 7 days (2026-12-03), " + "and so on " * 40,
            last_error=f"error of kind {chr(97 + n)}: " + "upstream is down " * 20,
        )
    swept("retry", ago(seconds=9))
    page = visit(LIST + "?status=dead")
    row = page.locator("#result_list tbody tr").first
    place = "e => [e.getBoundingClientRect().y, e.getBoundingClientRect().height]"
    top, height = row.evaluate(place)
    assert height <= 38, "one line, however long its texts"
    assert top < 430, "below five errors"
    assert row.locator(".nf-said").evaluate("e => e.clientWidth") > 300
    for key in ("Tab", "Tab", "Enter", "Tab", "Tab", "Tab", "Tab"):
        page.keyboard.press(key)
        if row.evaluate("row => row.contains(document.activeElement)"):
            break
    assert row.evaluate("row => row.contains(document.activeElement)")
    page.goto(LIST + "?status=dead&channel=Webhook")
    assert row.evaluate(place)[0] < 360, "below three"
    page.set_viewport_size({"width": 768, "height": 1024})
    assert_fits(page, 768)


def test_rows_begin_high_below_groups_and_a_warning(visit: Open) -> None:
    a_bad_night()
    page = visit(LIST + "?status=dead")
    row = page.locator("#result_list tbody tr").first
    for width, most, groups in ((1440, 460, 5), (768, 560, 3), (375, 640, 3)):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert row.bounding_box()["y"] < most, width
        assert page.locator("#nf-warning p").bounding_box()["height"] < 40, "one line"
        assert page.locator(".nf-grouped tbody tr:visible").count() == groups
    more = page.locator(".nf-others summary")
    assert more.inner_text() == "8 more"
    more.click()
    assert page.locator(".nf-grouped tbody tr:visible").count() == 11


def test_the_pages_around_the_console_are_accessible(visit: Open) -> None:
    page = visit("/admin/notifications_api/", policy=False)
    assert_accessible(page)
    page.goto("/admin/")
    assert_accessible(page)
    page.context.clear_cookies()
    page.goto("/admin/login/")
    expect(page.get_by_role("heading", name="Log in")).to_have_count(1)
    assert_accessible(page)


@pytest.mark.parametrize("look", [(375, "light")], indirect=True)
def test_a_telephone_has_the_way_out_and_the_theme(visit: Open) -> None:
    page = visit(LIST)
    for name in ("Log out", "Toggle theme"):
        there = page.locator("#user-tools").get_by_role("button", name=name).bounding_box()
        assert 0 <= there["x"] <= 375 - there["width"]
    expect(page.locator("#user-tools strong")).to_be_hidden()


CERTCTLS = (
    "The certificate for api.example.com will expire in 7 days (2026-12-02).\n\nPlease schedule renewal."
    "\n\n[threshold:7]"
)
BIDI = "\u202e<b onclick=x>\u05d0\u05d1\u05d2</b> [x](https://evil.example) <!channel>"


def pictured(page: Page, name: str, within: Locator | None = None) -> None:
    """Kept for docs/channels.md, in both themes, when it is asked for."""
    for theme in ("light", "dark") if os.environ.get("UPDATE_SCREENSHOTS") == "1" else ():
        page.emulate_media(color_scheme=theme)
        (within or page).screenshot(path=IMAGES / f"{name}-{theme}.png")


@pytest.mark.parametrize("look", [(1280, "light"), (375, "dark")], indirect=True)
def test_a_message_is_seen_as_it_is_read(visit: Open, configure: Configure, look: Look) -> None:
    configure(CHANNELS=CHANNELS, BASE_URL="https://certctl.example.com")
    event = sent(channel="Slack", recipient="pki@example.com", message=CERTCTLS, created_at=ago(minutes=2))
    page = visit(url("change", event), policy=False)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.locator(".nf-picture").count() == len(CHANNELS)
    for picture in page.locator(".nf-picture").all():
        expect(picture).to_contain_text("api.example.com will expire in 7 days (2026-12-02)")
        expect(picture).to_contain_text("mc-api-prod")
        expect(picture).not_to_contain_text("threshold")
        assert picture.get_by_text("Open the notification").count() == 1
    looked_at(page.locator(".nf-picture").first, "pictures")
    if look == (1280, "light"):
        for channel in ("Slack", "Teams", "Email", "PagerDuty"):
            pictured(page, f"preview-{channel.lower()}", page.get_by_label(f"What {channel} shows"))


def test_no_text_leaves_its_place_in_a_picture(visit: Open, configure: Configure) -> None:
    """Under the policy, and without a script error: `visit` fails of either."""
    configure(CHANNELS=CHANNELS)
    event = sent(channel="Slack", message=BIDI, certificate_id=BIDI, type=BIDI[:60])
    page = visit(url("change", event))
    picture = page.locator(".nf-picture").first
    expect(picture).to_contain_text("<b onclick=x>")
    assert picture.locator("b, a, [onclick]").count() == 0
    assert "\u202e" not in picture.inner_text()
    isolation = "e => getComputedStyle(e).unicodeBidi"
    assert {text.evaluate(isolation) for text in picture.locator("bdi").all()} == {"isolate"}


def test_a_mail_is_read_in_both_themes(browser: Browser) -> None:
    """As a mail program shows it, and nothing is asked of any other host."""
    text = f"api.example.com failed to renew.\n\n{BIDI}\n\nPlease investigate."
    message = a_message(type="RenewalFailure", message=text)
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 640, "height": 420})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(html_of(words_of(message, message.created_at + timedelta(hours=2))))
    assert asked == []
    expect(page.locator(".first")).to_have_text("api.example.com failed to renew")
    expect(page.locator(".facts tr")).to_have_count(2)
    expect(page.locator(".open")).to_have_attribute("href", message.url)
    assert page.locator("a").count() == 1
    assert page.locator("b, script, img, link").count() == 0
    for theme, ink in (("light", "rgb(0, 0, 0)"), ("dark", "rgb(255, 255, 255)")):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("getComputedStyle(document.querySelector('.first')).color") == ink
        assert_accessible(page, but=("landmark-one-main", "page-has-heading-one", "region"))  # no page
    plain = a_message(message=CERTCTLS)
    page.set_content(html_of(words_of(plain, plain.created_at + timedelta(minutes=2))))
    pictured(page, "mail")
    context.close()
