"""docs/scaling.md partitions the history; what it says is run here as it stands there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg

from tests.processes import ROOT
from tests.receiver import HttpReceiver
from tests.reliability.support import Nursery, Report, Site, settle_accounts

ROWS = 50
PARTITIONS = """
    SELECT tableoid::regclass::text, count(*) FROM notification_attempts GROUP BY 1 ORDER BY 1
"""


THIS_MONTH = datetime.now(UTC).date().replace(day=1)
NEXT_MONTH = (THIS_MONTH + timedelta(days=32)).replace(day=1)
AND_THEN = (NEXT_MONTH + timedelta(days=32)).replace(day=1)


def statements() -> str:
    """With the months that come next."""
    [block] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)
    return str(block).replace("2027-01-01", str(NEXT_MONTH)).replace("2027-02-01", str(AND_THEN))


def test_the_history_in_partitions(
    site: Site, nursery: Nursery, receiver: HttpReceiver, report: Report
) -> None:
    worker = nursery.start()
    ids = site.insert(ROWS, receiver.url())
    site.all_delivered()
    with psycopg.connect(site.url(), autocommit=True) as connection:
        connection.execute(statements())
    first = site.query(PARTITIONS)
    assert first == [("notification_attempts_first", ROWS)]
    site.query("UPDATE notification_attempts SET started_at = %s WHERE id = 1", NEXT_MONTH)
    assert nursery.start("migrate", "--check").wait() == 0
    assert nursery.start("migrate").wait() == 0

    ids |= site.insert(ROWS, receiver.url())
    site.all_delivered()
    account = settle_accounts(site, receiver, ids)
    report("a history in partitions", account)
    assert (account.lost, account.duplicates) == (0, 0)
    assert site.value("SELECT count(DISTINCT id) FROM notification_attempts") == 2 * ROWS
    assert {name for name, _ in site.query(PARTITIONS)} >= {
        "notification_attempts_first",
        "notification_attempts_2027_01",
    }

    shown = nursery.start("notifications", "show", next(iter(ids)), "--json")
    assert shown.wait() == 0, shown.said
    assert nursery.start("notifications", "stats").wait() == 0
    site.query("DELETE FROM notification_events WHERE id = ANY(%s)", list(ids))
    assert site.value("SELECT count(*) FROM notification_attempts") == 0
    assert worker.end() == 0
    assert "Traceback" not in worker.said
