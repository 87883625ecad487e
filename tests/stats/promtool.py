"""Prometheus' own tool, which knows what Prometheus will make of a page or a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROMTOOL = shutil.which("promtool")


def promtool(*arguments: str, given: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it. CI must have it; elsewhere a test without it is skipped."""
    if PROMTOOL is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: CI installs the package `prometheus`")
        pytest.skip("promtool is not installed (the package `prometheus` has it)")
    return subprocess.run(
        [PROMTOOL, *arguments], input=given, cwd=cwd, capture_output=True, text=True, check=False
    )
