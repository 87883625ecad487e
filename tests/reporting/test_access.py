"""Who may see /metrics, /readyz, the API's document and its page: everybody, unless its setting says less."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client

from notifications import conf
from notifications.api.models import ApiToken
from notifications.conf import ACCESS_CHOICES
from tests.api.support import make_user
from tests.fixtures import Configure
from tests.processes import ROOT

PAGES = {
    "METRICS_ACCESS": "/metrics",
    "READYZ_ACCESS": "/readyz",
    "SCHEMA_ACCESS": "/api/v1/schema",
    "DOCS_ACCESS": "/api/v1/docs",
}
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_throttle() -> None:
    cache.clear()


def statuses(client: Client) -> dict[str, int]:
    return {setting: client.get(path).status_code for setting, path in PAGES.items()}


def with_token(*roles: str) -> Client:
    user = make_user("-".join(roles) or "nobody", *roles)
    return Client(headers={"authorization": f"Bearer {ApiToken.objects.issue(user, 'test')[1]}"})


def seen(setting: str) -> int:
    """What a page says that is seen: nobody has swept yet, so /readyz is not ready."""
    return 503 if setting == "READYZ_ACCESS" else 200


def test_without_a_setting_everybody_sees_them(client: Client) -> None:
    assert statuses(client) == {setting: seen(setting) for setting in PAGES}
    assert statuses(with_token()) == {setting: seen(setting) for setting in PAGES}


@pytest.mark.parametrize("setting", PAGES)
def test_each_setting_closes_its_page_alone(setting: str, client: Client, configure: Configure) -> None:
    others = {other: seen(other) for other in PAGES if other != setting}
    configure(**{setting: "nobody"})
    assert statuses(client) == others | {setting: 404}
    configure(**{setting: "viewers"})
    assert statuses(client) == others | {setting: 401}


@pytest.mark.parametrize("setting", PAGES)
def test_viewers_are_whoever_may_view_notifications(setting: str, configure: Configure) -> None:
    configure(**{setting: "viewers"})
    path = PAGES[setting]
    assert with_token("viewer").get(path).status_code == seen(setting)
    assert with_token("adder").get(path).status_code == 403
    for is_staff, status in ((True, seen(setting)), (False, 401)):
        client = Client()
        client.force_login(make_user(f"staff-{is_staff}", "viewer", is_staff=is_staff))
        assert client.get(path).status_code == status
    refused = Client(headers={"authorization": "Bearer wrong"}).get(path)
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
    assert set(refused.json()["error"]) == {"code", "message", "fields"}
    assert "certctl_" not in refused.text


def test_a_fault_opens_nothing(client: Client, configure: Configure, settings: Any) -> None:
    """Neither in the setting itself, which `check` names, nor in another one."""
    configure(**dict.fromkeys(PAGES, "viewer"))
    assert len(conf.faults(settings.NOTIFICATIONS)) == len(PAGES)
    assert ", ".join(ACCESS_CHOICES) in conf.faults(settings.NOTIFICATIONS)[0]
    assert statuses(client) == dict.fromkeys(PAGES, 404)
    configure(**dict.fromkeys(PAGES, "viewers"), MAX_ATTEMPTS="many")
    assert statuses(client) == dict.fromkeys(PAGES, 401)
    settings.NOTIFICATIONS = None
    assert statuses(client) == dict.fromkeys(PAGES, 404)


def test_without_the_database_viewers_are_not_known(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(**dict.fromkeys(PAGES, "viewers"))
    client = with_token("viewer")

    def away(*_: Any) -> None:
        raise OperationalError("connection refused by db-1.internal")

    monkeypatch.setattr(ApiToken.objects, "usable", away)
    for path in PAGES.values():
        answer = client.get(path)
        assert answer.status_code == 503
        assert "internal" not in answer.text


SCRAPE = """
import django
django.setup()
from django.test import Client
print(Client().get("/metrics", secure=True, headers={"host": "localhost"}).text)
"""


def test_sites_of_several_processes_have_all_their_metrics(tmp_path: Path) -> None:
    """Those that each counts by itself added up, and ours once."""
    for name in ("first", "second"):
        variables = {
            "DJANGO_SETTINGS_MODULE": "certctl.settings",
            "DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite3",
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        }
        command = [sys.executable, "-W", "error", "-c", SCRAPE]
        ran = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
        assert ran.returncode == 0, (name, ran.stderr)
    assert "django_http_requests_before_middlewares_total 2.0" in ran.stdout
    assert ran.stdout.count("# TYPE certctl_notification_attempts_total counter") <= 1
