"""A host's setting works, shown by the main job under it, or `check` refuses it and says the way out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.settings import TEST_DATABASE

# What concerns connections is tried on both databases.
WORKS = ["second_database", "replica", "atomic_requests", "time_zone"]
WORKS += ["plain", "tasks", "celery", "sub_path", "own_admin_site"] if TEST_DATABASE == "sqlite" else []
REFUSED = {
    "without_time_zones": "(notifications.E001) USE_TZ must be True",
    "tasks_without_queue": '(notifications.E004) NOTIFICATIONS["DISPATCH"] = "tasks" needs the queue',
}


Run = Callable[[str], str]


@pytest.fixture
def main_job(process_environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs it under a case, in a process of its own on this test's database; answers what it said."""

    def run(case: str) -> str:
        variables = {
            "DJANGO_SETTINGS_MODULE": f"tests.hosts.cases.{case}",
            "HOST_DATABASE": process_environment["DATABASE_URL"],
            "HOST_FOLDER": str(tmp_path),
        }
        command = [sys.executable, "-W", "error", "-m", "tests.hosts.main_job"]
        ran = subprocess.run(
            command, cwd=ROOT, env=process_environment | variables, capture_output=True, text=True
        )
        return ran.stdout[-5000:] + ran.stderr

    return run


@pytest.mark.parametrize("case", WORKS)
def test_the_main_job_is_done(case: str, main_job: Run) -> None:
    said = main_job(case)
    assert said.endswith("\ndone\n"), said


@pytest.mark.parametrize("case", REFUSED)
def test_check_refuses_it_and_nothing_is_sent_or_lost(case: str, main_job: Run) -> None:
    said = main_job(case)
    assert said.endswith("\nrefused\n"), said
    assert REFUSED[case] in said
