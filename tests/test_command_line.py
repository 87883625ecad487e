"""`certctl` itself: what it says without settings, the environment file, slips of the pen, and `init`."""

from __future__ import annotations

import os
import pty
import re
import select
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from certctl import environment_file, unknown
from notifications.notifiers.shipped import SHIPPED
from tests.processes import PATIENCE, ROOT
from tests.receiver import HttpReceiver

KEY = {"CERTCTL_SECRET_KEY": "Zw8rN1vQ0kX5tJ7yB3mH9cL2pS6dF4gA-aTqEuWoRiYxKzVn"}
Certctl = Callable[..., subprocess.CompletedProcess[str]]


def clean(variables: dict[str, str]) -> dict[str, str]:
    """The environment of somebody who has set nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not environment_file.TAKEN.fullmatch(name)}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    return kept | {"PYTHONPATH": str(ROOT)} | variables


@pytest.fixture
def certctl(tmp_path: Path) -> Certctl:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "certctl", *arguments],
            cwd=tmp_path,
            env=clean(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


# Without settings

BROKEN = {"CERTCTL_DEBUG": "perhaps", "DATABASE_URL": "nonsense", "CERTCTL_NOTIFICATION_LEASE": "soon"}


@pytest.mark.parametrize("variables", [{}, BROKEN], ids=["nothing set", "all wrong"])
@pytest.mark.parametrize("asked", ["", "--help", "-h", "help"])
def test_help_needs_no_settings_and_begins_with_our_commands(
    certctl: Certctl, asked: str, variables: dict[str, str]
) -> None:
    if not asked and variables:
        variables = {}  # whoever asks nothing at all may be told what is wrong
    ran = certctl(*([asked] if asked else []), **variables)
    assert (ran.returncode, ran.stderr) == (0, "")
    listed = re.findall(r"^  (\w+) ", ran.stdout, re.MULTILINE)
    ours = ["api_tokens", "init", "mcp_server", "notifications", "retry_notifications", "run_notifications"]
    assert listed[: len(ours)] == ours
    assert listed.index("send_notifications") < listed.index("migrate")
    assert "dbshell" in ran.stdout


@pytest.mark.parametrize("command", ["notifications", "run_notifications", "init", "migrate"])
def test_every_command_s_help_needs_no_settings(certctl: Certctl, command: str) -> None:
    for arguments in ([command, "--help"], ["help", command]):
        ran = certctl(*arguments, **BROKEN)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(f"usage: certctl {command}")


def test_the_version_is_ours(certctl: Certctl) -> None:
    for asked in (["--version"], ["version"], ["migrate", "--version"]):
        ran = certctl(*asked)
        assert ran.stdout.startswith(f"certctl-notifications {version('certctl-notifications')} (Django ")
        assert (ran.returncode, ran.stderr) == (0, "")


# Slips of the pen


def test_what_nothing_reads_is_named_with_what_was_meant_once(certctl: Certctl) -> None:
    slips = {"CERTCTL_NOTIFICATION_MAX_ATEMPTS": "3", "CERTCTL_MAX_ATTEMPTS": "3"}
    meant = "did you mean CERTCTL_NOTIFICATION_MAX_ATTEMPTS?"
    checked = certctl("check", **KEY, **slips)
    assert checked.returncode == 0
    for name in slips:
        assert f"(certctl.W003) {name} is read by nothing: {meant}" in checked.stderr
    here = {"DATABASE_URL": "sqlite:///x.sqlite3"}
    started = certctl("migrate", "--verbosity=0", "--skip-checks", **KEY, **here, **slips)
    [line] = started.stderr.splitlines()
    assert line.count(meant) == 2


def test_what_is_read_and_what_is_certctl_s_own_draws_no_warning(certctl: Certctl) -> None:
    right = {
        "CERTCTL_NOTIFICATION_MAX_ATTEMPTS": "3",
        "CERTCTL_DATABASE_URL": "sqlite://:memory:",
        "CERTCTL_SMTP_PASSWORD_FILE": "/dev/null",
        "CERTCTL_HOOK_RECIPIENT": "ops",
        "CERTCTL_SERVER_PORT": "8443",
        "CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL": "30s",
        "CERTCTL_SECTIGO_PASSWORD": "x",
        "CERTCTL_DIGEST_INTERVAL": "24h",
    }
    ran = certctl("check", **KEY, **right)
    assert "W003" not in ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CERTCTL_SMTP_FROM", "CERTCTL_SMTP_FROM_ADDRESS"),
        ("CERTCTL_SLACK_WEBHOOK_URI", "CERTCTL_SLACK_WEBHOOK_URL"),
        ("CERTCTL_NOTIFICATON_LEASE", "CERTCTL_NOTIFICATION_LEASE"),
        ("CERTCTL_PAGERDUTY_ROUTING_KEYS", "CERTCTL_PAGERDUTY_ROUTING_KEY"),
        ("CERTCTL_NOTIFICATION_WHATEVER", None),
    ],
)
def test_a_slip_is_taken_for_what_it_is_most_like(name: str, meant: str | None) -> None:
    names = unknown.known(["CERTCTL_NOTIFICATION_LEASE"], SHIPPED)
    [said] = unknown.likely_slips({name: "x"}, names)
    assert said == f"{name} is read by nothing" + (f": did you mean {meant}?" if meant else "")


# The environment file


@given(st.text())
def test_a_value_is_read_as_it_was_written(value: str) -> None:
    if value.isprintable():
        line = f"CERTCTL_X={environment_file.quoted(value)}"
        assert environment_file.variable(line, "here") == ("CERTCTL_X", value)
    else:
        with pytest.raises(ValueError, match="one line"):
            environment_file.quoted(value)


@pytest.mark.parametrize("line", ["CERTCTL_X='a", "CERTCTL_X=a b", "touch run", "CERTCTL_X"])
def test_what_is_no_variable_is_refused_by_its_line_and_without_its_value(line: str, tmp_path: Path) -> None:
    path = tmp_path / "certctl.env"
    path.write_text(f"# a comment\n\nexport CERTCTL_Y=1  # another\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=r"certctl\.env, line 4: ") as refused:
        environment_file.read(path)
    assert line not in str(refused.value)


def test_the_file_is_read_as_data_and_a_shell_reads_it_alike(tmp_path: Path) -> None:
    values = {
        "CERTCTL_SMTP_PASSWORD": """it's "$HOME" `id` \\n & ; #1""",
        "CERTCTL_SLACK_CHANNEL": "#pki",
        "CERTCTL_NOTIFICATION_ESCALATION": '{"Slack": "Email:oncall@example.com"}',
        "DATABASE_URL": "postgresql://certctl:p%40ss@db.example.com/certctl?sslmode=require",
    }
    path = tmp_path / "certctl.env"
    environment_file.write(path, values, "ours")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert environment_file.read(path) == values
    script = f"set -a; . {path}; env -0"
    sourced = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert values.items() <= dict(one.split("=", 1) for one in sourced.split("\0") if one).items()


