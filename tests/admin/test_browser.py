"""The list in a real browser, and a notification's page (browser.py: how)."""

from __future__ import annotations

from playwright.sync_api import Route, expect
from pytest_django.live_server_helper import LiveServer

from certctl.middleware import POLICY
from notifications.models import NotificationEvent, Requeue
from tests.admin.browser import REFRESH, Open, box, expect_rows, wait_for_refresh
from tests.admin.support import LIST, url
from tests.factories import attempt, dead, sent


def test_see_the_dead_letters_and_requeue_one(visit: Open) -> None:
    event = dead(recipient="#pki")
    sent()
    page = visit(LIST)
    page.get_by_role("link", name="Dead letter 1").click()
    expect(page).to_have_url(LIST + "?status=dead")
    expect_rows(page, 1)
    page.get_by_role("button", name="Requeue ExpirationWarning to #pki on Webhook").click()
    expect(page.locator(".messagelist")).to_contain_text("Requeued: ExpirationWarning to #pki on Webhook.")
    expect(page, "back on the same tab").to_have_url(LIST + "?status=dead")
    expect(page.get_by_text("No dead letters.")).to_be_visible()
    event.refresh_from_db()
    assert (event.status, Requeue.objects.get().by) == ("pending", "superuser")


def test_requeue_a_selection(visit: Open) -> None:
    chosen, other = dead(), dead()
    page = visit(LIST + "?status=dead", "requeuer")
    box(page, chosen).check()
    expect(page.locator(".action-counter")).to_have_text("1 of 2 selected")
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.get_by_role("heading", name="Requeue: 1 notification?")).to_be_visible()
    page.get_by_role("button", name="Requeue 1").click()
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 1 notification.")
    assert list(NotificationEvent.objects.dead()) == [other]


def test_requeue_everything_that_matches(visit: Open) -> None:
    for _ in range(55):
        dead(channel="Slack")
    other = dead(channel="Email")
    page = visit(LIST + "?status=dead&channel=Slack")
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter")).to_have_text("50 of 50 selected")
    page.get_by_role("button", name="Select all 55 notifications").click()
    expect(page.locator(".actions .all")).to_have_text("All 55 selected")
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    page.get_by_role("button", name="Requeue 55").click()
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 55 notifications.")
    assert list(NotificationEvent.objects.dead()) == [other]


def test_select_across_pages_ends_when_a_row_is_left_out(visit: Open) -> None:
    for _ in range(55):
        dead()
    page = visit(LIST)
    page.locator("#action-toggle").check()
    page.get_by_role("button", name="Select all 55 notifications").click()
    page.locator("input.action-select").first.uncheck()
    expect(page.locator(".action-counter")).to_have_text("49 of 50 selected")
    assert page.locator("input.select-across").input_value() == "0"


def test_shift_selects_a_range(visit: Open) -> None:
    for _ in range(5):
        dead()
    page = visit(LIST)
    boxes = page.locator("input.action-select")
    boxes.nth(1).click()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.locator(".action-counter")).to_have_text("3 of 5 selected")


def test_without_permission_there_is_nothing_to_press(visit: Open) -> None:
    event = dead()
    page = visit(LIST + "?status=dead", "viewer")
    expect_rows(page, 1)
    assert page.get_by_role("button", name="Requeue").count() == 0
    assert page.locator("select[name=action]").count() == 0
    page.get_by_role("link", name="api.example.com expires in 7 days").click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    assert page.get_by_role("button", name="Requeue").count() == 0
    assert page.request.post(url("requeue", event)).status == 403


def test_the_policy_is_in_force(visit: Open) -> None:
    page = visit(LIST)
    assert page.request.get(LIST).headers["content-security-policy"] == POLICY


def test_a_script_in_an_error_is_text(visit: Open) -> None:
    evil = "<script> document['title']='taken' </script>"
    event = dead(last_error=evil, message=evil)
    attempt(event, error=evil)
    page = visit(LIST + "?status=dead")
    expect(page.locator(".field-subject .nf-error")).to_have_text(evil)
    expect(page.locator("#nf-groups .nf-error")).to_have_text(evil)
    expect(page.locator("#nf-groups .nf-error i")).to_have_text("</script>")
    box(page, event).check()
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.locator(".nf-groups .nf-error")).to_have_text(evil)
    page.goto(url("change", event))
    assert page.locator("pre:not(.nf-payload *)", has_text=evil).count() == 2, "the error, the message"
    expect(page.locator(".nf-again")).to_have_text("the same error")
    assert page.title() != "taken"


