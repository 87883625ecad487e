"""The demo, run as a newcomer runs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_demo(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "demo" / "run.py")],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_plays_its_story_to_the_end_and_the_receiver_agrees() -> None:
    ran = run_demo(DEMO_EXIT="1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "12 dead" in ran.stdout
    assert "The made-up pager: 1 page open." in ran.stdout
    assert "The made-up pager: 1 page resolved." in ran.stdout
    assert "They agree: every alert arrived exactly once." in ran.stdout
    assert ran.stderr == "", "a newcomer reads the story, and no log"


def test_a_server_that_cannot_start_says_why_and_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = run_demo(PORT=port)
    assert ran.returncode == 1
    assert f"127.0.0.1:{port}" in ran.stdout
    assert "That port is already in use" in ran.stdout


def test_the_demo_s_environment_is_a_runtime_s() -> None:
    packages = re.findall(r"^([\w-]+)==", (ROOT / "requirements" / "demo.txt").read_text(), re.MULTILINE)
    runtime = re.findall(r"^([\w-]+)==", (ROOT / "requirements" / "project.txt").read_text(), re.MULTILINE)
    assert set(packages) - set(runtime) <= {"aiosmtpd", "atpublic"}
    assert {"django", "whitenoise", "gunicorn"} <= set(packages)


def test_the_benchmarks_say_first_what_they_lack(tmp_path: Path) -> None:
    """Without a minute of work before, and without a traceback after."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "queues"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    [line] = ran.stderr.splitlines()
    assert "redis-server" in line
