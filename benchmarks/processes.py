"""Sweeps in several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

from . import world


class Swept(NamedTuple):
    seconds: float
    results: list[dict[str, Any]]


def sweeps(processes: int, count: int, in_flight: int) -> Swept:
    """Start the processes, let them go together, and wait until `count` rows are sent."""
    command = [sys.executable, "-m", "benchmarks.worker", str(count), str(in_flight)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for worker in workers:
        assert _line(worker) == "ready"
    with world.stopwatch() as seconds:
        for worker in workers:
            _go(worker)
        results = [json.loads(_line(worker)) for worker in workers]
    for worker in workers:
        worker.communicate()
    if sum(result["sent"] for result in results) != count:
        raise RuntimeError(f"not everything was sent: {results}")
    return Swept(seconds[0], results)


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
