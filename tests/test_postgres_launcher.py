"""The tests' own PostgreSQL: it boots anywhere, and never outlives the process that asked for it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from tests import postgres

ROOT = Path(__file__).resolve().parent.parent
OWNER = """
import time
from tests import postgres
server = postgres.start()
print(server.pid, server.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def server() -> postgres.Server:
    with postgres.running() as server:
        yield server


def ask(server: postgres.Server, question: str) -> str:
    with psycopg.connect(server.url) as connection:
        return str(connection.execute(question).fetchone()[0])


def becomes_true(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_is_postgresql_18_without_the_cost_of_durability(server: postgres.Server) -> None:
    assert ask(server, "show server_version").startswith("18.")
    assert ask(server, "show fsync") == "off"


def test_listens_on_no_network(server: postgres.Server) -> None:
    assert ask(server, "show listen_addresses") == ""
    assert psutil.Process(server.pid).net_connections("inet") == []


def test_runs_as_nobody_for_root_and_else_as_the_user(server: postgres.Server) -> None:
    expected = "nobody" if os.geteuid() == 0 else getpass.getuser()
    assert psutil.Process(server.pid).username() == expected


def test_durable_keeps_the_settings_of_a_real_installation() -> None:
    with postgres.running(durable=True, settings={"work_mem": "5MB"}) as server:
        shown = [ask(server, f"show {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
        assert shown == ["on", "on", "on"]
        assert ask(server, "show work_mem") == "5MB"


def test_boots_where_nobody_may_look_into_the_virtual_environment(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    installed = postgres.installed_package()
    package = private / postgres.WHEEL
    shutil.copytree(installed / postgres.VERSION, package / postgres.VERSION, symlinks=True)
    libraries = f"{postgres.WHEEL}.libs"
    shutil.copytree(installed.with_name(libraries), package.with_name(libraries), symlinks=True)
    server = postgres.start(package=package)
    try:
        assert ask(server, "select 1") == "1"
        assert private.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_does_not_outlive_its_owner(death: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with owner:
        pid, folder = owner.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        owner.send_signal(death)
    assert becomes_true(lambda: not Path(folder).exists() and not psutil.pid_exists(int(pid)))


def test_stop_leaves_nothing_and_may_be_called_twice() -> None:
    server = postgres.start()
    pid = server.pid
    server.stop()
    server.stop()
    assert not server.folder.exists()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_halt_breaks_connections_and_resume_brings_the_data_back(how: signal.Signals) -> None:
    with postgres.running(settings={"synchronous_commit": "on"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
            server.halt(how)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            ask(server, "SELECT 1")
        server.resume()
        assert ask(server, "SELECT number FROM kept") == "7"


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(postgres.ServerFailed, match="no_such_setting"):
        postgres.start(settings={"no_such_setting": "1"})


def test_a_missing_wheel_says_so(tmp_path: Path) -> None:
    with pytest.raises(postgres.ServerFailed, match="did not start"):
        postgres.start(package=tmp_path / postgres.WHEEL)