def test_the_file_s_writer_gets_nothing_run(certctl: Certctl, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('/dev/full', 'w').write('x' * 10000)")
    lines = [
        f"CERTCTL_SECRET_KEY={KEY['CERTCTL_SECRET_KEY']}",
        "DATABASE_URL=sqlite:///kept.sqlite3",
        "DJANGO_SETTINGS_MODULE=evil",
        f"PYTHONPATH={tmp_path}",
        "PYTHONSTARTUP=evil.py",
        "CERTCTL_SLACK_USERNAME=`touch${IFS}run`",
    ]
    (tmp_path / "certctl.env").write_text("\n".join(lines))
    ran = certctl("--env-file", "certctl.env", "migrate", "--verbosity=0")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "kept.sqlite3").exists()
    assert not (tmp_path / "run").exists()


def test_what_is_set_wins_over_the_file(certctl: Certctl, tmp_path: Path) -> None:
    (tmp_path / "certctl.env").write_text("DATABASE_URL=sqlite:///a.sqlite3\nCERTCTL_LOG_LEVEL=nonsense\n")
    ran = certctl("--env-file=certctl.env", "migrate", "-v0", **KEY, CERTCTL_LOG_LEVEL="ERROR")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "a.sqlite3").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--env-file", "no.env", "check"], 1, "there is no file no.env"), (["--env-file"], 2, "needs a path")],
)
def test_a_file_that_is_not_there_is_one_line(
    certctl: Certctl, arguments: list[str], code: int, said: str
) -> None:
    ran = certctl(*arguments)
    assert ran.returncode == code
    [line] = ran.stderr.splitlines()
    assert said in line


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe=\x00")
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        environment_file.read(tmp_path / "x")