def test_the_list_refreshes_itself(visit: Open) -> None:
    dead()
    page = visit(LIST + "?status=dead")
    page.locator("#searchbar").fill("half a wo")
    page.locator("h1").first.click()  # leave the search box, with something typed in it
    page.evaluate("document.activeElement.blur()")
    dead()
    wait_for_refresh(page)
    expect_rows(page, 2)
    expect(page.get_by_role("link", name="Dead letter 2")).to_be_visible()
    assert page.locator("#searchbar").input_value() == "half a wo"
    box(page, NotificationEvent.objects.first()).check()
    expect(page.locator(".action-counter")).to_have_text("1 of 2 selected")


def test_a_refresh_fills_an_empty_list(visit: Open) -> None:
    page = visit(LIST + "?status=dead")
    dead()
    wait_for_refresh(page)
    expect(page.get_by_role("button", name="Requeue ExpirationWarning")).to_be_visible()
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter")).to_have_text("1 of 1 selected")


def test_a_selection_holds_the_refresh_back(visit: Open) -> None:
    event = dead()
    page = visit(LIST + "?status=dead")
    box(page, event).check()
    expect(page.locator("#nf-refreshed")).to_have_text("Paused while rows are selected")
    dead()
    page.clock.fast_forward(REFRESH)
    page.clock.fast_forward(REFRESH)
    expect_rows(page, 1)
    expect(box(page, event)).to_be_checked()
    box(page, event).uncheck()
    wait_for_refresh(page)
    expect_rows(page, 2)


def test_a_selection_made_while_the_answer_is_on_its_way_stays(visit: Open) -> None:
    event = dead()
    page = visit(LIST + "?status=dead")
    held: list[Route] = []
    page.route("**/*status=dead", lambda route: held.append(route))
    with page.expect_request(lambda request: "x-notifications-refresh" in request.headers):
        page.clock.fast_forward(REFRESH)
    box(page, event).check()
    dead()
    with page.expect_response("**/*status=dead"):
        held[0].continue_()
    page.wait_for_timeout(200)
    expect_rows(page, 1)
    expect(box(page, event)).to_be_checked()


def test_typing_a_search_holds_the_refresh_back(visit: Open) -> None:
    dead()
    page = visit(LIST)
    page.locator("#searchbar").press_sequentially("api")
    expect(page.locator("#nf-refreshed")).to_have_text("Paused while you are searching")
    dead()
    page.clock.fast_forward(REFRESH)
    expect_rows(page, 1)


def test_a_hidden_tab_asks_for_nothing_and_catches_up(visit: Open) -> None:
    dead()
    page = visit(LIST)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    dead()
    page.clock.fast_forward(REFRESH)
    expect_rows(page, 1)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect_rows(page, 2)


def test_a_refresh_keeps_the_focus_where_it_was(visit: Open) -> None:
    dead()
    page = visit(LIST)
    page.get_by_role("button", name="Requeue ExpirationWarning").focus()
    wait_for_refresh(page)
    expect(page.get_by_role("button", name="Requeue ExpirationWarning")).to_be_focused()


def test_who_is_signed_out_is_told_that_the_list_is_old(visit: Open, live_server: LiveServer) -> None:
    dead()
    page = visit(LIST)
    page.context.clear_cookies()
    page.clock.fast_forward(REFRESH)
    expect(page.locator("#nf-refreshed")).to_contain_text("Not updated since")
    expect_rows(page, 1)


def test_filters_open_and_close(visit: Open) -> None:
    dead(channel="Slack")
    page = visit(LIST)
    page.get_by_text("Channel: All").click()
    expect(page.get_by_role("link", name="Webhook")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Webhook")).to_be_hidden()
    page.get_by_text("Channel: All").click()
    page.get_by_role("link", name="Slack").click()
    expect(page).to_have_url(LIST + "?channel=Slack")


def test_the_page_of_a_notification_requeues_it(visit: Open) -> None:
    event = dead()
    page = visit(url("change", event), "requeuer")
    page.get_by_role("button", name="Requeue", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("Requeued: ")
    expect(page.locator("h1 .nf-badge")).to_have_text("○ Pending")
    expect(page.get_by_role("heading", name="Requeued by requeuer via admin")).to_be_visible()


def test_the_page_of_a_notification_dismisses_it_after_asking(visit: Open) -> None:
    event = dead()
    page = visit(url("change", event), "reader")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("heading", name="Dismiss: 1 notification?")).to_be_visible()
    page.get_by_label("Reason").fill("known")
    page.get_by_role("button", name="Dismiss 1").click()
    expect(page.locator(".messagelist")).to_contain_text("Dismissed: 1 notification.")
    event.refresh_from_db()
    assert event.status == "read"


def test_escape_leaves_the_focus_on_the_filter(visit: Open) -> None:
    dead()
    page = visit(LIST)
    summary = page.locator(".nf-filter summary", has_text="Channel")
    summary.click()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.locator(".nf-filter[open]")).to_have_count(0)
    expect(summary).to_be_focused()
