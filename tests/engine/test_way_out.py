"""Out of a company's network as its operators set it up: by the environment, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from notifications.models import NotificationEvent, Status
from tests import factories
from tests.notifiers.connect_proxy import ConnectProxy
from tests.processes import ROOT
from tests.receiver import HttpReceiver

HOST = "hooks.example"  # which only the proxy knows
PASSWORD = "pr0xy-pass-w0rd"
TOKEN = "t0ken-of-the-receiver"


def sweep(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "send_notifications", "--json"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_sweep_goes_out_through_the_proxy_that_a_file_names(
    process_environment: dict[str, str], certctl_command: list[str], tmp_path: Path
) -> None:
    rows = [factories.pending(recipient="ops") for _ in range(3)]
    with (
        HttpReceiver() as server,
        ConnectProxy({HOST: server.port}, login=f"certctl:{PASSWORD}") as proxy,
        HttpReceiver() as inside,
    ):
        rows.append(factories.pending(recipient=inside.url()))
        (tmp_path / "proxy").write_text(f"{proxy.at(f'certctl:{PASSWORD}')}\n")
        (tmp_path / "headers").write_text(json.dumps({"Authorization": f"Bearer {TOKEN}"}))
        out = {
            "HTTP_PROXY_FILE": str(tmp_path / "proxy"),
            "NO_PROXY": "intern.example",
            "CERTCTL_WEBHOOK_URL": server.url(host=HOST),
            "CERTCTL_WEBHOOK_HEADERS_FILE": str(tmp_path / "headers"),
            "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CERTCTL_LOG_LEVEL": "DEBUG",
        }
        ran = sweep(certctl_command, process_environment | out)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout.splitlines()[-1])["sent"] == len(rows)
    assert proxy.asked == [f"POST http://{HOST}:{server.port}/hook"] * 3
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {TOKEN}"}
    assert len(inside.requests) == 1  # on this host, and so without the proxy
    assert "Authorization" not in inside.requests[0].headers
    for secret in (PASSWORD, TOKEN):
        assert secret not in ran.stdout + ran.stderr


def test_a_login_that_the_proxy_refuses_costs_no_alert_an_attempt(
    process_environment: dict[str, str], certctl_command: list[str]
) -> None:
    row = factories.pending(recipient="ops")
    with ConnectProxy(login="certctl:other") as proxy:
        out = {
            "HTTPS_PROXY": proxy.at(f"certctl:{PASSWORD}"),
            "CERTCTL_WEBHOOK_URL": f"https://{HOST}/hook",
        }
        ran = sweep(certctl_command, process_environment | out)
    assert ran.returncode == 0, ran.stderr
    row.refresh_from_db()
    assert (row.status, row.retry_count) == (Status.FAILED, 0) or row.status == Status.PENDING
    assert NotificationEvent.objects.dead().count() == 0
    shown = f"{ran.stdout}{ran.stderr}{row.last_error}{row.error}"
    assert "wants a login" in shown
    assert PASSWORD not in shown
