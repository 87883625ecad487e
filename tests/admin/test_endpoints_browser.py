"""Pausing, lifting and redriving in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from notifications.models import NotificationEvent, Outage
from tests.admin.browser import WIDTHS, Open, at_every_width, looked_at
from tests.admin.outages import hold, outage
from tests.admin.support import LIST
from tests.factories import ago, ahead, pending
from tests.scripted import Script

PAGE = LIST + "endpoints/"


@at_every_width
def test_an_operators_night(visit: Open, script: Script) -> None:
    """A pause is made and ended, a hold is lifted, and what an outage killed goes out again."""
    held, over = hold(), outage()
    pending(recipient="https://hooks.example.com/1")
    page = visit(LIST)
    page.get_by_role("link", name="Endpoints").click()
    expect(page.get_by_role("row", name="hooks.example.com")).to_contain_text("held")

    page.get_by_label("Channel").select_option("Webhook")
    page.get_by_label("For how long").fill("30m")
    page.get_by_label("Why").fill("<b>they move</b>")
    page.get_by_role("button", name="Show what it covers").click()
    expect(page.get_by_text("It covers Webhook: 1 wait now.")).to_be_visible()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".messagelist")).to_contain_text("Webhook paused until")
    expect(page.get_by_text("by superuser <b>they move</b>")).to_be_visible()

    page.get_by_role("button", name="End the pause: Webhook").click()
    expect(page.locator(".messagelist")).to_have_text("Lifted: Webhook is not paused any more.")
    page.get_by_role("button", name="Try now: Webhook to https://hooks.example.com/…").click()
    expect(page.locator(".messagelist")).to_contain_text("with one notification, and the others follow")
    held.refresh_from_db()
    assert held.until <= ahead()

    page.get_by_role("button", name="Requeue these: dead of the outage of Webhook").click()
    expect(page.locator(".messagelist")).to_contain_text("Requeued: 3 notifications.")
    assert not NotificationEvent.objects.dead().exists()
    page.get_by_role("link", name="by superuser").click()
    expect(page.get_by_text(f"all dead letters, dead because of outage {over.pk}")).to_be_visible()


@pytest.mark.parametrize("who", ["superuser", "requeuer"])
def test_how_it_looks(visit: Open, script: Script, who: str) -> None:
    hold()
    hold(
        endpoint="slack",
        recipient_prefix="",
        reopened_at=ago(minutes=1),
        until=ahead(minutes=9),
        channel="Slack",
    )
    hold(
        endpoint="webhook paused",
        recipient_prefix="",
        reason="paused",
        by="ada",
        error="they move their host",
    )
    outage()
    Outage.objects.create(
        endpoint="email",
        channel="Email",
        reason="auth",
        error="SMTP 535: refused",
        since=ago(hours=1),
        died=2,
    )
    page = visit(PAGE, who, policy=False)
    looked_at(page.get_by_role("row", name="they move their host"), f"endpoints-{who}", WIDTHS)
