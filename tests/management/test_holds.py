"""holds, pause and lift."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifications import delivery
from notifications.models import Hold
from tests import factories
from tests.factories import ago
from tests.management.support import Run
from tests.reporting.rows import held
from tests.scripted import Script

pytestmark = pytest.mark.django_db


def test_pause_see_and_lift(run: Run, script: Script) -> None:
    factories.pending()
    ran = run("pause", "webhook", "--for", "30m", "--reason", "they move")
    hold = Hold.objects.get()
    assert (ran.code, ran.err) == (0, "")
    until = f"{hold.until:%Y-%m-%d %H:%M:%S} UTC"
    assert ran.out == f"Webhook paused until {until} (number {hold.pk}). It covers Webhook: 1 wait now.\n"
    assert (hold.reason, hold.error, bool(hold.by)) == ("paused", "they move", True)
    assert hold.until - hold.since == timedelta(minutes=30)
    assert delivery.send_pending().claimed == 0
    [listed] = run("holds", "--json").json
    assert (listed["number"], listed["state"], listed["waiting"]) == (hold.pk, "paused", 1)
    assert listed["why"] == f"by {hold.by}: they move"
    assert "they move" in run("holds").out
    assert run("lift", str(hold.pk)).out == "Webhook is not paused any more\n"
    assert delivery.send_pending().sent == 1
    assert run("holds").out == "Every endpoint delivers: none is held or paused.\n"


def test_one_host_is_paused(run: Run, script: Script) -> None:
    factories.pending(recipient="https://a.example/1")
    kept = factories.pending(recipient="https://b.example/1")
    scope = run("pause", "Webhook", "https://a.example/", "--prefix", "--json").json["scope"]
    assert scope == "Webhook to https://a.example/…"
    delivery.send_pending()
    assert script.ids == [kept.pk]


def test_a_recipient_does_not_command_the_terminal(run: Run, script: Script) -> None:
    evil = "\x1b[2Jhttps://a.example/"
    paused = run("pause", "Webhook", evil).out
    lifted = run("lift", str(Hold.objects.get().pk)).out
    assert paused.startswith("Webhook to [U+001B][2Jhttps://a.example/ paused until ")
    assert "\x1b" not in paused + lifted


def test_lifting_a_hold_lets_its_probe_go(run: Run, script: Script) -> None:
    held("webhook", since=ago(minutes=5))
    hold = Hold.objects.get()
    assert run("lift", str(hold.pk), "--json").json == {"lifted": "Webhook"}
    factories.pending()
    assert delivery.send_pending().sent == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("pause", "Slak"), 1, "the channel Slak is not configured; configured: Webhook"),
        (("pause", "Webhook", "--for", "soon"), 2, "Not a duration: write 90s, 2m or 1h."),
        (("pause", "Webhook", "--for", "5h"), 2, "a pause is at most 4 h long (HOLD_LIMIT)"),
        (("pause", "Webhook", "--prefix"), 2, "--prefix needs a RECIPIENT"),
        (("pause", "Webhook", "x" * 256), 2, "a recipient is at most 255 characters long"),
        (("lift", "12345"), 1, "there is no hold 12345; it may have ended"),
        (("lift", "99999999999999999999"), 1, "there is no hold 99999999999999999999; it may have ended"),
        (("lift", "x"), 2, "is not a whole number"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, script: Script, arguments: tuple[str, ...], code: int, error: str
) -> None:
    ran = run(*arguments)
    assert (ran.code, error in ran.err) == (code, True)
    assert not Hold.objects.exists()


def test_a_test_that_arrives_leaves_a_pause(run: Run, script: Script) -> None:
    run("pause", "Webhook")
    assert run("test", "Webhook", "ops").err == ""
    assert Hold.objects.get().reason == "paused"
