"""The demo, run as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "demo" / "run.py"


def test_the_demo_plays_its_story_to_the_end_and_the_receiver_agrees() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
    ran = subprocess.run(
        [sys.executable, str(DEMO)],
        env=environment | {"DEMO_EXIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "12 dead" in ran.stdout
    assert "They agree: every alert arrived exactly once." in ran.stdout
