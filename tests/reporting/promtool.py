"""Programs of others that know what will become of a page or a file: Prometheus' and systemd's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str, given: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return asked("promtool", "prometheus", *arguments, given=given, cwd=cwd)


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return asked("systemd-analyze", "systemd", *arguments)


def asked(
    program: str, package: str, *arguments: str, given: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it. CI must have it; elsewhere a test without it is skipped."""
    found = shutil.which(program)
    if found is None:
        missing = f"{program} is not installed (the package `{package}` has it)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return subprocess.run(
        [found, *arguments], input=given, cwd=cwd, capture_output=True, text=True, check=False
    )
