"""How long the operator's pages, a scrape and the API take over five million notifications, in milliseconds.

    .venv/bin/python -m benchmarks.console [--rows 5000000] [--rounds 5] [--only TEXT]

It fills a PostgreSQL of its own, asks Django's test client for every page, and compares the median of n
with the budget. The numbers are the whole answer: queries, templates and middleware, without a network, and
without what a test's environment adds to the templates.
`make bench ARGS=console` measures the same among the other figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

from tests import postgres

BUDGET = 300.0
LIST = "/admin/notifications/notificationevent/"
SETTINGS = {"shared_buffers": "512MB", "maintenance_work_mem": "512MB", "max_wal_size": "8GB"}
DEEP = round((time.time() - 4_000_000 * 3) * 1e6)  # the place of a cursor: one row every three seconds
# Every 50th is dead, every 250th failed and every 251st pending; one in twenty was read.
# Every tenth goes to #pki.
FILL = """
INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message, sent_at, status,
                                 error, retry_count, next_retry_at, last_error, created_at)
SELECT 'row-' || n,
       (ARRAY['ExpirationWarning','RenewalSuccess','RenewalFailure','PolicyViolation',
              'Revocation'])[n % 5 + 1],
       'mc-' || n % 50000,
       (ARRAY['Webhook','Email','Slack','Teams','PagerDuty','email'])[n % 6 + 1],
       CASE WHEN n % 10 = 0 THEN '#pki' ELSE
         (ARRAY['https://hooks.example.com/','ops-','#pki-','Team ','service-','dev-'])[n % 6 + 1] || n % 1000
       END,
       'host-' || n % 50000 || '.example.com: ' || repeat('its certificate expires soon. ', 8),
       CASE WHEN status IN ('sent', 'read') THEN at END, status, NULL,
       CASE status WHEN 'dead' THEN 4 WHEN 'failed' THEN 1 ELSE 0 END,
       CASE WHEN status = 'failed' AND n % 5000 > 0 THEN now() + interval '5 minutes' END,
       CASE WHEN status IN ('dead', 'failed') THEN
            (ARRAY['HTTP 503: upstream is down','SMTP 550: mailbox ops-%s@example.com unavailable',
                   'no answer within 30 s: https://hooks.example.com/%s','HTTP 404: no_service: request %s',
                   'connection to 10.0.%s.1:443 refused','HTTP 429: slow down, retry after %s s',
                   'certificate of host-%s.example.com is not trusted'])[n / 50 % 7 + 1] END,
       at
  FROM (SELECT n, now() - n * interval '3 seconds' AS at,
               CASE WHEN n % 50 = 0 THEN 'dead' WHEN n % 250 = 1 THEN 'failed' WHEN n % 251 = 2 THEN 'pending'
                    WHEN n % 20 = 3 THEN 'read' ELSE 'sent' END AS status
          FROM generate_series(1, {rows}) AS n) AS rows
