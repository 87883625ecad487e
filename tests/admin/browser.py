"""A real browser under a Content-Security-Policy that allows nothing inline.

Without Chromium its tests are skipped on a developer's machine, and fail in CI.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from notifications.models import NotificationEvent
from tests.admin.support import person
from tests.factories import ago

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
Open = Callable[..., Page]
REFRESH = 31_000
PATIENCE = 20_000  # milliseconds, on a machine that does much else
Look = tuple[int, str]  # a width in pixels, and a theme
WIDTHS, THEMES = (1440, 768, 375), ("light", "dark")
LOOKS: list[Look] = [(1440, "light"), (768, "dark"), (375, "dark")]
at_every_width = pytest.mark.parametrize("look", LOOKS, indirect=True, ids="{0[0]}-{0[1]}".format)
HEIGHT = 860
# Texts that print over each other, or leave their cell. What opens above the page, and what is there for
# screen readers alone, is no part of it.
COLLISIONS = """() => {
  const rooms = new Map();
  const whole = { left: -1e6, top: -1e6, right: 1e6, bottom: 1e6 };
  const meet = (a, b) => ({
    left: Math.max(a.left, b.left), right: Math.min(a.right, b.right),
    top: Math.max(a.top, b.top), bottom: Math.min(a.bottom, b.bottom),
  });
  function room(element) {
    if (!element) return whole;
    if (!rooms.has(element)) {
      const style = getComputedStyle(element);
      const hidden = style.clipPath !== "none" || style.clip !== "auto";
      const above = style.position === "fixed" || style.zIndex !== "auto" || hidden;
      const outer = above ? null : room(element.parentElement);
      const cuts = style.overflowX !== "visible" || style.overflowY !== "visible";
      rooms.set(element, outer && cuts ? meet(outer, element.getBoundingClientRect()) : outer);
    }
    return rooms.get(element);
  }
  const range = document.createRange(), shown = [], faults = [];
  const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode()); ) {
    const owner = text.parentElement, place = text.data.trim() && room(owner);
    if (!place || !owner.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const cell = owner.closest("td, th")?.getBoundingClientRect();
    range.selectNodeContents(text);
    for (const drawn of range.getClientRects()) {
      const box = meet(drawn, place), said = text.data.trim().slice(0, 60);
      if (box.right - box.left < 3 || box.bottom - box.top < 3) continue;
      if (cell && (box.bottom > cell.bottom + 3 || box.top < cell.top - 3 || box.right > cell.right + 3)) {
        faults.push(`leaves its cell: ${said}`);
      }
      shown.push({ ...box, said, owner });
    }
  }
  shown.sort((a, b) => a.top - b.top);
  shown.forEach((one, at) => {
    for (const other of shown.slice(at + 1)) {
      if (other.top > one.bottom) break;
      const both = meet(one, other), height = Math.min(one.bottom - one.top, other.bottom - other.top);
      const apart = both.right - both.left < 3 || both.bottom - both.top < height / 2;
      if (apart || one.owner === other.owner) continue;
      faults.push(`over each other: ${one.said} | ${other.said}`);
    }
  });
  return [...new Set(faults)].slice(0, 12);
}"""
NO_SUCH_HOOK = "HTTP 404: no_service: request {} was not taken"


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
    """pytest-django's own, which starts after the database has its name: earlier it would take SQLite's for
    one in memory.

    SLOW_PAGES=<seconds> keeps every page waiting so long: a test that waits for no fact fails then.
    """
    answer, seconds = WSGIHandler.__call__, float(os.environ.get("SLOW_PAGES", "0"))

    def answer_late(handler: WSGIHandler, *request: Any) -> Any:
        time.sleep(seconds)
        return answer(handler, *request)

    with pytest.MonkeyPatch.context() as patch:
        if seconds:
            patch.setattr(WSGIHandler, "__call__", answer_late)
        yield live_server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        # Playwright keeps an event loop in this thread, where Django refuses the database.
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        expect.set_options(timeout=PATIENCE)
        running = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def look(request: pytest.FixtureRequest) -> Look:
    """How wide the screen is, and in which theme."""
    look: Look = getattr(request, "param", (1280, "light"))
    return look


@pytest.fixture
def visit(browser: Browser, live_server: LiveServer, look: Look) -> Iterator[Open]:
    """Open an address as the named person; any script error or breach of the policy fails the test."""
    faults: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "favicon" not in str(message.location.get("url")):
            faults.append(message.text)

    def go(address: str, who: str = "superuser", *, policy: bool = True) -> Page:
        width, theme = look
        client = Client()
        client.force_login(person(who))
        context = browser.new_context(
            base_url=live_server.url,
            viewport={"width": width, "height": HEIGHT},
            color_scheme=theme,
            bypass_csp=not policy,
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
    assert not faults, faults


def expect_rows(page: Page, count: int) -> None:
    """Also wait for the page's script: the rows are there before it, and a key pressed between is lost."""
    expect(page.locator("#result_list tbody tr")).to_have_count(count)
    page.wait_for_load_state()


def box(page: Page, event: NotificationEvent) -> Locator:
    return page.locator(f'input.action-select[value="{event.pk}"]')


def wait_for_refresh(page: Page) -> None:
    with page.expect_response(lambda response: "x-notifications-refresh" in response.request.headers):
        page.clock.fast_forward(REFRESH)


def assert_accessible(page: Page, *, but: tuple[str, ...] = ()) -> None:
    """axe-core finds nothing, however small. It needs a page opened with policy=False.

    but: its rules that do not apply
    """
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    said = [
        f"{fault['id']}: {node['html'][:300]} {node['failureSummary']}"
        for fault in found
        if fault["id"] not in but
        for node in fault["nodes"]
    ]
    assert not said, f"{page.url}: " + "\n".join(said)


def assert_fits(page: Page, width: int) -> None:
    """Nothing is wider than the screen, and no text prints over another or leaves its cell."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
    overflows = "(e => e !== null && e.scrollWidth > e.clientWidth)(document.querySelector('.results'))"
    assert not page.evaluate(overflows), page.url
    collisions = page.evaluate(COLLISIONS)
    assert not collisions, f"{page.url} at {width}: " + "\n".join(collisions)


def many_dead(count: int, **fields: object) -> None:
    defaults = {
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "#pki",
        "message": "m",
        "status": "dead",
        "retry_count": 4,
    }
    NotificationEvent.objects.bulk_create(
        NotificationEvent(
            **{**defaults, "last_error": NO_SUCH_HOOK.format(n), "created_at": ago(seconds=n + 1), **fields}
        )
        for n in range(count)
    )


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def looked_at(shown: Locator, name: str, widths: Sequence[int] = ()) -> None:
    """Its page fits, and axe-core accepts it, in both themes; then it is again what it was.

    shown: what is on this page and was not on the one before, which may still be there; widths: in place of
    its own. It needs a page opened with policy=False. SCREENSHOTS=<folder> keeps the pictures there.
    """
    expect(shown).to_be_visible()
    page = shown.page
    page.wait_for_load_state()
    size, is_dark = page.viewport_size, page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.add_style_tag(content="* { transition: none !important }")  # or a colour is measured on its way
    for width in widths or (size["width"],):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            assert_fits(page, width)
            assert_accessible(page)
            if folder := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png", full_page=True)
    page.emulate_media(color_scheme=THEMES[is_dark])
    page.set_viewport_size(size)
