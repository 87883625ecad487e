"""Sweeps in several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

from . import world

AHEAD = 5_000  # rows that wait while an always-on worker delivers
SAMPLED = 0.5  # seconds


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


class Sample(NamedTuple):
    """The memory, in kB, that a worker held when it had delivered so many."""

    delivered: int
    memory: int


def always_on(total: int, url: str) -> list[Sample]:
    """Let one `run_notifications` deliver `total` rows, raised as it goes, and look at its memory."""
    world.empty()
    command = [sys.executable, "-m", "certctl", "run_notifications"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    samples: list[Sample] = []
    raised = 0
    try:
        while not samples or samples[-1].delivered < total:
            waiting = world.count("pending")
            samples.append(Sample(raised - waiting, resident(worker.pid)))
            if waiting < AHEAD and raised < total:
                more = min(AHEAD, total - raised)
                world.raise_pending(more, url, f"soak-{raised}")
                raised += more
            time.sleep(SAMPLED)
    finally:
        worker.terminate()
        worker.wait()
    if world.count("sent") != total:
        raise RuntimeError(f"{world.count('sent')} of {total} were sent")
    return samples


def resident(pid: int) -> int:
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)]))


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
