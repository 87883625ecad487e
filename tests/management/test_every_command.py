"""Every command ends in one line, with exit code 1, where the database is away, empty, or refuses us."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands
from django.db import connection

from notifications.certificates.management.commands import watch
from notifications.management.commands.notifications import VERBS
from tests.processes import ROOT, current_database_url
from tests.settings import TEST_DATABASE

ALERT = ["--type", "Revocation", "--channel", "Webhook", "--recipient", "ops", "--message", "revoked"]
COMMANDS = [
    ["send_notifications"],
    ["retry_notifications", "--dry-run", "--include-unscheduled"],
    ["run_notifications"],
    ["api_tokens", "create", "alice", "--name", "grafana"],
    ["api_tokens", "list"],
    ["api_tokens", "revoke", "alice", "--all"],
    ["notifications", "create", *ALERT],
    ["notifications", "list"],
    ["notifications", "show", "n-1"],
    ["notifications", "preview", "n-1"],
    ["notifications", "requeue", "--all", "--yes"],
    ["notifications", "read", "n-1"],
    ["notifications", "restore", "n-1"],
    ["notifications", "status"],
    ["notifications", "stats"],
    ["notifications", "holds"],
    ["notifications", "pause", "Webhook"],
    ["notifications", "lift", "1"],
    ["notifications", "prune", "--older-than", "90d"],
    ["watch", "add", "example.com"],
    ["watch", "list"],
    ["watch", "show", "example.com"],
    ["watch", "check"],
    ["watch", "remove", "example.com"],
    ["watch", "apply", "tests/certificates/watches.toml"],
    ["clearsessions"],  # Django's own
]
# The one asks the database nothing until a tool is called, the other goes on without it where it can.
ELSEWHERE = {"mcp_server": "tests/test_mcp.py", "test": "tests/management/test_stats_test.py"}
WORDS = {
    "away": "connection refused",
    "no tables": "migrate",
    "no right": r"the role stranger_\d+ may not do it; the role \S+, to which \S+ belongs, must",
}
BROKEN = ["no tables"] if TEST_DATABASE == "sqlite" else list(WORDS)


@pytest.fixture(params=BROKEN)
def broken(
    request: pytest.FixtureRequest, transactional_db: None, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """What is wrong, and the URL of such a database."""
    name, used, role = request.param, current_database_url(), f"stranger_{os.getpid()}"
    if name == "away":
        yield name, "postgresql://nobody:s3cret@127.0.0.1:1/nothing"
    elif TEST_DATABASE == "sqlite":
        yield name, f"sqlite:///{tmp_path}/empty.sqlite3"
    elif name == "no tables":
        yield name, f"{used}&options=-csearch_path%3Dnowhere"
    else:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {role} LOGIN")
            yield name, re.sub(r"//[^@]*@", f"//{role}@", used)
            cursor.execute(f"DROP ROLE {role}")


def outcomes(url: str, commands: list[list[str]]) -> list[dict[str, Any]]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "certctl.settings", "DATABASE_URL": url}
    command = [sys.executable, "-m", "tests.management.forked", json.dumps(commands)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_no_command_is_forgotten() -> None:
    ours = {name for name, app in get_commands().items() if app.startswith("notifications")}
    assert ours <= {command[0] for command in COMMANDS} | ELSEWHERE.keys()
    verbs = {"notifications": VERBS, "watch": watch.VERBS}
    for name, known in verbs.items():
        assert known.keys() <= {command[1] for command in COMMANDS if command[0] == name} | ELSEWHERE.keys()


def test_it_ends_in_one_line(broken: tuple[str, str]) -> None:
    name, url = broken
    for command, ran in zip(COMMANDS, outcomes(url, COMMANDS), strict=True):
        *before, said = ran["err"].splitlines()
        assert (ran["code"], ran["out"]) == (1, ""), command
        assert not [line for line in before if " INFO " not in line], command
        assert re.match("(CommandError|certctl): ", said), command
        assert re.search(WORDS[name], said, re.IGNORECASE), (command, said)
        assert "s3cret" not in said
