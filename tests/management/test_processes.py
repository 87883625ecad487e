"""What a shell and cron see: exit codes, one line of error, nothing else. Each takes a new process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from notifications.models import NotificationEvent
from tests import factories
from tests.receiver import HttpReceiver

NOWHERE = "postgresql://nobody:s3cret@127.0.0.1:1/nothing"


class Shell:
    def __init__(self, program: list[str], environment: dict[str, str]) -> None:
        self.program = program
        self.environment = environment

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.program, "notifications", *arguments],
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def shell(certctl_command: list[str], process_environment: dict[str, str]) -> Shell:
    return Shell(certctl_command, process_environment)


def test_done_is_0_and_says_nothing_on_standard_error(shell: Shell) -> None:
    dead = factories.dead()
    ran = shell("requeue", "--all", "--yes")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1 requeued\n", "")
    assert NotificationEvent.objects.get(pk=dead.pk).status == "pending"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("show", "nope"), 1), (("requeue", "--all"), 2), (("list", "--status", "lost"), 2), ((), 2)],
)
def test_what_was_not_done(shell: Shell, arguments: tuple[str, ...], code: int) -> None:
    ran = shell(*arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("verb", [("stats",), ("list",), ("prune", "--older-than", "90d")])
def test_without_a_database_it_is_1_in_one_line_without_the_password(
    shell: Shell, verb: tuple[str, ...]
) -> None:
    ran = shell(*verb, DATABASE_URL=NOWHERE)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert len(ran.stderr.splitlines()) == 1
    assert "s3cret" not in ran.stderr


def test_bad_settings_are_1_in_one_line(shell: Shell) -> None:
    ran = shell("test", "Webhook", "oncall", CERTCTL_NOTIFICATION_LEASE="1s")
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "LEASE" in ran.stderr


def test_a_reader_that_has_seen_enough_is_no_error(shell: Shell) -> None:
    for n in range(200):
        factories.dead(last_error="x" * 1900, id=f"n{n}")
    command = " ".join([*shell.program, "notifications list --limit 200"])
    piped = ["bash", "-c", f"set -o pipefail; {command} | head -n 1"]
    ran = subprocess.run(piped, env=shell.environment, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("ID ")
    assert ran.stderr == ""


def test_a_site_s_own_words_are_sent(shell: Shell, receiver: HttpReceiver, tmp_path: Path) -> None:
    folder = tmp_path / "notifications" / "slack"
    folder.mkdir(parents=True)
    (folder / "subject.txt").write_text("Achtung: {{ message.type }}")
    slack = {"CERTCTL_SLACK_WEBHOOK_URL": receiver.url(), "CERTCTL_TEMPLATES": str(tmp_path)}
    assert shell("test", "Slack", "#pki", **slack).returncode == 0
    text = receiver.requests[0].json["text"]
    assert text.startswith("\N{LARGE GREEN CIRCLE} Achtung: Test\n")
    assert "Nothing is wrong, and" in text  # and the body that ships


COMMANDS = (
    "notifications stats",
    "notifications requeue --all --yes",
    "retry_notifications --json",
    "send_notifications --dry-run",
    "api_tokens list",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_reads_it(shell: Shell, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [*shell.program, *command.split()]
    quiet = shell.environment | {"CERTCTL_LOG_LEVEL": "ERROR"}
    ran = subprocess.run(program, env=quiet, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_1_in_one_line(shell: Shell, command: str) -> None:
    program = [*shell.program, *command.split()]
    quiet = shell.environment | {"CERTCTL_LOG_LEVEL": "ERROR"}
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(program, env=quiet, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == ["CommandError: the output cannot be written: No space left on device"]
