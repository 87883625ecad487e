"""Workers, sweeps from cron and operators on one table at the same time, each with a clock of its own."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from tests.processes import eventually
from tests.receiver import Answer, HttpReceiver, Request
from tests.reliability.support import (
    Account,
    Child,
    Nursery,
    Report,
    Site,
    SlowReceiver,
    settle_accounts,
)

SEED = 20260117
ROWS = 600
MINUTES = 60.0
STATES = ("pending", "failed", "sent", "dead", "read")
LEGAL = {
    *((open_, end) for open_ in ("pending", "failed") for end in ("sent", "failed", "dead")),
    *((again, "pending") for again in ("failed", "dead")),
    *((done, "read") for done in ("sent", "dead")),
    *((state, None) for state in STATES),
}
RACED = {("dead", "pending"), ("dead", "read"), ("sent", "read"), ("read", None)}
# What became of every row, whoever did it, also of those that are gone.
WITNESS = """
    CREATE TABLE moves (n serial, id text, was text, becomes text);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            INSERT INTO moves (id, was) VALUES (OLD.id, OLD.status);
            RETURN OLD;
        END IF;
        INSERT INTO moves (id, was, becomes) VALUES (OLD.id, OLD.status, NEW.status);
        RETURN NEW;
    END $$;
    CREATE TRIGGER moved AFTER UPDATE OF status ON notification_events FOR EACH ROW
        WHEN (OLD.status <> NEW.status OR OLD.retry_count <> NEW.retry_count) EXECUTE FUNCTION witness();
    CREATE TRIGGER gone AFTER DELETE ON notification_events FOR EACH ROW EXECUTE FUNCTION witness();
"""
CONNECTED = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
OPEN_ROWS = "SELECT count(*) FROM notification_events WHERE id = ANY(%s) AND status <> 'sent'"
STATES_OF = "SELECT DISTINCT status, retry_count, leased_until FROM notification_events WHERE id = ANY(%s)"
IN_HAND = "SELECT count(*) FROM notification_events WHERE leased_until IS NOT NULL"
PENDING_SWEEPS = "SELECT count(*) FROM notification_sweeps WHERE kind = 'pending'"
KINDS = "SELECT DISTINCT was, becomes FROM moves"


class Choosy(SlowReceiver):
    """Refuses some rows at first, by their ids: one in twenty for now, one in twenty for good.

    Few enough that an endpoint is not taken for one that is down.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.taken: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.answer = self._choose

    def _choose(self, request: Request) -> Answer:
        group = int(request.id[:8], 16) % 20
        if group < 2 and not self.refused[request.id]:
            self.refused[request.id] += 1
            return Answer(400 if group == 0 else 503)
        self.taken[request.id] += 1
        return Answer()

    def account(self, ids: set[str], lost: int) -> Account:
        return Account(len(ids), self.taken, lost)


