"""The operator's page in a real browser, under a Content-Security-Policy that allows nothing inline.

Without Chromium these are skipped on a developer's machine, and fail in CI. UPDATE_SCREENSHOTS=1 also
writes the pictures in docs/images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Playwright,
    Route,
    expect,
    sync_playwright,
)
from pytest_django.live_server_helper import LiveServer

from notifications.models import NotificationEvent, Requeue
from tests.admin.conftest import LIST, person, url
from tests.factories import ago, ahead, attempt, dead, failed, leased, pending, sent

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PICTURES = {
    (1280, "light", "dead-letter"): "dead-letter.png",
    (1280, "light", "notification"): "notification.png",
    (375, "dark", "dead-letter"): "dead-letter-phone.png",
}
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
Open = Callable[..., Page]
REFRESH = 31_000


def chromium(playwright: Playwright) -> str:
    own = playwright.chromium.executable_path
    found = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if found is None and Path(own).exists():
        found = own
    if found is None:
        missing = f"needs Chromium: none of {', '.join(CHROMIUMS)} is on the PATH"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def live_server(django_db_setup: None, live_server: LiveServer) -> Iterator[LiveServer]:
    """pytest-django's own, with the policy on every answer.

    It starts after the database has its name: earlier it would take SQLite's for one in memory.
    """
    server = live_server.thread.httpd
    application = server.get_app()

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ("Content-Security-Policy", POLICY)], *error)

        return application(environ, start)

    server.set_app(guarded)
    yield live_server
    server.set_app(application)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        # Playwright keeps an event loop in this thread, where Django refuses the database.
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        running = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, live_server: LiveServer) -> Iterator[Open]:
    """Open an address as the named person; any script error or breach of the policy fails the test."""
    faults: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "favicon" not in str(message.location.get("url")):
            faults.append(message.text)

    def go(address: str, who: str = "superuser", *, width: int = 1280, theme: str = "light") -> Page:
        client = Client()
        client.force_login(person(who))
        context = browser.new_context(
            base_url=live_server.url, viewport={"width": width, "height": 860}, color_scheme=theme
        )
        contexts.append(context)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", note)
        page.clock.install()
        page.goto(address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert faults == []


def expect_rows(page: Page, count: int) -> None:
    expect(page.locator("#result_list tbody tr")).to_have_count(count)


def box(page: Page, event: NotificationEvent) -> Locator:
    return page.locator(f'input.action-select[value="{event.pk}"]')


def wait_for_refresh(page: Page) -> None:
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(REFRESH)


def test_see_the_dead_letters_and_requeue_one(visit: Open) -> None:
    event = dead(recipient="#pki")
    sent()
    page = visit(LIST)
    page.get_by_role("link", name="Dead letter 1").click()
    assert page.url.endswith("?status=dead")
    expect_rows(page, 1)
    page.get_by_role("button", name="Requeue ExpirationWarning to #pki on Webhook").click()
    expect(page.locator(".messagelist")).to_have_text("Requeued: ExpirationWarning to #pki on Webhook.")
    assert page.url.endswith("?status=dead"), "back on the same tab"
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
    expect(page.locator(".messagelist")).to_have_text("Requeued: 1 notification.")
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
    expect(page.locator(".messagelist")).to_have_text("Requeued: 55 notifications.")
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
    page.get_by_role("link", name="ExpirationWarning").click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    assert page.get_by_role("button", name="Requeue").count() == 0
    assert page.request.post(url("requeue", event)).status == 403


def test_the_policy_is_in_force(visit: Open) -> None:
    page = visit(LIST)
    assert page.request.get(LIST).headers["content-security-policy"] == POLICY


def test_a_script_in_an_error_is_text(visit: Open) -> None:
    evil = "<script> document['title']='taken' </script>"
    folded = "<script> document['title']='taken' …"
    event = dead(last_error=evil, message=evil)
    attempt(event, error=evil)
    page = visit(LIST + "?status=dead")
    expect(page.locator(".field-problem .nf-error")).to_have_text(evil)
    expect(page.locator("#nf-groups .nf-error")).to_have_text(folded)
    box(page, event).check()
    page.select_option("select[name=action]", label="Requeue selected notifications")
    page.locator("button[name=index]").click()
    expect(page.locator(".nf-groups .nf-error")).to_have_text(folded)
    page.goto(url("change", event))
    assert page.locator("pre", has_text=evil).count() == 3
    assert "taken" not in page.title()


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
    assert page.url.endswith("?channel=Slack")


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
    page.get_by_role("button", name="Mark as read").click()
    expect(page.get_by_role("heading", name="Mark as read: 1 notification?")).to_be_visible()
    page.get_by_role("button", name="Mark as read 1").click()
    expect(page.locator(".messagelist")).to_have_text("Marked as read: 1 notification.")
    event.refresh_from_db()
    assert event.status == "read"


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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_no_page_is_wider_than_its_screen(visit: Open, width: int, theme: str) -> None:
    event = an_ordinary_night()
    page = visit(LIST + "?status=dead", width=width, theme=theme)
    for name, address in (
        ("dead-letter", LIST + "?status=dead"),
        ("all", LIST),
        ("notification", url("change", event)),
    ):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        list_overflows = (
            "(e => e !== null && e.scrollWidth > e.clientWidth)(document.querySelector('.results'))"
        )
        assert not page.evaluate(list_overflows), address
        if os.environ.get("UPDATE_SCREENSHOTS") == "1" and (width, theme, name) in PICTURES:
            page.screenshot(path=IMAGES / PICTURES[width, theme, name], full_page=width > 400)
