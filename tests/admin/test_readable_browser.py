"""What `looked_at` cannot see: whether a text is whole. It finds texts over each other and out of their cell,
and passes what an ellipsis, a clamp or a box has cut."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from notifications.deaths.fingerprints import fingerprint
from notifications.operations import triage
from tests.admin.browser import HEIGHT, WIDTHS, Open, looked_at
from tests.admin.support import LIST, url
from tests.factories import dead
from tests.fixtures import Configure
from tests.reporting.rows import tally

SMALLEST = 11  # pixels of a letter that anybody is to read
CUT = """elements => elements.filter(e => {
  const within = e.closest("figure, tr").getBoundingClientRect();
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  return e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1
    || box.left < within.left - 1 || box.right > within.right + 1 || box.right > innerWidth
    || parseFloat(style.fontSize) < SMALLEST || !e.checkVisibility();
}).map(e => e.textContent)""".replace("SMALLEST", str(SMALLEST))


def assert_whole(page: Page, selector: str, count: int) -> None:
    """All of the text is shown, within its figure or row, in letters that can be read."""
    found = page.locator(selector)
    expect(found).to_have_count(count)
    assert found.evaluate_all(CUT) == []


def test_a_very_long_first_line_is_a_short_title(visit: Open) -> None:
    """Two lines of it, beside its badge; the whole is below, a press away."""
    line = "host.europe-west.example.com could not be renewed" + ", and so on" * 99 + " to the very end"
    page = visit(url("change", dead(message=f"{line}\nThe rest.")), policy=False)
    title = page.get_by_role("heading", level=1)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        lines = title.evaluate("e => e.offsetHeight / parseFloat(getComputedStyle(e).fontSize)")
        assert lines < 5, f"{lines} letters high at {width}"
        expect(title).to_contain_text("could not be renewed")
    message = page.locator(".nf-message")
    message.locator("summary").click()
    expect(message).to_contain_text("to the very end")
    expect(message).to_contain_text("The rest.")
    looked_at(message.get_by_text("to the very end"), "long-title", WIDTHS)


@pytest.mark.parametrize("window", ["24h", "7d"])
def test_the_axes_of_the_charts_are_whole(visit: Open, configure: Configure, window: str) -> None:
    name = "a channel whose name is as long as anybody would ever have it"
    configure(CHANNELS={name: {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}})
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for channel in (name, "Slack", "Email"):
        tally(channel, "sent", hour, attempts=1_234_567, age_1=1_234_567)
        tally(channel, "transient", hour - timedelta(hours=3), attempts=765_432)
    page = visit(f"{LIST}dashboard/?window={window}", policy=False)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert_whole(page, ".nf-axis span", 9)
        assert_whole(page, "figcaption > .nf-quiet", 3)
    looked_at(page.locator(".nf-axis").first, f"axes-{window}", WIDTHS)


def test_what_was_said_of_a_group_is_whole(visit: Open) -> None:
    errors = ["HTTP 503: upstream is down", "no answer from the paging gateway"]
    now = timezone.now()
    for error in errors:
        for _ in range(3):
            dead(last_error=error)
        group = ("Webhook", fingerprint(error))
        until = now + timedelta(days=2)
        said = triage.snooze(*group, version=0, by="maria.gonzalez", now=now, until=until, growth=500)
        told = {"by": "maria.gonzalez", "now": now}
        said = triage.assign(*group, version=said.version, to="superuser", **told)
        triage.take_note(*group, version=said.version, text="Their ticket is OPS-4711, " * 6, **told)
    page = visit(LIST + "?status=dead", policy=False)
    page.get_by_text("2 groups snoozed, 6 dead letters").click()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        assert_whole(page, ".nf-standing", 2)
    looked_at(page.locator(".nf-standing").first, "standing", WIDTHS)


@pytest.mark.parametrize("look", [(375, "light")], indirect=True)
def test_on_a_telephone_it_is_said_what_did_not_happen(visit: Open, configure: Configure) -> None:
    """The heads of the columns are not there."""
    configure(CHANNELS={"Webhook": {"NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier"}})
    page = visit(LIST + "dashboard/")
    expect(page.locator(".nf-last").first).to_have_text("delivered: not in 7 days", use_inner_text=True)
    expect(page.locator(".nf-last").last).to_have_text("failed: not in 7 days", use_inner_text=True)
    page.set_viewport_size({"width": 1440, "height": HEIGHT})
    expect(page.locator(".nf-last").first).to_have_text("not in 7 days", use_inner_text=True)
