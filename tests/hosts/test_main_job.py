"""A host's setting works, shown by the main job under it, or `check` refuses it and says the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

WORKS = ["plain", "second_database", "replica", "atomic_requests", "tasks", "time_zone", "sub_path"]
REFUSED = {
    "without_time_zones": "(notifications.E001) USE_TZ must be True",
    "tasks_without_queue": '(notifications.E004) NOTIFICATIONS["DISPATCH"] = "tasks" needs the queue',
}


def main_job(case: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {"DJANGO_SETTINGS_MODULE": f"tests.hosts.cases.{case}", "HOST_FOLDER": str(folder), **variables}
    command = [sys.executable, "-W", "error", "-m", "tests.hosts.main_job"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True)


@pytest.mark.parametrize("case", WORKS)
def test_the_main_job_is_done(case: str, tmp_path: Path) -> None:
    ran = main_job(case, tmp_path)
    assert ran.stdout.endswith("\ndone\n"), ran.stdout[-1000:] + ran.stderr


@pytest.mark.parametrize("case", REFUSED)
def test_check_refuses_it_and_nothing_is_sent_or_lost(case: str, tmp_path: Path) -> None:
    ran = main_job(case, tmp_path)
    assert ran.stdout.endswith("\nrefused\n"), ran.stdout[-1000:] + ran.stderr
    assert REFUSED[case] in ran.stdout
