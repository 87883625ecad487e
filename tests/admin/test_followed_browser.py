"""What follows an alert, as a person meets it in a real browser: around one, a group, a channel."""

from __future__ import annotations

from playwright.sync_api import expect

from notifications.models import NotificationEvent
from tests.admin.browser import Open, at_every_width, looked_at, many_dead, press
from tests.admin.support import LIST
from tests.factories import ago, attempt, dead, failed, sent
from tests.receiver import HttpReceiver
from tests.scripted import Script

pytestmark = at_every_width


def test_from_a_recipient_through_its_notifications_to_a_certificate(visit: Open) -> None:
    for days in (3, 2, 1):
        event = dead(
            recipient="ops\u202e@example.com",
            last_error=f"HTTP 503: {days}\n\ttab",
            created_at=ago(days=days),
        )
    attempt(event, "permanent")
    for make in (failed, sent, dead):
        make()
    page = visit(LIST, "reader", policy=False)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("textbox", name="Search").fill("ops\u202e@example.com")
    page.keyboard.press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    page.locator("#result_list tbody tr").nth(1).get_by_role("link").first.click()
    around = page.get_by_role("navigation", name="Around this notification")
    looked_at(around, "around")
    for name, text in (("id", None), ("recipient", "ops\u202e@example.com"), ("error", "HTTP 503: 2\n\ttab")):
        around.get_by_role("button", name=f"Copy {name}").click()
        expect(around.get_by_role("status")).to_have_text(f"The {name} is copied.")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == (text or page.url.split("/change/")[0].rsplit("/", 1)[1])
    around.get_by_role("link", name="Older").click()
    expect(around.get_by_role("link", name="Older")).to_have_count(0)
    around.get_by_role("link", name="Newer").click()
    around.get_by_role("link", name="Newer").click()
    expect(around.get_by_role("link", name="Newer")).to_have_count(0)
    around.get_by_role("link", name="Sent to whom, when").click()
    expect(page.get_by_role("table", name="Sent to whom, when").locator("tbody tr")).to_have_count(6)
    stand = page.get_by_role("list", name="How they stand now")
    expect(stand).to_contain_text("4 ✕ Dead")
    looked_at(stand, "certificate")


def test_a_group_is_snoozed_assigned_and_noted(visit: Open, script: Script) -> None:
    many_dead(3)
    dead()
    page = visit(LIST + "?status=dead", "reader", policy=False)
    page.get_by_role("link", name="Snooze, assign, note: Webhook: HTTP 404").click()
    page.get_by_label("For how long").fill("")
    page.get_by_label("Until so many more have died").fill("2")
    press(page, "Snooze")
    expect(page.locator(".messagelist")).to_contain_text("Snoozed by reader")
    press(page, "Assign to me")
    expect(page.locator(".messagelist")).to_contain_text("Assigned to reader.")
    page.get_by_label("For whoever looks next").fill("They move to other hosts tonight.")
    press(page, "Keep the note")
    looked_at(page.locator(".messagelist").get_by_text("The note is kept."), "group")
    page.goto(LIST + "?status=dead")
    expect(page.get_by_role("link", name="Dead letter 4")).to_be_visible()
    folded = page.get_by_text("1 group snoozed, 3 dead letters")
    expect(page.get_by_role("table", name="Snoozed groups")).to_have_count(0)
    folded.click()
    row = page.get_by_role("table", name="Snoozed groups").locator("tbody tr")
    expect(row).to_contain_text("Assigned to reader. They move to other hosts tonight.")
    looked_at(row, "snoozed")
    many_dead(2, created_at=ago())
    page.reload()
    expect(page.get_by_text("snoozed, 3")).to_have_count(0)
    assert NotificationEvent.objects.dead().count() == 6


def test_a_channel_is_tried_paused_and_its_log_read(visit: Open, webhook: HttpReceiver) -> None:
    event = sent(recipient=webhook.url("/hook"))
    attempt(event, "transient", number=1, status_code=503)
    attempt(event, "sent", number=2)
    page = visit(LIST + "dashboard/", "requeuer", policy=False)
    tool = page.get_by_role("link", name="Send test alert: Webhook")
    looked_at(tool, "tools")
    tool.click()
    expect(page.get_by_label("To whom")).to_have_value(event.recipient)
    press(page, "Send test alert")
    expect(page.get_by_text("Delivered in")).to_be_visible()
    assert len(webhook.requests) == 1
    log = page.get_by_role("table", name="Last attempts, the newest first").locator("tbody tr")
    expect(log).to_have_count(2)
    looked_at(log.first, "channel")
    page.get_by_role("link", name="Only those that failed").click()
    expect(log).to_have_count(1)
    press(page, "Pause")
    looked_at(page.get_by_text("It covers Webhook: 0 wait now."), "endpoints-tools")
    press(page, "Pause")
    expect(page.locator(".messagelist")).to_contain_text("Webhook paused until")
