"""What an operator does in the console, from the first look to the honest report, in a real browser."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from playwright.sync_api import Page, expect

from notifications.admin import confirm
from notifications.models import BulkOperation, NotificationEvent, Requeue
from tests.admin.browser import Open, box, expect_rows, many_dead, press, wait_for_refresh
from tests.admin.support import LIST, url
from tests.factories import ago, dead, failed, sent
from tests.fixtures import Configure
from tests.receiver import HttpReceiver


def test_filter_by_an_error_and_requeue_that_group(visit: Open) -> None:
    many_dead(3)
    other = dead(channel="Email", last_error="SMTP 550: mailbox ops@example.com unavailable")
    page = visit(LIST + "?status=dead")
    page.get_by_role("link", name="HTTP 404: no_service: request 0 was not taken").first.click()
    expect_rows(page, 3)
    expect(page.get_by_text("Error: HTTP 404")).to_be_visible()
    page.get_by_role("button", name="Requeue: 3 on Webhook: HTTP 404").click()
    expect(page.get_by_role("heading", name="Requeue: 3 notifications?")).to_be_visible()
    page.get_by_label("Reason").fill("the hook is back")
    press(page, "Requeue 3")
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 3 notifications.")
    assert list(NotificationEvent.objects.dead()) == [other]
    assert {(r.by, r.via, r.reason) for r in Requeue.objects.all()} == {
        ("superuser", "admin", "the hook is back")
    }


def test_all_that_match_are_counted_before_they_are_requeued(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "DETAILED", 40)
    many_dead(150)
    many_dead(60, channel="Email", last_error="<b>SMTP 550</b>: mailbox unavailable", created_at=ago(days=8))
    page = visit(LIST + "?status=dead")
    page.locator("#action-toggle").check()
    press(page, "Select all 210 notifications")
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.get_by_text("All 210 that match are counted.")).to_be_visible()
    expect(page.locator(".nf-channels")).to_have_text("150 Webhook 60 Email", use_inner_text=True)
    expect(page.locator(".nf-groups tbody tr")).to_have_text(
        [
            "150WebhookHTTP 404: no_service: request 0 was not taken",
            "60Email<b>SMTP 550</b>: mailbox unavailable",
        ]
    )
    expect(page.locator("#nf-oldest")).to_contain_text("(8 days ago)")
    expect(page.get_by_text("60 of them were raised more than a week ago.")).to_be_visible()


def test_requeue_two_thousand_with_progress(visit: Open) -> None:
    many_dead(2000)
    sent()
    page = visit(LIST + "?status=dead")
    page.locator("#action-toggle").check()
    press(page, "Select all 2,000 notifications")
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.get_by_role("heading", name="Requeue: 2,000 notifications?")).to_be_visible()
    press(page, "Requeue 2,000")
    expect(page.get_by_role("heading", name="Requeue: done")).to_be_visible(timeout=60_000)
    expect(page.locator("#nf-report")).to_have_text("Requeued: 2,000 notifications.")
    assert NotificationEvent.objects.pending().count() == Requeue.objects.count() == 2000
    operation = BulkOperation.objects.get()
    assert (operation.by, operation.requested, operation.changed) == ("superuser", 2000, 2000)
    assert LogEntry.objects.filter(object_repr="Requeued: 2,000 notifications.").count() == 1
    page.get_by_role("link", name="All operations").click()
    expect(page.get_by_text("Requeued: 2,000 notifications.")).to_be_visible()


def test_an_operation_can_be_stopped_and_says_so(visit: Open) -> None:
    many_dead(1200)
    page = visit(LIST + "?status=dead")
    page.route(
        "**/operations/*/",
        lambda route: route.fulfill(body="cut off") if route.request.method == "POST" else route.continue_(),
    )
    page.get_by_role("button", name="Requeue: 1,200 on Webhook").click()
    press(page, "Requeue 1,200")
    expect(page.locator("#nf-trouble")).to_contain_text("Continue goes on")
    page.unroute("**/operations/*/")
    press(page, "Stop here")
    expect(page.locator("#nf-report")).to_have_text("Requeued: 500 notifications. Stopped by superuser.")
    assert NotificationEvent.objects.dead().count() == 700


def test_try_one_first_and_then_the_rest(visit: Open, webhook: HttpReceiver) -> None:
    many_dead(4)
    page = visit(LIST + "?status=dead", "requeuer")
    page.get_by_role("button", name="Requeue: 4 on Webhook").click()
    press(page, "Try one first")
    expect(page.locator("section.nf-problem")).to_contain_text("Sent in")
    assert len(webhook.requests) == 1
    press(page, "Requeue the other 3")
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 3 notifications.")
    assert NotificationEvent.objects.pending().count() == 3
    assert NotificationEvent.objects.filter(status="sent").count() == 1


def test_dismiss_a_group(visit: Open) -> None:
    many_dead(2)
    page = visit(LIST + "?status=dead", "reader")
    page.get_by_role("button", name="Dismiss: 2 on Webhook").click()
    expect(page.get_by_text("For good: nobody is told")).to_be_visible()
    page.get_by_label("Reason").fill("known")
    press(page, "Dismiss 2")
    expect(page.locator(".messagelist")).to_contain_text("Dismissed: 2 notifications.")
    assert NotificationEvent.objects.filter(status="read").count() == 2


def test_without_permission_there_is_no_group_to_press(visit: Open) -> None:
    many_dead(2)
    page = visit(LIST + "?status=dead", "viewer")
    expect(page.get_by_role("heading", name="By error")).to_be_visible()
    assert page.locator(".nf-verbs button").count() == 0


def test_send_one_now(visit: Open, webhook: HttpReceiver) -> None:
    event = dead()
    page = visit(url("change", event), "requeuer")
    press(page, "Requeue and send now")
    expect(page.locator(".messagelist")).to_contain_text("Sent in")
    expect(page.locator("h1 .nf-badge")).to_have_text("✓ Sent")
    expect(page.get_by_role("heading", name="Attempt 1: sent")).to_be_visible()


def test_what_is_sent_is_shown_without_secrets(visit: Open, configure: Configure) -> None:
    key = "0123456789abcdef0123456789abcdef"
    pagerduty = {"NOTIFIER": "notifications.notifiers.pagerduty.PagerDutyNotifier", "ROUTING_KEY": key}
    email = {"NOTIFIER": "notifications.notifiers.email.EmailNotifier", "FROM_ADDRESS": "certctl@example.com"}
    configure(CHANNELS={"PagerDuty": pagerduty, "Email": email})
    page = visit(url("change", dead(channel="Email", recipient="ops@example.com")))
    page.get_by_text("The request itself").first.click()
    expect(page.get_by_label("Payload for Email")).to_contain_text("To: ops@example.com")
    page.get_by_text("As other channels would show it").click()
    page.get_by_text("The request itself").nth(1).click()
    expect(page.get_by_label("Payload for PagerDuty")).to_contain_text('"routing_key": "[redacted]"')
    assert key not in page.content()


def test_related_notifications_lead_to_each_other(visit: Open) -> None:
    event, other = dead(certificate_id="mc-7"), sent(certificate_id="mc-7", type="RenewalSuccess")
    page = visit(url("change", event))
    page.get_by_role("link", name="RenewalSuccess to").click()
    expect(page).to_have_url(url("change", other))


def test_the_keys(visit: Open) -> None:
    newest, older = dead(created_at=ago(minutes=1)), dead(created_at=ago(minutes=2))
    page = visit(LIST + "?status=dead")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(box(page, older)).to_be_checked()
    expect(box(page, newest)).not_to_be_checked()
    page.keyboard.press("k")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()
    page.keyboard.type("jx?")
    assert page.locator("#searchbar").input_value() == "jx?", "while typing, letters are letters"
    page.locator("h1").first.click()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Requeue: 1 notification?")).to_be_visible()
    assert NotificationEvent.objects.dead().count() == 2, "r asks first"


def test_search_from_the_keyboard(visit: Open) -> None:
    wanted = dead(recipient="needle@example.com")
    dead()
    page = visit(LIST + "?status=dead")
    page.keyboard.press("/")
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    expect_rows(page, 1)
    assert "q=needle" in page.url
    assert "status=dead" in page.url, "a search stays on its tab"
    expect(box(page, wanted)).to_be_visible()
    expect(page.get_by_role("link", name="Dead letter 1")).to_be_visible()


def test_oldest_first_and_back(visit: Open) -> None:
    for hours in (3, 1, 2):
        dead(recipient=f"raised {hours} h ago", created_at=ago(hours=hours))
    page = visit(LIST + "?status=dead")
    recipients = page.locator("td.field-to")
    expect(recipients).to_have_text(["raised 1 h ago", "raised 2 h ago", "raised 3 h ago"])
    page.get_by_text("Order: Newest first").click()
    page.get_by_role("link", name="Oldest first").click()
    expect(recipients).to_have_text(["raised 3 h ago", "raised 2 h ago", "raised 1 h ago"])
    assert "status=dead" in page.url
    page.get_by_role("columnheader", name="Age").locator(".text a").click()  # a button in Django 6.1
    expect(recipients).to_have_text(["raised 1 h ago", "raised 2 h ago", "raised 3 h ago"])


def test_with_the_keyboard_alone(visit: Open) -> None:
    """From the list to the honest report by keys: a filter, a row, the question, the answer."""
    event = dead(channel="Slack", certificate_id="mc-key")
    dead(channel="Email")
    page = visit(LIST + "?status=dead")
    tab_to(page, "Channel: All")
    page.keyboard.press("Enter")
    tab_to(page, "Slack")
    page.keyboard.press("Enter")
    expect_rows(page, 1)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(box(page, event)).to_be_checked()
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Requeue: 1 notification?")).to_be_visible()
    tab_to(page, "")
    page.keyboard.type("a new hook")
    tab_to(page, "Requeue 1")
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 1 notification.")
    assert Requeue.objects.get().reason == "a new hook"


def tab_to(page: Page, text: str) -> None:
    """Tab until what has the focus says `text`; "" means the field for the reason."""
    says = "document.activeElement.id === 'nf-reason' ? '' : document.activeElement.innerText.trim()"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(says) == text:
            ring = page.evaluate(
                "(style => [style.outlineStyle, style.boxShadow])(getComputedStyle(document.activeElement))"
            )
            assert ring != ["none", "none"], f"the focus on {text!r} cannot be seen"
            return
    raise AssertionError(f"no tab stop says {text!r}")


def test_r_means_the_row_where_nothing_is_selected(visit: Open) -> None:
    dead()
    page = visit(LIST + "?status=dead")
    page.keyboard.press("j")
    page.keyboard.press("r")
    press(page, "Requeue 1")
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 1 notification.")


def test_the_dashboard_refreshes_itself(visit: Open) -> None:
    page = visit(LIST + "dashboard/")
    expect(page.get_by_role("link", name="0 Dead")).to_be_visible()
    dead()
    wait_for_refresh(page)
    expect(page.get_by_role("link", name="1 Dead")).to_be_visible()
    expect(
        page.get_by_role("navigation", name="Views").get_by_role("link", name="Dashboard")
    ).to_have_attribute("aria-current", "page")


def test_the_dashboard_from_the_index(visit: Open) -> None:
    dead(channel="Webhook")
    failed()
    page = visit("/admin/")
    page.get_by_role("link", name="Notifications: how things stand").click()
    expect(page.get_by_role("alert")).to_contain_text("no sweep has ever run")
    page.get_by_role("link", name="1 Dead").click()
    expect(page).to_have_url(LIST + "?status=dead")
