"""Batches handed to a task engine that loses one: the lease in our own table brings it back."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import Launcher, Process, eventually
from tests.receiver import HELD, Answer, Request
from tests.reliability.support import Report, Site, SlowReceiver, only_the_unknown_repeat, settle_accounts

SEED = 20260117
ROWS = 400
BATCH = 20
NAMES = ("one", "two")
TASKS = {
    "CERTCTL_NOTIFICATION_TASK_BATCH": str(BATCH),
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "5s",
    "CERTCTL_NOTIFICATION_LEASE": "10s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": "5s",
}
CELERY = [sys.executable, "-m", "celery", "-A", "certctl", "worker"]
# What a site's worker does not need, and one process each, so that a kill takes what is in the middle.
PLAIN = ["--pool", "solo", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]


def celery(launcher: Launcher, folder: Path) -> list[Process]:
    """A Redis of our own, and two of Celery's workers."""
    port = free_port()
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    redis = launcher.run(["redis-server", *here])
    eventually(lambda: "Ready to accept connections" in redis.said, "Redis")
    launcher.environment |= {
        "CERTCTL_NOTIFICATION_DISPATCH": "celery",
        "CERTCTL_CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
    }
    workers = [launcher.run([*CELERY, *PLAIN, "-n", f"{n}@%h"], **signed(n)) for n in NAMES]
    eventually(lambda: all(" ready." in worker.said for worker in workers), "two of Celery's workers")
    return workers


def database(launcher: Launcher, folder: Path) -> list[Process]:
    """Tasks in tables of the same database, and two workers of django-tasks-db."""
    launcher.environment |= {"CERTCTL_NOTIFICATION_DISPATCH": "tasks", "CERTCTL_TASKS_BACKEND": "database"}
    assert launcher.start("migrate", "--verbosity", "0").wait() == 0
    command = ["db_worker", "--queue-name", "notifications", "--interval", "0.1"]
    workers = [launcher.start(*command, "--worker-id", name, **signed(name)) for name in NAMES]
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
        receiver.answer = lambda request: HELD if of(request) == NAMES[0] and is_late(receiver) else Answer()
        ids = site.insert(ROWS, receiver.url())
        eventually(lambda: is_late(receiver), "a batch in the middle")
        victim.kill()
        receiver.let_go()
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report(f"{engine.__name__}: one of two workers killed in the middle of a batch", account)
    assert account.lost == 0
    only_the_unknown_repeat(site, account)
    assert site.value("SELECT count(*) FROM notification_attempts WHERE outcome = 'interrupted'") > 0
    assert account.duplicates > 0, "what had arrived from the one that was killed, arrived again"
    assert shares(site, victim) > 0
    assert shares(site, other) > 0
    assert site.value("SELECT count(*) FROM notification_workers") == 1, "the sweeper's heartbeat"
    assert sweeper.end() == 0
    assert site.value("SELECT count(*) FROM notification_workers") == 0
    other.end(signal.SIGTERM)


def signed(name: str) -> dict[str, str]:
    """So that a request tells whose it is."""
    return {"CERTCTL_BASE_URL": f"http://{name}.test"}


def of(request: Request) -> str:
    return str(request.json["data"]["url"]).removeprefix("http://").partition(".test/")[0]


def is_late(receiver: SlowReceiver) -> bool:
    """Whether the first worker is in its second batch."""
    return sum(of(request) == NAMES[0] for request in receiver.requests) > BATCH + BATCH // 4


def shares(site: Site, worker: Process) -> int:
    name = f"{socket.gethostname()}:{worker.pid}"
    count: int = site.value("SELECT count(*) FROM notification_attempts WHERE worker = %s", name)
    return count


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
