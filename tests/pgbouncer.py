"""Debian's PgBouncer in front of a PostgreSQL server of the tests' own.

with pgbouncer.running(server, "transaction") as pooler:
    psycopg.connect(pooler.url("a_database"))
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import postgres

LONGEST = 600  # seconds: it ends with its test, or by itself
BOOT_SECONDS = 30
POOL = 3  # connections to the server
CONFIGURATION = """
[databases]
* = host={socket} port=5432 user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
"""


@dataclass
class Pooler:
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def running(server: postgres.Server, mode: str, pool: int = POOL) -> Iterator[Pooler]:
    """mode: session, transaction or statement. A machine without PgBouncer fails the test."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "install pgbouncer"
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=postgres.short_open_folder()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(socket=server.folder, port=port, mode=mode, pool=pool, folder=folder)
    )
    account = []
    if os.geteuid() == 0:  # which it refuses to run as
        nobody = pwd.getpwnam("nobody")
        for path in (folder, configuration):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        account = ["-u", "nobody"]
    command = ["timeout", str(LONGEST), program, "-q", *account, str(configuration)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process, folder)
        yield Pooler(port)
    finally:
        process.terminate()
        process.wait(BOOT_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    log = folder / "log"
    raise AssertionError(f"PgBouncer did not start: {log.read_text() if log.exists() else process.poll()}")
