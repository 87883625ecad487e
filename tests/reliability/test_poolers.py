"""Behind a real PgBouncer, and with the other ways in which a company names its database."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import pgbouncer, postgres
from tests.pgbouncer import POOL, Pooler
from tests.processes import ROOT, Launcher, Process, eventually
from tests.receiver import HttpReceiver
from tests.reliability.support import Site

# Sweeps that a clock starts would be an hour late.
NEVER = {
    "CERTCTL_NOTIFICATION_RETRY_INTERVAL": "1h",
    "CERTCTL_SCHEDULER_NOTIFICATION_PROCESS_INTERVAL": "1h",
}
DEAF = "calls for new rows do not come through"
PROMPT = 5.0  # seconds: a look each second, a sweep, and a busy machine


@pytest.fixture
def transactions(server: postgres.Server) -> Iterator[Pooler]:
    with pgbouncer.running(server, "transaction") as pooler:
        yield pooler


def worker(launcher: Launcher, site: Site, url: str) -> Process:
    """One that has shown a sign of life."""
    started = launcher.start("run_notifications", DATABASE_URL=url, **NEVER)
    alive = "SELECT count(*) FROM notification_workers"
    eventually(lambda: site.value(alive) or started.code() is not None, "a heartbeat")
    assert started.code() is None
    return started


def delays(site: Site, receiver: HttpReceiver, count: int = 4) -> list[float]:
    """Seconds from each alert's INSERT to its arrival."""
    found = []
    for number in range(1, count + 1):
        since = time.monotonic()
        site.insert(1, receiver.url())
        eventually(lambda number=number: len(receiver.requests) == number, "the alert at its endpoint")
        found.append(time.monotonic() - since)
    return found


def test_where_calls_are_kept_the_worker_says_so_once_and_looks_every_second(
    site: Site, launcher: Launcher, receiver: HttpReceiver, transactions: Pooler
) -> None:
    started = worker(launcher, site, transactions.url(site.name))
    eventually(lambda: DEAF in started.said, "the warning")
    assert min(delays(site, receiver)) < PROMPT
    site.all_delivered()
    assert started.end() == 0
    assert started.said.count(DEAF) == 1
    assert "PgBouncer in transaction mode" in started.said
    assert "Traceback" not in started.said


def test_a_pool_in_session_mode_lets_the_calls_through(
    site: Site, launcher: Launcher, receiver: HttpReceiver, server: postgres.Server
) -> None:
    with pgbouncer.running(server, "session", pool=20) as pooler:
        started = worker(launcher, site, pooler.url(site.name))
        assert min(delays(site, receiver)) < PROMPT
        assert started.end() == 0
    assert DEAF not in started.said


def test_a_single_connection_to_the_server_is_no_reason_to_believe_in_calls(
    site: Site, launcher: Launcher, receiver: HttpReceiver, server: postgres.Server
) -> None:
    """There every statement comes to the connection that LISTEN came to."""
    with pgbouncer.running(server, "transaction", pool=1) as pooler:
        started = worker(launcher, site, pooler.url(site.name))
        eventually(lambda: DEAF in started.said, "the warning")
        assert min(delays(site, receiver, 2)) < PROMPT
        assert started.end() == 0


def test_a_worker_leaves_no_limit_on_connections_that_others_get(
    site: Site, launcher: Launcher, receiver: HttpReceiver, transactions: Pooler
) -> None:
    started = worker(launcher, site, transactions.url(site.name))
    delays(site, receiver, 2)
    assert started.end() == 0
    found = []
    with (
        psycopg.connect(transactions.url(site.name)) as one,
        psycopg.connect(transactions.url(site.name)) as two,
        psycopg.connect(transactions.url(site.name)) as three,
    ):
        for connection in (one, two, three):  # each within a transaction: all that the pool has
            row = connection.execute(
                "SELECT pg_backend_pid(), current_setting('statement_timeout'),"
                " current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
            ).fetchone()
            assert row
            found.append(row)
    assert len({row[0] for row in found}) == POOL
    assert {row[1:] for row in found} == {("0", "0", "0")}


