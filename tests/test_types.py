"""What docs/python.md shows is clean under `mypy --strict`, with django-stubs' plugin and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.test_docs import blocks

PLUGIN = """
[mypy]
plugins = mypy_django_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = tests.settings
"""
CAUGHT = """
from notifications.models import Alert, NotificationEvent
from notifications.testing import outbox

NotificationEvent.objects.all().requeue(by=5)
alert: Alert = {"type": "T", "channel": "C", "recipient": "R"}
with outbox() as raised:
    raised[0].nothing
"""


@pytest.mark.parametrize("config", [PLUGIN, "[mypy]\n"], ids=["with the plugin", "without"])
def test_what_is_shown_is_typed(config: str, tmp_path: Path) -> None:
    """And mypy sees the types: what is wrong is caught."""
    for number, block in enumerate(blocks("python.md", "python")):
        (tmp_path / f"shown_{number}.py").write_text(block)
    (tmp_path / "wrong.py").write_text(CAUGHT)
    (tmp_path / "mypy.ini").write_text(config)
    said = mypy(tmp_path, *sorted(str(path) for path in tmp_path.glob("*.py")))
    assert {line.partition(":")[0] for line in said if ": error:" in line} == {"wrong.py"}, "\n".join(said)
    faults = [line for line in said if ": error:" in line]
    assert len(faults) >= 2, said
    assert any("message" in line and "Alert" in line for line in faults)
    assert any("nothing" in line for line in faults)


def mypy(folder: Path, *files: str) -> list[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    command += ["--config-file", "mypy.ini", "--cache-dir", str(folder / "cache"), *files]
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT), "TEST_DATABASE": "sqlite"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran.stdout.splitlines()
