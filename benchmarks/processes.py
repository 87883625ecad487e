"""Sweeps in several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import world

AHEAD = 5_000  # rows that wait while an always-on worker delivers
SAMPLED = 0.5  # seconds
ROWS_EACH = 5  # that wait for an endpoint that hangs
RAISED_EVERY = 0.02  # seconds
IN_HAND = "SELECT count(*) FROM notification_events WHERE leased_until IS NOT NULL"


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


def beside(hanging: list[str], answering: list[str], alerts: int) -> list[float]:
    """Let one `run_notifications` that has heard from those that answer deliver alerts to them, while rows
    wait for those that hang and more are raised: the seconds that each took until it was on record."""
    world.empty()
    worker = subprocess.Popen(
        [sys.executable, "-m", "certctl", "run_notifications"], stderr=subprocess.DEVNULL
    )
    try:
        world.raise_for(answering, "first")
        _wait_until(lambda: world.count("sent") == len(answering))
        for n in range(ROWS_EACH):
            world.raise_for(hanging, f"hanging-{n}")
        _wait_until(lambda: world.ask(IN_HAND) >= world.IN_FLIGHT // 2)
        for n in range(alerts):
            world.raise_for([answering[n % len(answering)]], f"alert-{n}")
            world.raise_for([hanging[n % len(hanging)]], f"beside-{n}")
            time.sleep(RAISED_EVERY)
        _wait_until(lambda: world.count("sent") == len(answering) + alerts)
    finally:
        worker.kill()  # what hangs is left to hang
        worker.wait()
    return world.seconds_to_deliver("alert-")


def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(SAMPLED)


def resident(pid: int) -> int:
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)]))


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
