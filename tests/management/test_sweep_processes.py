"""The sweep commands as cron runs them: real processes, their exit codes and what they leave behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command

from notifications.models import NotificationEvent, Status
from tests import factories
from tests.receiver import HELD, HttpReceiver

COMMANDS = {"retry_notifications": factories.failed, "send_notifications": factories.pending}


@pytest.fixture
def environment(receiver: HttpReceiver, process_environment: dict[str, str]) -> dict[str, str]:
    """In which the Webhook channel posts to the receiver."""
    return process_environment | {
        "CERTCTL_WEBHOOK_URL": receiver.url(),
        "CERTCTL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    }


def run(command: list[str], environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *args], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("answer", "options", "code"),
    [
        (200, [], 0),
        (200, ["--fail-on-dead"], 0),
        (503, [], 0),
        (503, ["--fail-on-dead"], 0),
        (400, [], 0),
        (400, ["--fail-on-dead"], 2),
        (400, ["--fail-on-dead", "--dry-run"], 0),
    ],
)
def test_the_exit_code(
    receiver: HttpReceiver,
    environment: dict[str, str],
    certctl_command: list[str],
    command: str,
    answer: int,
    options: list[str],
    code: int,
) -> None:
    receiver.always(answer)
    COMMANDS[command]()
    ran = run(certctl_command, environment, command, *options)
    assert ran.returncode == code
    assert ran.stdout.strip()
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_the_last_line_of_standard_output(
    environment: dict[str, str], certctl_command: list[str], command: str
) -> None:
    COMMANDS[command]()
    ran = run(certctl_command, environment, command, "--json")
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer.pop("seconds") >= 0
    assert answer == {
        "kind": "retry" if command == "retry_notifications" else "pending",
        "claimed": 1,
        "sent": 1,
        "rescheduled": 0,
        "dead": 0,
        "no_notifier": 0,
        "released": 0,
    }


def test_no_bar_where_nobody_watches(
    receiver: HttpReceiver, environment: dict[str, str], certctl_command: list[str]
) -> None:
    """More than a second of work, and still one line."""
    receiver.always(HELD)
    factories.pending()
    timeout = {"CERTCTL_NOTIFICATION_SEND_TIMEOUT": "2s", "CERTCTL_LOG_LEVEL": "CRITICAL", "TERM": "xterm"}
    ran = run(certctl_command, environment | timeout, "send_notifications")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) == 1
    assert "1 rescheduled" in ran.stdout


def test_a_setting_that_is_none_is_one_line(
    environment: dict[str, str], certctl_command: list[str], tmp_path: Path
) -> None:
    module = "from certctl.settings import *\nNOTIFICATIONS['MAX_ATEMPTS'] = 3\n"
    (tmp_path / "site_settings.py").write_text(module)
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    changed = environment | {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": path}
    ran = run(certctl_command, changed, "retry_notifications")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "MAX_ATEMPTS" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_database_that_was_never_migrated_is_one_line(
    environment: dict[str, str], certctl_command: list[str], tmp_path: Path
) -> None:
    changed = environment | {"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}"}
    ran = run(certctl_command, changed, "retry_notifications")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert len(ran.stderr.splitlines()) == 1
    assert "migrate" in ran.stderr


@pytest.mark.django_db
@pytest.mark.parametrize("command", COMMANDS)
def test_a_dry_run_does_not_count_what_another_worker_has(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    COMMANDS[command]()
    factories.leased(status=Status.PENDING if command == "send_notifications" else Status.FAILED)
    call_command(command, "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["due"] == 1
    assert NotificationEvent.objects.count() == 2


def test_a_database_file_that_is_read_only_is_one_line_and_nothing_is_lost(
    receiver: HttpReceiver, environment: dict[str, str], certctl_command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "site.sqlite3"
    writable = environment | {"DATABASE_URL": f"sqlite:///{path}"}
    read_only = environment | {"DATABASE_URL": f"sqlite:///file:{path}%3Fmode=ro"}
    alert = {"type": "ExpirationWarning", "channel": "Webhook", "recipient": "#pki", "message": "expires"}
    create = ["notifications", "create", *(f"--{name}={value}" for name, value in alert.items())]
    assert run(certctl_command, writable, "migrate", "--verbosity", "0").returncode == 0
    assert run(certctl_command, writable, *create).returncode == 0

    for command in (create, ["send_notifications"], ["retry_notifications"], ["run_notifications"]):
        ran = run(certctl_command, read_only, *command)
        assert (ran.returncode, ran.stdout) == (1, ""), command
        assert "readonly database" in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
    assert receiver.ids == []
    listed = run(certctl_command, read_only, "notifications", "list", "--json")
    assert [row["status"] for row in json.loads(listed.stdout)] == ["pending"]

    assert run(certctl_command, writable, "send_notifications").returncode == 0
    assert len(receiver.ids) == 1