def test_the_main_job_from_migrate_to_prune(
    site: Site, receiver: HttpReceiver, transactions: Pooler, tmp_path: Path
) -> None:
    site.administer(f"CREATE DATABASE {site.name}_new")
    environment = site.environment | {"DATABASE_URL": transactions.url(f"{site.name}_new")}

    def command(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout

    try:
        command("migrate", "--verbosity=0")
        alert = ["--type", "Revocation", "--channel", "Webhook", "--recipient", receiver.url(), "--message"]
        for number in range(3):
            command("notifications", "create", *alert, f"alert {number}")
        receiver.script(500, 400, 200)
        assert json.loads(command("send_notifications", "--json").splitlines()[-1])["claimed"] == 3
        eventually(
            lambda: json.loads(command("retry_notifications", "--json").splitlines()[-1])["sent"] == 1,
            "the retry",
        )
        command("notifications", "requeue", "--channel", "Webhook", "--all", "--yes")
        assert json.loads(command("send_notifications", "--json").splitlines()[-1])["sent"] == 1
        assert json.loads(command("notifications", "list", "--status", "sent", "--json"))
        assert "Revocation" in command("dumpdata", "notifications.notificationevent")
        command("notifications", "prune", "--older-than", "1d")
        command("check", "--database", "default")
    finally:
        site.administer(f"DROP DATABASE IF EXISTS {site.name}_new WITH (FORCE)")


# Ways to name a database


SAY = (
    "import django; django.setup(); from django.db import connection as c; cursor = c.cursor();"
    "cursor.execute('SELECT current_database(), current_user, current_schema()'); print(*cursor.fetchone())"
)


def asked(site: Site, url: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=ROOT,
        env=site.environment | {"DATABASE_URL": url} | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_several_hosts_sockets_services_and_a_search_path(
    site: Site, server: postgres.Server, tmp_path: Path
) -> None:
    folder = server.folder
    services = tmp_path / "services"
    services.write_text(f"[certctl]\nhost={folder}\ndbname={site.name}\nuser=postgres\n")
    site.query("CREATE SCHEMA own")
    there, own = f"{site.name} postgres public\n", f"{site.name} postgres own\n"
    cases: list[tuple[str, dict[str, str], str]] = [
        (f"postgresql://postgres@/{site.name}?host={folder}", {}, there),
        (f"postgresql://postgres@{str(folder).replace('/', '%2F')}/{site.name}", {}, there),
        (f"postgresql://postgres@/{site.name}?host=/nowhere,{folder}", {}, there),
        (f"postgresql://postgres@127.0.0.1:1,{str(folder).replace('/', '%2F')}:5432/{site.name}", {}, there),
        ("postgresql://?service=certctl", {"PGSERVICEFILE": str(services)}, there),
        (
            f"postgresql://postgres@/{site.name}?host={folder}&search_path=own,public",
            {},
            own,
        ),
    ]
    for url, more, said in cases:
        result = asked(site, url, **more)
        assert result.stdout == said, (url, result.stderr)


def test_only_a_server_that_takes_changes_is_taken_where_that_is_asked(
    site: Site, server: postgres.Server
) -> None:
    """As after a failover, with both servers in the URL."""
    site.administer(f"ALTER DATABASE {site.name} SET default_transaction_read_only = on")
    url = f"postgresql://postgres@/{site.name}?host={server.folder}&target_session_attrs=read-write"
    result = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "retry_notifications"],
        cwd=ROOT,
        env=site.environment | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert "read-only" in line


def test_what_libpq_refuses_is_one_line(site: Site, tmp_path: Path) -> None:
    for parameter in ("service=none", "sslmode=hunter2", "target_session_attrs=any-old"):
        result = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "retry_notifications"],
            cwd=ROOT,
            env=site.environment | {"DATABASE_URL": f"{site.url()}&{parameter}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1, result.stderr
