"""Task queues that do the engine's work, each with its worker in processes of its own.

Putting the tasks into the queue and starting the worker is not counted: the clock runs from the first
row that is marked as sent to the last.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from . import world

READ = "SELECT id, recipient, message, type, certificate_id FROM notification_events WHERE id = %s"
MARK_SENT = (
    "UPDATE notification_events SET status = 'sent', sent_at = now(), next_retry_at = NULL WHERE id = %s"
)
PATIENCE = 600


def body_of(row: Sequence[Any]) -> bytes:
    event, recipient, message, kind, certificate = row
    data = {"id": event, "recipient": recipient, "message": message, "certificate_id": certificate}
    return json.dumps({"type": kind, "data": data}).encode()


def ids() -> list[str]:
    from notifications.models import NotificationEvent

    return list(NotificationEvent.objects.order_by("next_retry_at").values_list("pk", flat=True))


@contextlib.contextmanager
def redis() -> Iterator[None]:
    """A Redis of our own, which writes nothing to disk."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        path = f"{folder}/socket"
        options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        os.environ["RIVAL_BROKER"] = f"redis+socket://{path}"
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            server.wait()


def celery(count: int, url: str, pool: str, size: int) -> float:
    from .rival_celery import app, deliver

    world.refill(count, url)
    with app.producer_pool.acquire(block=True) as producer:
        for event in ids():
            deliver.apply_async((event,), producer=producer)
    command = ["-m", "celery", "-A", "benchmarks.rival_celery", "worker", "--loglevel", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return _seconds_of(count, [*command, *quiet, "--pool", pool, "-c", str(size)])


def procrastinate(count: int, url: str) -> float:
    world.refill(count, url)
    module = ["-m", "benchmarks.rival_procrastinate"]
    subprocess.run([sys.executable, *module, "fill"], check=True)
    world.execute("VACUUM ANALYZE procrastinate_jobs")
    return _seconds_of(count, [*module, "work"])


RIVALS: dict[str, Callable[[int, str], float]] = {
    "Celery as it starts by default, a process for each core": partial(
        celery, pool="prefork", size=os.cpu_count() or 1
    ),
    "Celery with 100 threads": partial(celery, pool="threads", size=100),
    "procrastinate with 100 jobs at once": procrastinate,
}


def _seconds_of(count: int, command: list[str]) -> float:
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    worker = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=quiet)
    try:
        deadline = time.monotonic() + PATIENCE
        while world.count("sent") < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{world.count('sent')} of {count} sent after {PATIENCE} s by {command}")
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait()
    return float(world.ask("SELECT extract(epoch FROM max(sent_at) - min(sent_at)) FROM notification_events"))
