"""docs/cli.md is right: its examples run, one after the other, and do what the page says."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from notifications.models import NotificationEvent
from tests import factories
from tests.receiver import HttpReceiver

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "cli.md").read_text()
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(
    certctl_command: list[str], process_environment: dict[str, str], webhook: HttpReceiver, tmp_path: Path
) -> dict[str, str]:
    """The environment of a shell that finds certctl, on this test's database and receiver, and a certbot
    that fails."""
    program = tmp_path / "bin" / "certctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(certctl_command)} "$@"\n')
    program.chmod(0o755)
    certbot = program.with_name("certbot")
    certbot.write_text("#!/bin/sh\nexit 1\n")
    certbot.chmod(0o755)
    return process_environment | {
        "PATH": f"{program.parent}:{process_environment['PATH']}",
        "CERTCTL_WEBHOOK_URL": webhook.url(),
        "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CERTCTL_ENV": str(tmp_path / "none.env"),
    }


def test_the_examples_run_and_do_what_the_page_says(shell: dict[str, str], webhook: HttpReceiver) -> None:
    script = "set -euo pipefail\n" + "\n".join(EXAMPLES)
    ran = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=shell, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [
        line for line in ran.stderr.splitlines() if " INFO notifications.endpoints.holds: " not in line
    ] == []
    raised = dict(NotificationEvent.objects.values_list("dedup_key", "message"))
    assert raised.pop(None).startswith("ldap.example.com")
    assert raised.pop("expiry:mc-api-prod:7") == "api.example.com expires in 7 days"
    for name in ("www.example.com", "ldap.example.com"):
        assert raised.pop(f"expiry:{name}:7") == f"{name} expires in 7 days"
    renewed = raised.pop("renewed:shop.example.com:cert7.pem")
    assert renewed.endswith(": shop.example.com www.shop.example.com")
    assert {re.sub(r"\d{4}-\d\d-\d\d$", "DAY", str(key)) for key in raised} == {
        "renewal-failed:vpn.example.com:DAY",
        "renewal-failed:*.lab.example.com:DAY",
        f"certbot:{socket.gethostname()}:DAY",
    }
    assert len(webhook.requests) == 1  # the test alert: nothing else was sent


def test_every_verb_has_an_example() -> None:
    used = set(re.findall(r"certctl notifications (\w+)", "\n".join(EXAMPLES)))
    assert used == {
        "create",
        "list",
        "show",
        "preview",
        "requeue",
        "read",
        "stats",
        "test",
        "holds",
        "pause",
        "lift",
        "prune",
    }


def test_a_hook_without_a_recipient_says_so(shell: dict[str, str]) -> None:
    hook = str(ROOT / "deploy" / "certbot" / "renew-failure-hook.sh")
    environment = shell | {"FAILED_DOMAINS": "vpn.example.com"}
    ran = subprocess.run([hook], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "CERTCTL_HOOK_RECIPIENT" in ran.stderr


def test_a_lineage_that_is_none_raises_nothing(shell: dict[str, str], tmp_path: Path) -> None:
    hook = str(ROOT / "deploy" / "certbot" / "deploy-hook.sh")
    (tmp_path / "cert.pem").touch()
    environment = shell | {"RENEWED_LINEAGE": str(tmp_path), "RENEWED_DOMAINS": "a.example.com"}
    ran = subprocess.run([hook], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert not NotificationEvent.objects.exists()


def test_readme_delivers_what_certctl_lost(shell: dict[str, str], webhook: HttpReceiver) -> None:
    """What it says for a certctl database, but for whose it is, and for the service that never ends."""
    lost = [factories.stranded(channel=channel, recipient="#pki") for channel in ("Slack", "Email")]
    (section,) = re.findall(r"^## On a certctl database\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)).splitlines()
    typed = [line for line in lines if not re.match("export|certctl run_notifications", line)]
    assert len(lines) - len(typed) == 4
    ran = subprocess.run(
        ["bash", "-c", "\n".join(["set -eu", *typed])],
        env=shell | {"CERTCTL_SLACK_WEBHOOK_URL": webhook.url("/slack")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [request.path for request in webhook.requests] == [
        "/slack",
        "/slack",
    ]  # the test; the lost one
    for event in lost:
        event.refresh_from_db()
    assert [event.status for event in lost] == ["sent", "failed"]
