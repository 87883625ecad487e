"""The OpenAPI document tells the truth: Schemathesis plays it against a server; the page works offline."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from django.contrib.staticfiles import finders
from django.test import Client
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker
from playwright.sync_api import expect, sync_playwright
from rest_framework.test import APIClient

from notifications.api import shapes
from notifications.api.models import ApiToken
from notifications.models import Hold
from tests import factories
from tests.admin.browser import FLAGS, chromium
from tests.api.support import PERMISSIONS, make_user
from tests.reporting.rows import swept, tally

OPERATIONS = {
    ("get", "/api/v1/notifications"),
    ("post", "/api/v1/notifications"),
    ("post", "/api/v1/notifications/batch"),
    ("post", "/api/v1/notifications/requeue"),
    ("get", "/api/v1/notifications/{event_id}"),
    ("post", "/api/v1/notifications/{event_id}/read"),
    ("post", "/api/v1/notifications/{event_id}/requeue"),
    ("post", "/api/v1/notifications/{event_id}/restore"),
    ("get", "/api/v1/stats/summary"),
    ("get", "/api/v1/certificates"),
    ("get", "/api/v1/certificates/{fingerprint}"),
    ("get", "/api/v1/watches"),
}


def test_the_document_names_every_call_and_is_openapi_3_1(client: Client) -> None:
    response = client.get("/api/v1/schema")
    document = response.json()
    assert response["Content-Type"] == "application/json"
    assert document["openapi"].startswith("3.1.")
    found = {(method, path) for path, calls in document["paths"].items() for method in calls}
    assert found == OPERATIONS
    assert "openapi: 3.1" in client.get("/api/v1/schema", headers={"Accept": "application/yaml"}).text


def test_every_body_and_answer_has_an_example_that_is_valid(client: Client) -> None:
    document = client.get("/api/v1/schema").json()
    calls = [call for path in document["paths"].values() for call in path.values()]
    bodies = [call["requestBody"] for call in calls if "requestBody" in call]
    for described in [*bodies, *(answer for call in calls for answer in call["responses"].values())]:
        content = described["content"]["application/json"]
        schema = Draft202012Validator(content["schema"] | {"components": document["components"]})
        assert content["examples"]
        for example in content["examples"].values():
            schema.validate(example["value"])


def test_the_summary_is_as_described_in_every_part(api: APIClient) -> None:
    factories.one_of_each()
    tally("Slack", "sent", attempts=5, milliseconds=2_500, age_0=5)
    swept("retry", factories.ago(minutes=1))
    now = timezone.now()
    held = {"endpoint": "slack", "channel": "Slack", "reason": "auth", "error": "HTTP 403"}
    Hold.objects.create(since=now, until=now + timedelta(hours=1), **held)
    answer = api.get("/api/v1/stats/summary").json()
    assert answer["holds"]
    assert set(answer) == set(shapes.SUMMARY_SHAPE["properties"])
    strict = {**shapes.SUMMARY_SHAPE, "additionalProperties": False}
    Draft202012Validator(strict, format_checker=FormatChecker()).validate(answer)


def test_the_page_needs_nothing_from_elsewhere(client: Client) -> None:
    response = client.get("/api/v1/docs")
    assert "script-src 'self'" in response["Content-Security-Policy"]
    links = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/static/")
        assert finders.find(link.removeprefix("/static/"))
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", response.text)


def test_schemathesis_finds_nothing(server: str, tmp_path: Path) -> None:
    for _ in range(3):
        factories.one_of_each()
    secret = ApiToken.objects.issue(make_user("fuzz", *PERMISSIONS), "test")[1]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server}/api/v1/schema"),
        *("--header", f"Authorization: Bearer {secret}", "--checks", "all"),
        *("--max-examples", "10", "--generation-deterministic", "--request-timeout", "20", "--no-color"),
    ]
    # A list that is one too long may also be too long in bytes.
    refusals = ["400", "401", "403", "404", "405", "413", "415"]
    config = f"[checks.negative_data_rejection]\nexpected-statuses = {refusals}\n"
    (tmp_path / "schemathesis.toml").write_text(config)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert f"{len(OPERATIONS)} selected" in result.stdout


def test_a_person_tries_a_call_with_a_token(server: str) -> None:
    factories.dead(message="to be seen in the page")
    secret = ApiToken.objects.issue(make_user("curious", "viewer"), "test")[1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        page = browser.new_page()
        page.goto(f"{server}/api/v1/docs")
        page.click("button.authorize", timeout=30_000)
        page.locator(".auth-container input").first.fill(secret)
        page.locator(".auth-container button.authorize").first.click()
        page.locator(".auth-container .btn-done").first.click()
        page.click("#operations-notifications-list_notifications .opblock-summary-control")
        page.click("button.try-out__btn")
        page.click("button.execute")
        answer = page.locator(".live-responses-table")
        expect(answer).to_contain_text("to be seen in the page", timeout=30_000)
        browser.close()


def test_the_page_shows_every_call_in_a_browser(server: str) -> None:
    seen: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(playwright), args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda request: seen.append(request.url))
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.goto(f"{server}/api/v1/docs")
        expect(page.locator(".opblock")).to_have_count(len(OPERATIONS), timeout=30_000)
        browser.close()
    assert [entry for entry in seen if not entry.startswith((server, "data:"))] == []