def test_clocks_that_are_ten_minutes_apart(site: Site, nursery: Nursery, report: Report) -> None:
    workers = [nursery.start(shift=shift * MINUTES) for shift in (-5, 5)]
    with Choosy(SEED) as receiver:
        ids = site.insert(ROWS, receiver.url())
        site.query("UPDATE notification_events SET created_at = now() - interval '1 minute'")
        until_settled(site)
        requeue_all(nursery)
        site.all_delivered()
    account = receiver.account(ids, lost=len(ids - set(receiver.taken)))
    report("two workers whose clocks are ten minutes apart", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert set(receiver.refused.values()) == {1}
    assert site.value("SELECT count(*) FROM notification_holds") == 0
    assert every_kind_worked(site, [[worker] for worker in workers])
    assert site.value("SELECT max(sent_at) - min(created_at) < interval '5 minutes' FROM notification_events")
    assert site.value("SELECT max(sent_at) <= now() FROM notification_events")
    assert [worker.end() for worker in workers] == [0, 0]


def test_what_is_given_back_while_another_program_locks_it_is_free_when_that_is_over(
    site: Site, nursery: Nursery
) -> None:
    """Left to its lease it would wait for that, and be an attempt that nobody made."""
    with HttpReceiver() as receiver, psycopg.connect(site.url()) as foreign:
        receiver.always(Answer(503, held=True))
        [worker] = listening(nursery, 1)
        site.insert(60, receiver.url())
        eventually(lambda: site.value(IN_HAND) >= 20, "rows in hand")
        foreign.execute("SELECT 1 FROM notification_events FOR UPDATE")
        receiver.let_go()
        eventually(lambda: site.value("SELECT count(*) FROM notification_holds") == 1, "its endpoint is held")
        assert site.value(IN_HAND) >= 20
        foreign.rollback()
        eventually(lambda: site.value(IN_HAND) == 0, "nothing is in hand")
        assert worker.end() == 0
    assert site.value("SELECT count(*) FROM notification_attempts WHERE outcome = 'interrupted'") == 0


def test_sweeps_from_cron_and_always_on_workers(site: Site, nursery: Nursery, report: Report) -> None:
    workers, sweeps = listening(nursery, 2), list[Child]()
    ids = set[str]()
    with SlowReceiver(SEED) as receiver:
        while len(ids) < ROWS or not every_kind_worked(site, [workers, sweeps]):
            assert len(ids) < 10 * ROWS, "one kind gets nothing to do"
            ids |= site.insert(ROWS // 4, receiver.url())
            sweeps += [nursery.start(f"{kind}_notifications") for kind in ("send", "send", "retry")]
            time.sleep(0.2)
        assert [sweep.wait() for sweep in sweeps] == [0] * len(sweeps)
        site.all_delivered()
        account = settle_accounts(site, receiver, ids)
    report(f"2 always-on workers and {len(sweeps)} sweeps from cron", account)
    assert (account.lost, account.duplicates) == (0, 0)
    most = 3 * len(workers)
    eventually(lambda: site.value(CONNECTED) <= most, "connections to claim, to record and to listen with")
    assert [worker.end() for worker in workers] == [0, 0]


def test_a_worker_without_the_channel_leaves_its_rows_to_one_that_has_it(
    site: Site, nurseries: Callable[..., Nursery], report: Report
) -> None:
    without = nurseries().start()
    with HttpReceiver() as receiver:
        receiver.always(202)
        other = nurseries(CERTCTL_OPSGENIE_API_KEY="k", CERTCTL_OPSGENIE_BASE_URL=receiver.url(""))
        common, ids = site.insert(20, receiver.url()), site.insert(20, "ops", "OpsGenie")
        eventually(lambda: site.value(OPEN_ROWS, list(common)) == 0, "it delivers what it can")
        swept = site.value(PENDING_SWEEPS)
        eventually(lambda: site.value(PENDING_SWEEPS) >= swept + 2, "it looks again, and again")
        assert site.query(STATES_OF, list(ids)) == [("pending", 0, None)]
        has_it = other.start()
        site.all_delivered()
        alerts = [r.json["details"]["notification_id"] for r in receiver.requests if r.path != "/hook"]
        assert (has_it.end(), without.end()) == (0, 0)
    account = Account(len(ids), Counter(alerts), len(ids - set(alerts)))
    report("rows of a channel that one of two workers has", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert "no notifier" not in without.said + has_it.said


def listening(nursery: Nursery, count: int) -> list[Child]:
    """Always-on workers that have begun."""
    workers = [nursery.start() for _ in range(count)]
    eventually(lambda: all("sweep: 0 claimed" in worker.said for worker in workers), "workers that sweep")
    return workers


def test_operators_who_race_the_sweeps(site: Site, nursery: Nursery, report: Report) -> None:
    site.query(WITNESS)
    workers = [nursery.start() for _ in range(4)]
    with Choosy(SEED) as receiver:
        ids = site.insert(ROWS, receiver.url())
        with deleting(site, random.Random(SEED)) as deleted:
            while not (kinds := set(site.query(KINDS))) >= RACED:
                assert len(ids) < 20 * ROWS, f"only {kinds} happened"
                ids |= site.insert(ROWS // 6, receiver.url())
                operate(site, nursery)
        until_settled(site)
        requeue_all(nursery)
        until_settled(site)
    moves = site.query("SELECT id, was, becomes FROM moves ORDER BY n")
    assert {(was, becomes) for _, was, becomes in moves} <= LEGAL
    sent = Counter(pk for pk, _, becomes in moves if becomes == "sent")
    dismissed = {pk for pk, was, becomes in moves if (was, becomes) == ("dead", "read")}
    pruned = {pk for pk, was, becomes in moves if becomes is None and was in ("sent", "read")}
    gone = {pk for pk, _, becomes in moves if becomes is None}
    account = receiver.account(ids, lost=len(ids - set(receiver.taken) - dismissed - deleted))
    report(
        f"{len(deleted)} rows deleted, {len(pruned)} pruned, {len(dismissed)} dismissed in a race", account
    )
    assert (account.lost, account.duplicates) == (0, 0)
    assert set(sent.values()) == {1}
    assert set(receiver.taken) - set(sent) <= deleted, "taken by the endpoint, and not on record"
    assert gone - pruned <= deleted, "pruning took what was not finished"
    assert [worker.end() for worker in workers] == [0] * 4


def operate(site: Site, nursery: Nursery) -> None:
    """What operators do, all at once."""
    some = [pk for (pk,) in site.query("SELECT id FROM notification_events ORDER BY random() LIMIT 20")]
    at_once = {
        ("requeue", "--all", "--yes"): 0,
        ("read", "--type", "ExpirationWarning", "--yes"): 0,
        ("prune", "--older-than", "1s"): 0,
        ("read", *some): 1,  # some are not read, and it says why
    }
    children = [nursery.start("notifications", *verb) for verb in at_once]
    for child, worst in zip(children, at_once.values(), strict=True):
        assert child.wait() <= worst, child.said


def requeue_all(nursery: Nursery) -> None:
    assert nursery.start("notifications", "requeue", "--all", "--yes").wait() == 0


@contextmanager
def deleting(site: Site, chance: random.Random) -> Iterator[set[str]]:
    """certctl deletes certificates, and their notifications with them, whatever state they are in."""
    deleted, over = set[str](), threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            ids = sorted(pk for (pk,) in site.query("SELECT id FROM notification_events"))
            chosen = chance.sample(ids, min(3, len(ids)))
            gone = site.query("DELETE FROM notification_events WHERE id = ANY(%s) RETURNING id", chosen)
            deleted.update(pk for (pk,) in gone)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield deleted
    finally:
        over.set()
        thread.join()


def until_settled(site: Site) -> None:
    waiting = "SELECT count(*) FROM notification_events WHERE status IN ('pending', 'failed')"
    eventually(lambda: site.value(waiting) == 0, "nothing is waiting")


def every_kind_worked(site: Site, kinds: list[list[Child]]) -> bool:
    """Whether some process of each group delivered something."""
    names = {
        int(name.rpartition(":")[2])
        for (name,) in site.query("SELECT worker FROM notification_attempts WHERE outcome <> 'interrupted'")
    }
    return all(names & {child.pid for child in group} for group in kinds)
