from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from tests.api.support import PERMISSIONS, client_of, make_user


@pytest.fixture(autouse=True)
def _fresh_throttle() -> None:
    cache.clear()


@pytest.fixture
def api(db: None) -> APIClient:
    """The client of a user with all four permissions."""
    return client_of(make_user("operator", *PERMISSIONS))


@pytest.fixture
def server(process_environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of the project under gunicorn, in a process of its own, on this test's database."""
    log = tmp_path / "gunicorn.log"
    options = ("--bind", "127.0.0.1:0", "--threads", "8", "--no-control-socket")
    command = [sys.executable, "-m", "gunicorn", *options, "certctl.wsgi"]
    environment = process_environment | {"CERTCTL_API_RATE": "1000000/min"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield wait_for_address(process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"Listening at: (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
