"""Thousands of endpoints that refuse or hang beside some that deliver, and one with a thousand recipients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import psycopg
import pytest

from tests.processes import eventually
from tests.receiver import HttpReceiver
from tests.reliability.hosts import ManyHosts
from tests.reliability.support import Nursery, Site

REFUSING = 3000
HANGING = 300
ANSWERING = 10
RECIPIENTS = 1000
FEW = {"CERTCTL_NOTIFICATION_CONCURRENCY": "20"}
INSERT = """
    INSERT INTO notification_events (id, type, channel, recipient, message)
    SELECT gen_random_uuid()::text, 'ExpirationWarning', 'Webhook', recipient, 'it expires'
      FROM unnest(%s::text[]) AS recipient, generate_series(1, %s)
    RETURNING id
"""
OF_THESE = "SELECT count(*) FROM notification_events WHERE id = ANY(%s) AND status = 'sent'"
HELD = "SELECT count(DISTINCT endpoint) FROM notification_holds WHERE reopened_at IS NULL"
SPENT = """
    SELECT max(spent) FROM (SELECT sum(retry_count) AS spent FROM notification_events
                             WHERE status <> 'sent' GROUP BY recipient) AS by_host
"""
DEAD = "SELECT count(*) FROM notification_events WHERE status = 'dead'"
OUTAGES = "SELECT ended_at IS NULL, died FROM notification_outages"
PAST = "UPDATE notification_holds SET until = now() WHERE reopened_at IS NULL"


@pytest.fixture
def hosts() -> Iterator[ManyHosts]:
    with ManyHosts() as hosts:
        yield hosts


def raised(site: Site, recipients: Sequence[str], each: int = 1) -> list[str]:
    return [pk for (pk,) in site.query(INSERT, list(recipients), each)]


def are_sent(site: Site, ids: list[str]) -> bool:
    return bool(site.value(OF_THESE, ids) == len(ids))


def all_over(site: Site) -> None:
    """Every hold has run out. The worker writes the same rows in its own order: who meets it tries again."""
    for _ in range(20):
        with suppress(psycopg.errors.DeadlockDetected):
            site.query(PAST)
            return
    raise AssertionError("the holds could not be ended")


def test_thousands_that_refuse_burn_no_budgets_and_delay_nobody(
    site: Site, nursery: Nursery, hosts: ManyHosts
) -> None:
    worker = nursery.start()
    [good] = hosts.answering(1)
    first = raised(site, [good])
    eventually(lambda: are_sent(site, first), "the host that answers")
    raised(site, hosts.refusing(REFUSING), each=4)
    while site.value(HELD) < REFUSING:
        before = site.value(HELD)
        alert = raised(site, [good])
        eventually(lambda alert=alert: are_sent(site, alert), f"an alert while {before} hosts are held", 10)
        eventually(lambda before=before: site.value(HELD) > before, "more hosts that are held")
    for _ in range(3):
        all_over(site)
        alert = raised(site, [good])
        eventually(lambda alert=alert: are_sent(site, alert), "an alert while hosts are probed", 10)
    assert site.value(SPENT) <= 8
    assert site.value(DEAD) == 0
    assert worker.end() == 0
    assert "Traceback" not in worker.said


def test_what_answers_goes_before_older_rows_of_hosts_that_hang(
    site: Site, nurseries: Callable[..., Nursery], hosts: ManyHosts
) -> None:
    worker = nurseries(**FEW).start()
    good = hosts.answering(ANSWERING)
    first = raised(site, good)
    eventually(lambda: are_sent(site, first), "the hosts that answer")
    raised(site, hosts.hanging(HANGING), each=5)
    hanging = set(hosts.hanging(HANGING))
    for _ in range(10):
        alerts = raised(site, good)
        eventually(lambda alerts=alerts: are_sent(site, alerts), "alerts to those that answer")
    tried = {host for host in hosts.met if host.startswith("127.1.")}
    assert 0 < len(tried) < len(hanging), "there were none left that hang"
    hosts.let_go()
    eventually(lambda: len([h for h in hosts.met if h.startswith("127.1.")]) == HANGING, "all of them")
    site.all_delivered()
    assert worker.end() == 0


def test_one_endpoint_of_a_thousand_recipients_has_one_hold_and_one_outage(
    site: Site, nurseries: Callable[..., Nursery]
) -> None:
    """Those who are no URLs all go where CERTCTL_WEBHOOK_URL says."""
    with HttpReceiver() as receiver:
        receiver.always(500)
        nursery = nurseries(
            CERTCTL_WEBHOOK_URL=receiver.url(),
            CERTCTL_NOTIFICATION_MAX_ATTEMPTS="1",
            CERTCTL_NOTIFICATION_RECOVERY_RATE="1000",
            **FEW,
        )
        worker = nursery.start()
        ids = raised(site, [f"team-{n}" for n in range(RECIPIENTS)])
        for held in (1, 2, 3):
            times = "SELECT COALESCE(max(failures), 0) FROM notification_holds"
            eventually(lambda held=held: site.value(times) >= held, f"held {held} times")  # noqa: B023
            assert site.value("SELECT count(*) FROM notification_holds") == 1
            all_over(site)
        dead = site.value(DEAD)
        assert 0 < dead <= 20
        assert site.query(OUTAGES) == [(True, dead)]
        receiver.always(200)
        all_over(site)
        site.query("UPDATE notification_events SET next_retry_at = now() WHERE status = 'failed'")
        eventually(lambda: site.value(OF_THESE, ids) == RECIPIENTS - dead, "all that did not die")
        assert site.query(OUTAGES) == [(False, dead)]
        assert site.value(DEAD) == dead
        assert worker.end() == 0