# init


def test_init_makes_everything_up_to_a_test_alert(certctl: Certctl, tmp_path: Path) -> None:
    with HttpReceiver() as receiver:
        hook = f"CERTCTL_WEBHOOK_URL={receiver.url()}"
        ran = certctl(
            *("init", "--yes", "--file", "my.env", "--base-url", "https://certctl.example.com"),
            *("--set", hook, "--set", "CERTCTL_WEBHOOK_ALLOWED_NETWORKS=127.0.0.0/8"),
            *("--operator", "ada", "--test", "Webhook:oncall"),
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert [request.json["data"]["recipient"] for request in receiver.requests] == ["oncall"]
    path = tmp_path / "my.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = environment_file.read(path)
    assert len(written["CERTCTL_SECRET_KEY"]) >= 50
    assert written["CERTCTL_BEHIND_PROXY"] == "1"
    database = tmp_path / "certctl.sqlite3"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT username, is_superuser FROM auth_user").fetchall() == [("ada", 1)]
    password = re.search(r"with the password (\S+)", ran.stdout)
    assert password
    assert password[1] not in path.read_text()
    checked = certctl("--env-file", "my.env", "check", "--deploy", "--fail-level", "ERROR")
    assert checked.returncode == 0, checked.stderr


def test_init_overwrites_nothing_and_may_be_run_again(certctl: Certctl, tmp_path: Path) -> None:
    kept = tmp_path / "database.url"
    kept.write_text(f"sqlite:///{tmp_path / 'kept.sqlite3'}\n")
    made = certctl("init", "--yes", "--file", "my.env", "--operator", "ada", DATABASE_URL_FILE=str(kept))
    assert made.returncode == 0, made.stderr
    before = (tmp_path / "my.env").read_text()
    assert environment_file.read(tmp_path / "my.env")["DATABASE_URL_FILE"] == str(kept)
    assert "DATABASE_URL=" not in before
    again = certctl("init", "--yes", "--file", "my.env", "--operator", "ada")
    assert again.returncode == 0, again.stderr
    assert "used as it is" in again.stdout
    assert "may log in already" in again.stdout
    refused = certctl("init", "--yes", "--file", "my.env", "--database", "sqlite:///other.sqlite3")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is not changed" in refused.stderr
    assert (tmp_path / "my.env").read_text() == before


def test_init_asks_nobody_who_is_not_there(certctl: Certctl, tmp_path: Path) -> None:
    ran = certctl("init", "--file", "my.env")
    assert ran.returncode == 2
    assert "--yes" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_stops_where_a_step_fails_and_says_which(certctl: Certctl) -> None:
    nowhere = "postgresql://nobody:s3cret@127.0.0.1:1/x"
    ran = certctl("init", "--yes", "--file", "my.env", "--database", nowhere)
    assert ran.returncode == 1
    assert "migrate` failed: mend it, then run init again" in ran.stderr
    assert "s3cret" not in ran.stderr


def test_init_s_dialogue(tmp_path: Path) -> None:
    """As a person at a terminal has it."""
    answers = ["my.env", "", "", "", "ada", "a long passphrase for ada", ""]
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "certctl", "init"],
        cwd=tmp_path,
        env=clean({}),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    said = ""
    try:
        for answer in [*answers, None]:
            heard = until_asked(person)
            said += heard
            if answer is not None:
                assert re.search(r"[\])?:] \Z", heard), said
                os.write(person, f"{answer}\n".encode())
        assert process.wait(60) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(person)
    assert "ada may log in." in said
    assert "a long passphrase" not in said
    assert "CERTCTL_SECRET_KEY" in (tmp_path / "my.env").read_text()


def until_asked(person: int) -> str:
    """What the program says up to its next question, or its end."""
    said = ""
    while not re.search(r"[\])?:] \Z", said):
        assert select.select([person], [], [], PATIENCE)[0], f"silence after {said!r}"
        try:
            said += os.read(person, 4096).decode(errors="replace")
        except OSError:  # the program has ended, and its terminal with it
            break
    return said
