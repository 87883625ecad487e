"""Workers that are killed, stopped and frozen at moments that nobody chose."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

from tests.processes import Launcher, eventually
from tests.receiver import HELD, HttpReceiver
from tests.reliability.support import (
    Child,
    Nursery,
    Report,
    Site,
    SlowReceiver,
    only_the_dead_repeat,
    patience,
    settle_accounts,
    with_senders,
)

SEED = 20260117
WORKERS = 4
KILLS = 50
ROWS_PER_KILL = 100
STOPS = 6
SHORT = {
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "5s",
    "CERTCTL_NOTIFICATION_LEASE": "10s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": "5s",
}
BRIEF = {
    "CERTCTL_NOTIFICATION_SEND_TIMEOUT": "2s",
    "CERTCTL_NOTIFICATION_LEASE": "4s",
    "CERTCTL_NOTIFICATION_DATABASE_TIMEOUT": "2s",
}


def test_fifty_kills_lose_nothing_and_repeat_only_what_was_in_flight(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    nursery = nurseries(**SHORT)
    chance, killed, ids = random.Random(SEED), set[int](), set[str]()
    workers = [nursery.start() for _ in range(WORKERS)]
    with SlowReceiver(SEED) as receiver:
        for _ in range(KILLS):
            ids |= site.insert(ROWS_PER_KILL, receiver.url())
            patience(chance.uniform(0.0, 0.4))
            victim = workers.pop(chance.randrange(WORKERS))
            victim.kill()
            killed.add(victim.pid)
            workers.append(nursery.start())
        site.all_delivered()
        account = with_senders(settle_accounts(site, receiver, ids), receiver)
    report(f"{KILLS} kills of {WORKERS} workers", account)
    assert (len(ids), account.lost) == (KILLS * ROWS_PER_KILL, 0)
    assert account.duplicates > 0, "no kill met an attempt in flight: this run shows nothing"
    only_the_dead_repeat(site, account, killed)
    assert interrupted(site) > 0


def interrupted(site: Site) -> int:
    count: int = site.value("SELECT count(*) FROM notification_attempts WHERE outcome = 'interrupted'")
    return count


def test_workers_that_are_stopped_in_the_middle_repeat_nothing(
    site: Site, nursery: Nursery, report: Report
) -> None:
    chance, ids = random.Random(SEED), set[str]()
    workers = [ready(nursery) for _ in range(WORKERS)]
    with SlowReceiver(SEED) as receiver:
        for _ in range(STOPS):
            ids |= site.insert(ROWS_PER_KILL, receiver.url())
            patience(chance.uniform(0.0, 0.4))
            leaver = workers.pop(chance.randrange(WORKERS))
            workers.append(ready(nursery))
            assert leaver.end(chance.choice([signal.SIGTERM, signal.SIGINT])) == 0, leaver.said
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report(f"{STOPS} stops of {WORKERS} workers", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert interrupted(site) == 0


def ready(nursery: Nursery) -> Child:
    """A worker that listens to signals."""
    worker = nursery.start()
    eventually(lambda: "SIGTERM ends it in order" in worker.said, "a worker that listens to signals")
    return worker


def test_a_worker_that_wakes_up_after_its_lease_records_nothing(
    site: Site, launcher: Launcher, report: Report, receiver: HttpReceiver
) -> None:
    receiver.script(HELD)
    ids = site.insert(1, receiver.url())
    frozen = launcher.start("run_notifications", **BRIEF)
    receiver.wait_for(1)
    frozen.send(signal.SIGSTOP)
    launcher.start("run_notifications", **BRIEF)
    site.all_delivered()
    assert len(receiver.ids) == 2
    receiver.let_go()
    before = row_and_attempts(site)

    frozen.send(signal.SIGCONT)
    eventually(lambda: "changed while its attempt ran" in frozen.said, "the late record refused")
    row, attempts = row_and_attempts(site)
    # The row stays what it has become; that the receiver had taken it before is on record all the same.
    assert row == before[0]
    assert [attempt[2] for attempt in before[1]] == ["interrupted", "sent"]
    late = [attempt for attempt in attempts if attempt not in before[1]]
    assert [attempt[2] for attempt in late] == ["sent"]
    report("a worker frozen for longer than its lease", settle_accounts(site, receiver, ids))
    assert frozen.end() == 0


def row_and_attempts(site: Site) -> tuple[list[tuple], list[tuple]]:
    return (
        site.query("SELECT * FROM notification_events"),
        site.query("SELECT notification_id, number, outcome, worker FROM notification_attempts ORDER BY id"),
    )
