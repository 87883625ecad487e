"""A worker that is stopped in the middle of its transaction, and a database that cannot keep every script."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.processes import Launcher, eventually
from tests.receiver import Answer, HttpReceiver
from tests.reliability.support import Child, Nursery, Report, Site, settle_accounts

GATE = 0x67617465
# The last thing that a record's transaction does before its COMMIT is to count.
GATED_TALLY = f"""
    CREATE FUNCTION pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock({GATE}); PERFORM pg_advisory_unlock({GATE}); RETURN NULL; END $$;
    CREATE TRIGGER pass_the_gate AFTER INSERT OR UPDATE ON notification_tallies
       FOR EACH STATEMENT EXECUTE FUNCTION pass_the_gate();
"""
AT_THE_GATE = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event = 'advisory'
"""
OPEN_AND_IDLE = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
"""
BUSY = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""
RECORDED = "SELECT count(*) FROM notification_events WHERE id = ANY(%s) AND status = 'sent'"
LATIN = """
    CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc
           LC_COLLATE 'C' LC_CTYPE 'C'
"""
JAPANESE = "証明書の通知を受け付けられませんでした"


def test_a_worker_that_stops_between_its_tally_and_its_commit_stops_no_other(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    """The database itself ends the open transaction; what the worker delivered it records when it wakes."""
    nursery = nurseries(CERTCTL_NOTIFICATION_DATABASE_TIMEOUT="10s")
    site.query(GATED_TALLY)
    healthy = started(nursery)
    with HttpReceiver() as receiver:
        stop(healthy, lambda: site.value(BUSY) == 0)
        frozen = started(nursery)
        with gate_closed(site):
            ids = site.insert(20, receiver.url())
            stop(frozen, lambda: site.value(AT_THE_GATE) == 1)
        eventually(lambda: site.value(OPEN_AND_IDLE) == 1, "a tally that is not committed")
        healthy.send(signal.SIGCONT)
        others = site.insert(100, receiver.url())
        eventually(lambda: site.value(RECORDED, list(others)) == 100, "all rows of the healthy one recorded")
        assert site.value(OPEN_AND_IDLE) == 1, "the other one's transaction was over by then"
        eventually(lambda: site.value(OPEN_AND_IDLE) == 0, "the end of what the frozen one left open")
        assert site.value(AT_THE_GATE) == 0
        assert site.value(RECORDED, list(ids)) == 0
        frozen.send(signal.SIGCONT)
        site.all_delivered()
        account = settle_accounts(site, receiver, ids | others)
        assert (frozen.end(), healthy.end()) == (0, 0)
    report("a worker that was stopped between its tally and its COMMIT", account)
    assert (account.lost, account.duplicates) == (0, 0)


def started(nursery: Nursery) -> Child:
    worker = nursery.start()
    eventually(lambda: "SIGTERM ends it" in worker.said, "a worker that listens")
    return worker


@contextmanager
def gate_closed(site: Site) -> Iterator[None]:
    """Whoever counts waits inside its statement for as long as this lasts."""
    with psycopg.connect(site.url(), autocommit=True) as keeper:
        keeper.execute("SELECT pg_advisory_lock(%s)", [GATE])
        yield


def stop(worker: Child, in_place: Callable[[], bool]) -> None:
    """Let it stand still where it is meant to, and not a moment later."""

    def stopped() -> bool:
        if not in_place():
            return False
        worker.send(signal.SIGSTOP)
        if in_place():
            return True
        worker.send(signal.SIGCONT)
        return False

    eventually(stopped, "a worker in its place")


@pytest.fixture
def latin_site(
    server: postgres.Server, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Site, Launcher]]:
    site = Site(server, "latin_site", dict(environment))
    site.administer(LATIN.format(site.name))
    site.environment["DATABASE_URL"] = site.url()
    launcher = Launcher(site.environment, tmp_path)
    try:
        assert launcher.start("migrate", "--verbosity", "0").wait() == 0
        yield site, launcher
    finally:
        launcher.kill_all()
        print(launcher.transcript())
        site.administer(f"DROP DATABASE {site.name} WITH (FORCE)")


def test_words_that_a_latin_database_cannot_keep_are_their_own_rows_fault(
    latin_site: tuple[Site, Launcher],
) -> None:
    site, launcher = latin_site
    with HttpReceiver() as receiver:
        [japanese] = site.insert(1, receiver.url("/japanese"))
        ids = site.insert(20, receiver.url("/other"))
        receiver.by_id({japanese: Answer(500, JAPANESE.encode())})
        worker = launcher.start("run_notifications")
        eventually(lambda: site.value(RECORDED, list(ids)) == 20, "all others are recorded")
        dead = "SELECT last_error FROM notification_events WHERE id = %s AND status = 'dead'"
        [(error,)] = eventually(lambda: site.query(dead, japanese), "the one that cannot be written")
        assert worker.end() == 0
        arrived = Counter(receiver.ids)
    assert arrived == dict.fromkeys(ids | {japanese}, 1)
    assert "refused to record" in error
    assert "Traceback" not in worker.said
    assert "is away" not in worker.said
    check = launcher.start("check", "--database", "default")
    assert check.wait() == 0
    assert "the database's encoding is LATIN1, not UTF-8" in check.said
