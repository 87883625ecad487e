"""What the console says is so, and takes back, as a person meets it in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Request, Route, expect

from notifications.admin import guard
from notifications.models import BulkOperation, Hold, NotificationEvent
from notifications.operations import bulk
from notifications.operations.verbs import REQUEUE
from tests.admin.browser import REFRESH, Open, at_every_width, looked_at, many_dead, press
from tests.admin.outages import hold
from tests.admin.support import LIST, url
from tests.factories import ago, attempt, dead, failed, pending, sent
from tests.scripted import Script

pytestmark = at_every_width


def posts(page: Page) -> list[Request]:
    found: list[Request] = []
    page.on("request", lambda request: found.append(request) if request.method == "POST" else None)
    return found


def unfinished() -> BulkOperation:
    """Ada's, left in the middle."""
    many_dead(1200)
    operation = bulk.step(
        bulk.start(REQUEUE, filters="status=dead", requested=1200, by="ada", via="admin", reason="mended").pk
    )
    BulkOperation.objects.update(stepped_at=ago(minutes=5))
    return operation


def test_a_look_carries_nothing_out_and_continue_does(visit: Open) -> None:
    operation = unfinished()
    page = visit(LIST + "operations/", "requeuer")
    asked = posts(page)
    page.locator(".nf-operations td a").click()
    expect(page.get_by_text("Nobody is carrying it out: ada left it 5 min ago.")).to_be_visible()
    page.reload()
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(6_000)
    page.wait_for_load_state("networkidle")
    assert asked == []
    assert NotificationEvent.objects.dead().count() == 700
    press(page, "Continue")
    expect(page.get_by_role("heading", name="Requeue: done")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Continued by")).to_be_visible()
    operation.refresh_from_db()
    assert (operation.by, operation.driven_by, operation.changed) == ("ada", "requeuer", 1200)
    expect(page.get_by_role("list", name="What became of them")).to_contain_text("1,200 ○ Pending")


def test_whoever_confirmed_drives_and_a_restored_tab_does_not(visit: Open) -> None:
    many_dead(1200)
    page = visit(LIST + "?status=dead")
    page.get_by_role("button", name="Requeue: 1,200 on Webhook").click()
    press(page, "Requeue 1,200")
    expect(page.get_by_role("heading", name="Requeue: done")).to_be_visible(timeout=60_000)
    asked = posts(page)
    page.goto(LIST + f"operations/{BulkOperation.objects.get().pk}/?begun=1")
    page.wait_for_load_state("networkidle")
    assert asked == []


def test_what_became_of_them_is_live_and_can_be_undone(visit: Open) -> None:
    many_dead(3)
    operation = bulk.finish(bulk.start(REQUEUE, filters="status=dead", requested=3, by="ada", via="admin"))
    page = visit(LIST + f"operations/{operation.pk}/")
    became = page.get_by_role("list", name="What became of them")
    expect(became).to_have_text("3 ○ Pending", use_inner_text=True)
    first = NotificationEvent.objects.pending().first()
    assert first
    first.mark_as_dead("again")
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(6_000)
    expect(became).to_contain_text("1 ✕ Dead", use_inner_text=True)
    became.get_by_role("link", name="Dead").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.go_back()
    press(page, "Undo for the 2 that nobody has attempted")
    expect(page.locator(".messagelist")).to_contain_text("Undone: 2 notifications.")
    assert NotificationEvent.objects.dead().count() == 3


def test_a_host_without_its_scheme_is_paused(visit: Open, script: Script) -> None:
    for number in range(3):
        pending(recipient=f"https://hooks.example.com/{number}")
    page = visit(LIST + "endpoints/", "requeuer", policy=False)
    page.get_by_label("Channel").select_option("Webhook")
    page.get_by_label("Recipient", exact=True).fill("hooks.example.com")
    page.get_by_label("For how long").fill("soon")
    press(page, "Show what it covers")
    expect(page.get_by_text("It covers Webhook to https://hooks.example.com/…: 3 wait now.")).to_be_visible()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_have_count(0)
    looked_at(page.get_by_text("Not as it stands: Not a duration"), "pause")
    expect(page.get_by_label("Recipient", exact=True)).to_have_value("hooks.example.com")
    page.get_by_label("For how long").fill("30m")
    press(page, "Show what it covers")
    press(page, "Pause")
    expect(page.locator(".messagelist")).to_contain_text("3 wait now")
    assert Hold.objects.get().recipient_prefix == "https://hooks.example.com/"


def test_a_row_behind_a_hold_leads_there(visit: Open, script: Script) -> None:
    hold()
    failed(recipient="https://hooks.example.com/1")
    page = visit(LIST)
    page.get_by_role("link", name="held until").click()
    expect(page).to_have_url(LIST + "endpoints/")
    expect(page.get_by_role("row", name="hooks.example.com")).to_contain_text("held")


def test_dismissing_is_red_says_for_good_first_and_needs_a_reason(visit: Open) -> None:
    event = dead()
    page = visit(url("change", event), "reader", policy=False)
    button = page.get_by_role("button", name="Dismiss", exact=True)
    red, green, blue = map(int, re.findall(r"\d+", button.evaluate("e => getComputedStyle(e).color"))[:3])
    assert red > green + blue / 2
    button.click()
    looked_at(page.locator("#content-main > p", has_text="For good: nobody is told"), "dismiss")
    press(page, "Dismiss 1")
    assert page.get_by_label("Reason").evaluate("field => field.validity.valueMissing"), "the browser asks"
    assert NotificationEvent.objects.dead().count() == 1
    page.get_by_label("Reason").fill("a test")
    press(page, "Dismiss 1")
    expect(page.locator(".messagelist")).to_contain_text("Dismissed: 1 notification.")
    page.goto(url("change", event))
    looked_at(page.locator("h1 .nf-badge", has_text="⊘ Dismissed"), "dismissed")
    press(page, "Restore")
    press(page, "Restore 1")
    expect(page.locator(".messagelist")).to_contain_text("Restored: 1 notification.")
    event.refresh_from_db()
    assert event.status == "dead"


def test_seen_and_dismissed_look_different(visit: Open) -> None:
    closed, seen = dead(), sent()
    closed.dismiss(by="ada")
    seen.mark_seen(by="ada")
    page = visit(LIST + "?status=read")
    expect(page.locator("td.field-badge")).to_have_text(["✓ Seen", "⊘ Dismissed"])
    tones = page.locator("td.field-badge .nf-badge > span").evaluate_all(
        "all => all.map(e => getComputedStyle(e).color)"
    )
    assert len(set(tones)) == 2
    page.get_by_role("link", name="Dismissed 1").click()
    expect(page.locator("td.field-badge")).to_have_text(["⊘ Dismissed"])


def choose(page: Page, how: str) -> None:
    """Ask to requeue the three of a group, those of the page, or all that the filter shows."""
    if how == "group":
        page.get_by_role("button", name="Requeue: 3 on Webhook").click()
        return
    page.locator("#action-toggle").check()
    if how == "filter":
        press(page, "Select all 53 notifications")
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()


def test_the_second_operator_is_told_who_was_first(visit: Open) -> None:
    first, second = visit(LIST), visit(LIST, "requeuer")
    told = second.locator(".messagelist")
    for how, count in (("group", 3), ("page", 50), ("filter", 53)):
        NotificationEvent.objects.all().delete()
        many_dead(3)
        many_dead(50, channel="Email", last_error="SMTP 550: no such mailbox", created_at=ago(days=1))
        for page in (first, second):
            page.goto(LIST + "?status=dead")
            choose(page, how)
            expect(page.get_by_role("heading", name=f"Requeue: {count} notifications?")).to_be_visible()
        press(first, f"Requeue {count}")
        expect(first.locator(".messagelist")).to_contain_text(f"Requeued: {count} notifications.")
        press(second, f"Requeue {count}")
        which = f"{count} of these" if how == "page" else f"{count} notifications"
        expect(told).to_contain_text(f"Requeued: 0 notifications. superuser: requeued {which}")


def test_dashboard_and_endpoints_name_the_same_state(visit: Open, script: Script) -> None:
    page = visit(LIST)
    shown = page.get_by_role("row", name="hooks.example.com")
    states: dict[str, dict[str, object]] = {
        "held": {"until": ago(seconds=1)},
        "held past the limit": {"since": ago(hours=5)},
        "paused": {"reason": "paused", "by": "ada"},
        "recovering": {"reopened_at": ago(minutes=1)},
    }
    for state, fields in states.items():
        Hold.objects.all().delete()
        hold(**fields)
        for address in ("dashboard/", "endpoints/"):
            page.goto(LIST + address)
            expect(shown).to_contain_text(state)


def test_the_confirmation_says_what_will_wait_how_long_it_takes_and_shows_some(
    visit: Open, script: Script
) -> None:
    hold(endpoint="p", recipient_prefix="", reason="paused", by="ada", error="they move")
    many_dead(4)
    many_dead(2, created_at=ago(days=8))
    page = visit(LIST + "?status=dead")
    page.locator("#action-toggle").check()
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.get_by_text("6 wait once they are requeued: Webhook is paused until")).to_be_visible()
    expect(page.locator("#nf-old")).to_have_text("2 of them were raised more than a week ago.")
    expect(page.locator("#nf-pace")).to_contain_text("How long it takes")
    expect(page.get_by_role("list", name="Some of them").get_by_role("listitem")).to_have_count(2)


