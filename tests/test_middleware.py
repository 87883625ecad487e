"""Where the project answers: below the path of its public address, and for probes under any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from certctl.login import MOST
from tests.processes import ROOT

LOOK = """
import json, re
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from notifications import conf
from notifications.queue.messages import dead_letters

call_command("migrate", verbosity=0, skip_checks=True)
public = Client(headers={"host": "pki.example.com", "x-forwarded-proto": "https"})
probe = Client(headers={"host": "10.1.2.3:8000"})

def got(client, path):
    answer = client.get(path)
    return {"status": answer.status_code, "text": answer.text, "to": answer.headers.get("Location")}

login = {path: got(public, path) for path in ("/certctl/admin/login/", "/admin/login/")}
styles = re.findall(r'href="([^"]+[.]css)"', login["/admin/login/"]["text"])
print(json.dumps({
    "login": login,
    "first": [got(public, path) for path in ("/certctl", "/certctl/", "/")],
    "styles": styles,
    "style": [public.get(path).status_code for path in styles],
    "servers": public.get("/certctl/api/v1/schema").json()["servers"],
    "page": got(public, "/api/v1/docs"),
    "missing": got(public, "/certctl/api/v1/none"),
    "link": dead_letters(conf.current().base_url),
    "probes": [probe.get(f"{prefix}/{path}").status_code
               for prefix in ("", "/certctl") for path in ("healthz", "readyz", "metrics")],
    "other": probe.get("/admin/", secure=True).status_code,
}))
"""


def looked(folder: Path) -> Any:
    variables = {
        "DJANGO_SETTINGS_MODULE": "certctl.settings",
        "DATABASE_URL": f"sqlite:///{folder}/x.sqlite3",
        "CERTCTL_BASE_URL": "https://pki.example.com/certctl/",
        "CERTCTL_BEHIND_PROXY": "1",
        "CERTCTL_INSECURE_HTTP": "",
    }
    ran = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout), ran.stderr


def test_all_is_below_the_path_of_the_public_address_and_probes_need_no_name(tmp_path: Path) -> None:
    found, logged = looked(tmp_path)
    for answer in found["login"].values():  # as a proxy that strips the prefix asks, and one that does not
        assert (answer["status"], 'action="/certctl/admin/login/"' in answer["text"]) == (200, True)
    assert [answer["to"] for answer in found["first"]] == ["/certctl/admin/"] * 3
    assert found["styles"]
    assert all(path.startswith("/certctl/static/") for path in found["styles"])
    assert set(found["style"]) == {200}
    assert found["servers"] == [{"url": "/certctl"}]
    assert 'data-schema="/certctl/api/v1/schema"' in found["page"]["text"]
    assert found["missing"]["status"] == 404
    assert (
        found["link"] == "https://pki.example.com/certctl/admin/notifications/notificationevent/?status=dead"
    )
    healthz, readyz, metrics = found["probes"][:3]
    assert (healthz, readyz, metrics) == (200, 503, 200)  # nobody has swept yet
    assert found["probes"][3:] == [healthz, readyz, metrics]
    assert found["other"] == 400
    assert "metrics" not in logged


@pytest.mark.django_db
def test_every_page_has_a_policy_and_a_page_may_have_its_own(client: Client) -> None:
    pages = {
        path: client.get(path)["Content-Security-Policy"] for path in ("/admin/login/", "/api/v1/docs", "/x")
    }
    assert all(
        "script-src 'self'" in policy and "frame-ancestors 'none'" in policy for policy in pages.values()
    )
    assert "form-action 'none'" in pages["/api/v1/docs"]


@pytest.mark.django_db
def test_passwords_can_be_guessed_only_so_often(client: Client) -> None:
    User.objects.create_superuser("ada", password="right")

    def login(name: str, password: str, address: str = "10.0.0.1") -> Any:
        given = {"username": name, "password": password}
        return client.post("/admin/login/?next=/admin/", given, REMOTE_ADDR=address)

    for _ in range(MOST):
        assert "correct username and password" in login("ada", "wrong").text
    assert "Too many wrong passwords" in login("ada", "right").text
    assert "correct username and password" in login("bob", "wrong").text
    assert login("ada", "right", "10.0.0.2").status_code == 302


FORWARDED = {"username": "ada", "password": "wrong"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("in_front", "refused"),
    [(0, True), (1, False), (2, False)],
    ids=["nobody is trusted", "one proxy", "two proxies"],
)
def test_whom_the_login_s_throttle_counts(
    in_front: int, refused: bool, client: Client, settings: Any
) -> None:
    """Untrusted, a caller who writes another address each time is still one caller."""
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": in_front}
    cache.clear()
    User.objects.create_superuser("ada", password="right")

    def login(number: int) -> str:
        heard = [f"10.9.9.{number}", f"192.0.2.{number}", "10.0.0.7"][: in_front + 1]
        return client.post(
            "/admin/login/?next=/admin/",
            FORWARDED,
            REMOTE_ADDR="10.0.0.1",
            HTTP_X_FORWARDED_FOR=", ".join(heard),
        ).text

    said = [login(number) for number in range(MOST + 1)]
    assert ("Too many wrong passwords" in said[-1]) == refused


@pytest.mark.django_db
def test_what_a_caller_writes_before_the_proxy_s_word_changes_nothing(client: Client, settings: Any) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    cache.clear()
    User.objects.create_superuser("ada", password="right")
    for number in range(MOST):
        client.post("/admin/login/", FORWARDED, HTTP_X_FORWARDED_FOR=f"6.6.6.{number}, 192.0.2.1")
    last = client.post("/admin/login/", FORWARDED, HTTP_X_FORWARDED_FOR="7.7.7.7,192.0.2.1")
    assert "Too many wrong passwords" in last.text
    other = client.post("/admin/login/", FORWARDED, HTTP_X_FORWARDED_FOR="192.0.2.2")
    assert "correct username and password" in other.text
