"""docs/api.md is right: its examples run against the project under gunicorn, in a real shell with curl."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from notifications.api.models import ApiToken
from notifications.models import NotificationEvent
from tests import factories
from tests.api.support import make_user

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_run_and_do_what_the_page_says(
    server: str, certctl_command: list[str], process_environment: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "certctl"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(certctl_command)} "$@"\n')
    program.chmod(0o755)
    environment = process_environment | {"PATH": f"{tmp_path}:{process_environment['PATH']}"}
    make_user("certbot", "adder", "requeuer")
    dead = factories.dead(channel="slack")
    script = "set -euo pipefail\n" + "\n".join(EXAMPLES).replace("https://certctl.example.com", server)
    ran = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    raised = NotificationEvent.objects.get(dedup_key="renewal:api.example.com:2026-11-23")
    assert (raised.message, raised.recipient) == ("api.example.com was not renewed", "#pki")
    assert '{"requeued":1,"skipped":0}' in ran.stdout
    dead.refresh_from_db()
    assert dead.status == "dead"
    assert list(ApiToken.objects.values_list("name", flat=True)) == ["hook on web-1"]