"""
AFTER = (
    "UPDATE notification_events SET last_error = replace(last_error, '%s', substr(id, 5))"
    " WHERE status IN ('dead', 'failed') AND last_error LIKE '%%s%'",
    """
    INSERT INTO notification_attempts (notification_id, number, channel, started_at, duration_ms, outcome,
                                       reason, status_code, error, worker)
    SELECT id, 5, channel, created_at, 80, CASE WHEN length(id) % 2 = 0 THEN 'unknown' ELSE 'transient' END,
           'server', 503, last_error, 'bench:1'
      FROM notification_events WHERE status = 'dead'
    """,
    """
    INSERT INTO notification_tallies
    SELECT nextval(pg_get_serial_sequence('notification_tallies', 'id')), date_trunc('hour', now()) - h *
           interval '1 hour', c, o, 1000, 80000, 900, 50, 50, 0, 0, 0, 500, 300, 100, 50, 50, 0, 0, 0, 0, 0
      FROM generate_series(0, 167) AS h, unnest(ARRAY['Webhook','Email','Slack','Teams','PagerDuty']) AS c,
           unnest(ARRAY['sent', 'transient']) AS o
    """,
    """
    INSERT INTO notification_holds (endpoint, channel, recipient_prefix, exact, reason, error, since, until,
                                    failures, by)
    SELECT lower(c), c, '', false, 'server', 'HTTP 503: upstream is down', now() - interval '1 hour',
           now() + interval '1 hour', 3, ''
      FROM unnest(ARRAY['Webhook','Email','Slack','Teams','PagerDuty']) AS c
    """,
    """
    INSERT INTO notification_outages (id, endpoint, channel, recipient_prefix, exact, reason, error, since,
                                      failures, died, ended_at, redriven_by)
    SELECT n, lower(c), c, '', false, 'server', 'HTTP 503: upstream is down', now() - interval '1 year',
           9, 20000, now(), ''
      FROM unnest(ARRAY['Slack','Email','Webhook','Teams','PagerDuty']) WITH ORDINALITY AS which(c, n)
    """,
    "VACUUM ANALYZE",
)
PAGES = {
    "all": LIST,
    "all, oldest first": LIST + "?o=6",
    "all, page 150": LIST + "?p=150",
    "all, one channel": LIST + "?channel=slack",
    "all, a channel that nobody uses": LIST + "?channel=fax",
    "all, one type": LIST + "?type=Revocation",
    "all, a type that nobody raises": LIST + "?type=Unheard",
    "all, sent": LIST + "?status=sent",
    "all, pending": LIST + "?status=pending",
    "all, read on one channel": LIST + "?status=read&channel=Teams",
    "all, last 24 hours": LIST + "?age=24h",
    "all, older than 30 days": LIST + "?age=over30d",
    "all, one certificate": LIST + "?certificate_id=mc-77",
    "all, search: a word": LIST + "?q=host-77",
    "all, search: nothing found": LIST + "?q=needle",
    "all, search: an id": LIST + "?q=row-4999999",
    "all, search: a certificate": LIST + "?q=mc-4711",
    "all, search: a recipient": LIST + "?q=ops-7",
    "all, search: a recipient with half a million": LIST + "?q=%23pki",
    "read, a recipient with half a million, none of them read": LIST + "?status=read&recipient=%23pki",
    "dead letters, search: a recipient without any": LIST + "?status=dead&q=ops-7",
    "dead letters": LIST + "?status=dead",
    "dead letters, oldest first": LIST + "?status=dead&o=6",
    "dead letters, one channel": LIST + "?status=dead&channel=Email",
    "dead letters, one type": LIST + "?status=dead&type=Revocation",
    "dead letters, one error": LIST + "?status=dead&alike=HTTP+503:+upstream+is+down",
    "dead letters, search": LIST + "?status=dead&q=mailbox",
    "dead letters, search: nothing found": LIST + "?status=dead&q=needle",
    "retrying": LIST + "?status=retrying",
    "stranded": LIST + "?status=stranded",
    "a notification": LIST + "row-50/change/",
    "a notification, newer and older within a search": LIST
    + "row-500/change/?_changelist_filters=q%3Dmailbox",
    "a certificate: sent to whom, when": LIST + "certificate/?id=mc-77",
    "a group of dead letters": LIST + "group/?channel=Email&alike=HTTP+503:+upstream+is+down",
    "a channel, and its last attempts": LIST + "channel/?name=Teams",
    "dashboard": LIST + "dashboard/",
    "dead letters, of one outage": LIST + "?status=dead&outage=1",
    "operations": LIST + "operations/",
    "endpoints": LIST + "endpoints/",
    "metrics: one scrape": "/metrics",
    "API: summary": "/api/v1/stats/summary",
    "API: by cursor, from the newest": "/api/v1/notifications?cursor=",
    "API: by cursor, four million rows on": f"/api/v1/notifications?cursor={DEEP}.row",
}
ALL_DEAD = {"action": "requeue_selected", "index": "0", "select_across": "1", "_selected_action": "-"}


def fill(rows: int) -> None:
    """The database that DATABASE_URL names, migrated and full."""
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(rows=rows))
        for statement in AFTER:
            cursor.execute(statement)


def measure(ask: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of every answer."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        response = ask()
        times.append((time.perf_counter() - start) * 1000)
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code} for {response.request['PATH_INFO']}")
    return times


def pages(rounds: int, only: str = "") -> dict[str, list[float]]:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser(f"bench-{time.time_ns()}"))
    found = {
        name: measure(partial(client.get, address), rounds)
        for name, address in PAGES.items()
        if any(text in name for text in only.split(","))
    }
    if only:
        return found
    asked = LIST + "?status=dead"
    found["asking before all dead letters are requeued"] = measure(
        lambda: client.post(asked, ALL_DEAD), rounds
    )
    found["one batch of the count on that page (5,000 notifications)"] = measure(
        lambda: client.post(asked, {**ALL_DEAD, "count": ""}), rounds
    )
    reply = client.post(asked, {**ALL_DEAD, "confirm": "1"})
    progress = reply.headers["Location"]
    found["progress page"] = measure(lambda: client.get(progress), rounds)
    steps = list(driven(lambda: client.post(progress, headers={"Accept": "application/json"})))
    found[f"one of the {len(steps)} steps that requeue them all (500 notifications)"] = steps
    return found


def driven(step: Callable[[], Any]) -> Iterator[float]:
    """Milliseconds of each step, until the operation has ended."""
    ended = False
    while not ended:
        start = time.perf_counter()
        ended = step().json()["ended"]
        yield (time.perf_counter() - start) * 1000


def line(name: str, times: list[float]) -> str:
    """Median and least: far apart, they say that the machine had other work."""
    over = "" if median(times) < BUDGET else "OVER  "
    return f"{median(times):6.0f} ms, at least {min(times):4.0f}  {over}{name}"


def report(found: dict[str, list[float]]) -> int:
    """The table, and 1 where a page is over the budget."""
    for name, times in found.items():
        print(line(name, times))
    over = sum(median(times) >= BUDGET for times in found.values())
    print(f"{len(found) - over} of {len(found)} answers within {BUDGET:.0f} ms")
    return 1 if over else 0


def measured(rows: int, rounds: int, only: str = "") -> dict[str, list[float]]:
    """On the database that is set up: the milliseconds of every page, in each round."""
    fill(rows)
    return pages(rounds, only)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="what has TEXT in its name; several with commas"
    )
    arguments = parser.parse_args()
    with postgres.running(durable=True, settings=SETTINGS) as server:
        os.environ.update(
            DATABASE_URL=server.url, DJANGO_SETTINGS_MODULE="tests.settings", TEST_DATABASE="postgresql"
        )
        import django

        django.setup()
        return report(measured(arguments.rows, arguments.rounds, arguments.only))


if __name__ == "__main__":
    sys.exit(main())
