"""Disks without room for one site's tables, which hurt nobody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil

from tests.reliability.support import Site

SIZE = 24 * 2**20
LARGEST_FILE = 16 * 2**20 + 2**16  # what PostgreSQL's log is made of is as large as that
RAISED = """
    INSERT INTO notification_events (id, type, channel, recipient, message, status, sent_at)
    VALUES ('old', 'RenewalSuccess', 'Webhook', 'nobody', 'renewed', 'sent', now())
"""
ATTEMPTED = """
    INSERT INTO notification_attempts
           (notification_id, number, channel, started_at, duration_ms, outcome, reason, error, worker)
    SELECT 'old', n, 'Webhook', now(), 1, 'transient', 'server', repeat(md5(n::text), 60), 'old'
      FROM generate_series(1, 8450) AS n
"""

# Each prepares a site, and yields what takes its room away, and the system's words for that.
Room = Callable[[], AbstractContextManager[None]]
Disk = Callable[[Site], AbstractContextManager[tuple[Room, str]]]


@contextmanager
def small_disk(site: Site) -> Iterator[tuple[Room, str]]:
    """A file system of its own for the site's tables, which fills up."""
    path = site.server.folder / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)], check=True)
    try:
        owner = (site.server.folder / "data").stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        site.administer(f"CREATE TABLESPACE small LOCATION '{path}'")
        site.administer(f"ALTER DATABASE {site.name} SET TABLESPACE small")
        yield lambda: filled(path), "No space left on device"
        site.administer(f"DROP DATABASE {site.name} WITH (FORCE)")
        site.administer("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


@contextmanager
def filled(path: Path) -> Iterator[None]:
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            yield
    ballast.unlink()


@contextmanager
def small_files(site: Site) -> Iterator[tuple[Room, str]]:
    """The history is as large as a file may become for the server: a quota, where no disk can be mounted."""
    site.query(RAISED)
    site.query(ATTEMPTED)
    yield lambda: limited(site), "File too large"


@contextmanager
def limited(site: Site) -> Iterator[None]:
    size = site.value("SELECT pg_relation_size('notification_attempts')")
    assert size > LARGEST_FILE, size
    set_limit(site, str(LARGEST_FILE))
    yield
    set_limit(site, "unlimited")


def set_limit(site: Site, size: str) -> None:
    """For the server and all its processes; those that it starts inherit it. Only its own account may."""
    server = psutil.Process(site.server.pid)
    account = {"user": server.uids().real, "group": server.gids().real, "extra_groups": []}
    as_its_owner = account if os.geteuid() == 0 else {}
    for process in (server, *server.children()):
        command = ["prlimit", "--pid", str(process.pid), f"--fsize={size}:"]
        limited = subprocess.run(command, cwd="/", capture_output=True, check=False, **as_its_owner)
        # A connection may have ended meanwhile.
        assert limited.returncode == 0 or not process.is_running(), limited.stderr


def may_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


DISKS: list[Disk] = [small_files, *([small_disk] if may_mount() else [])]
