"""Batches handed to a task engine that loses one: the lease in our own table brings it back."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Launcher, Process, eventually
from tests.reliability.support import Report, Site, SlowReceiver, only_the_unknown_repeat, settle_accounts

SEED = 20260117
ROWS = 400
TASKS = {
    "CERTCTL_NOTIFICATION_DISPATCH": "tasks",
    "CERTCTL_NOTIFICATION_TASK_BATCH": "20",
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "5s",
    "CERTCTL_NOTIFICATION_LEASE": "10s",
}
CELERY = [sys.executable, "-m", "celery", "-A", "django_tasks_fennel.app", "worker", "-Q", "notifications"]
# What a site's worker does not need, and one process each, so that a kill takes what is in the middle.
PLAIN = ["--pool", "solo", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]


def celery(launcher: Launcher, folder: Path) -> list[Process]:
    """A Redis of our own, and two of Celery's workers."""
    port = free_port()
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    redis = launcher.run(["redis-server", *here])
    eventually(lambda: "Ready to accept connections" in redis.said, "Redis")
    launcher.environment |= {
        "CERTCTL_TASKS_BACKEND": "celery",
        "CERTCTL_CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
    }
    workers = [launcher.run([*CELERY, *PLAIN, "-n", f"{name}@%h"]) for name in ("one", "two")]
    eventually(lambda: all(" ready." in worker.said for worker in workers), "two of Celery's workers")
    return workers


def database(launcher: Launcher, folder: Path) -> list[Process]:
    """Tasks in tables of the same database, and two workers of django-tasks-db."""
    launcher.environment["CERTCTL_TASKS_BACKEND"] = "database"
    assert launcher.start("migrate", "--verbosity", "0").wait() == 0
    command = ["db_worker", "--queue-name", "notifications", "--interval", "0.1"]
    workers = [launcher.start(*command, "--worker-id", name) for name in ("one", "two")]
    eventually(lambda: all("Starting worker" in worker.said for worker in workers), "two workers")
    return workers


@pytest.mark.parametrize("engine", [celery, database])
def test_a_batch_whose_worker_is_killed_comes_back(
    engine: Callable[[Launcher, Path], list[Process]],
    site: Site,
    launcher: Launcher,
    report: Report,
    tmp_path: Path,
) -> None:
    launcher.environment |= TASKS
    victim, other = engine(launcher, tmp_path)
    sweeper = launcher.start("run_notifications")
    with SlowReceiver(SEED) as receiver:
        ids = site.insert(ROWS, receiver.url())
        eventually(lambda: shares(site, victim) > 0 and shares(site, other) > 0, "both deliver")
        before = len(receiver.ids)
        eventually(lambda: len(receiver.ids) > before, "a batch in the middle")
        victim.kill()
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report(f"{engine.__name__}: one of two workers killed in the middle of a batch", account)
    assert account.lost == 0
    only_the_unknown_repeat(site, account)
    assert site.value("SELECT count(*) FROM notification_attempts WHERE outcome = 'interrupted'") > 0
    assert site.value("SELECT count(*) FROM notification_workers") == 1, "the sweeper's heartbeat"
    assert sweeper.end() == 0
    assert site.value("SELECT count(*) FROM notification_workers") == 0
    other.end(signal.SIGTERM)


def shares(site: Site, worker: Process) -> int:
    name = f"{socket.gethostname()}:{worker.pid}"
    count: int = site.value("SELECT count(*) FROM notification_attempts WHERE worker = %s", name)
    return count


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