def test_what_a_figure_counts_its_link_shows(visit: Open, script: Script) -> None:
    for make, number in ((pending, 1), (failed, 2), (sent, 4), (dead, 3)):
        for _ in range(number):
            make()
    page = visit(LIST + "dashboard/")
    figures = page.locator("li a:has(> b)")
    found = {str(link.get_attribute("href")): link.locator("b").inner_text() for link in figures.all()}
    assert {"1", "2", "3", "4"} <= set(found.values())
    for address, number in found.items():
        page.goto(address)
        expect(page.locator("#result_list tbody tr")).to_have_count(int(number))


def test_a_slow_database_is_asked_once_at_a_time(visit: Open) -> None:
    dead()
    page = visit(LIST + "?status=dead")
    waiting: list[Route] = []
    page.route("**/*status=dead", lambda route: waiting.append(route))
    with page.expect_request(lambda request: "x-notifications-refresh" in request.headers):
        page.clock.fast_forward(REFRESH)
    for _ in range(3):  # whoever comes back to the page asks for it, too
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert len(waiting) == 1
    with page.expect_response("**/*status=dead"):
        waiting[0].continue_()


def test_a_database_that_does_not_answer_is_told_in_a_sentence(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit(LIST, policy=False)
    monkeypatch.setattr(guard, "LOOKING_SECONDS", 0.0)
    body = page.request.get(LIST + "dashboard/").text()
    page.set_content(body)
    looked_at(page.get_by_role("heading", name="The database does not answer"), "away")


def test_an_address_that_asks_for_nothing_that_there_is_shows_nothing(visit: Open) -> None:
    dead()
    page = visit(LIST)
    body = page.request.get(LIST + "?status=bogus")
    assert body.status == 400
    assert "so nothing is shown" in body.text()


def test_a_text_does_not_turn_our_words_round(visit: Open) -> None:
    event = dead(recipient="\u202egro.elpmaxe", last_error="\u05d0\u05d1 HTTP 503 \u2067")
    page = visit(LIST + "?status=dead")
    expect(page.locator("td.field-to")).to_have_text("[U+202E]gro.elpmaxe")
    page.get_by_role("button", name="Requeue ExpirationWarning").click()
    expect(page.locator(".messagelist")).to_have_text(
        "Requeued: ExpirationWarning to [U+202E]gro.elpmaxe on Webhook."
    )
    page.goto(url("change", event))
    assert "\u202e" not in page.locator("main").inner_text()
    assert "\u2067" not in page.locator("main").inner_text()


def test_the_dashboard_begins_with_one_sentence(visit: Open, script: Script) -> None:
    hold(since=ago(minutes=50))
    pending(recipient="https://hooks.example.com/1")
    dead()
    page = visit(LIST + "dashboard/", policy=False)
    first = page.locator("#nf-dashboard > :first-child")
    looked_at(first.get_by_text("has been held for 50 min, 1 waits;"), "verdict")
    page.goto("/admin/")
    looked_at(page.get_by_role("alert").get_by_text("1 died in the last hour"), "index")
    page.goto(LIST)
    looked_at(page.get_by_role("link", name="held until"), "held-rows")


def test_an_operation_in_each_of_its_states(visit: Open) -> None:
    operation = unfinished()
    page = visit(LIST + f"operations/{operation.pk}/", policy=False)
    looked_at(page.get_by_text("Nobody is carrying it out"), "operation-left")
    press(page, "Stop here")
    expect(page.get_by_role("heading", name="Requeue: stopped")).to_be_visible()
    looked_at(page.get_by_role("button", name="Requeue the other 700"), "operation-stopped")
    page.goto(LIST + "operations/")
    looked_at(page.get_by_role("heading", name="Operations"), "operations")


def test_a_requeue_of_one_is_watched_to_its_end_on_its_page(visit: Open, script: Script) -> None:
    event = dead()
    page = visit(url("change", event), "requeuer")
    press(page, "Requeue")
    expect(page.locator("h1 .nf-badge")).to_have_text("○ Pending")
    attempt(event, "sent", number=1)
    NotificationEvent.objects.get(pk=event.pk).mark_as_sent(ago())
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(6_000)
    expect(page.locator("h1 .nf-badge")).to_have_text("✓ Sent")
    expect(page.get_by_role("heading", name="Attempt 1: sent")).to_be_visible()
    expect(page.get_by_role("button", name="Send now")).to_have_count(0)


def test_every_page_hints_at_an_operation_that_is_under_way(visit: Open) -> None:
    event = dead(recipient="other")
    unfinished()
    page = visit(LIST)
    for address in (LIST, LIST + "dashboard/", LIST + "endpoints/", url("change", event)):
        page.goto(address)
        expect(page.get_by_role("link", name="Operations 1 under way")).to_be_visible()
