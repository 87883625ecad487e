"""Plays certctl, statement by statement, in a process of its own.

Orders are JSON lines on stdin, one answer each on stdout: how many rows a statement affected, say. Its
notifier is a POST to the recipient; where it has none it marks as sent at once.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.migrations.certctl_tables import DELETE_CERTIFICATE, INSERT, UPDATE_STATUS

ZERO = datetime(1, 1, 1, tzinfo=UTC)  # what Go's zero time becomes
RESCHEDULE = """
    UPDATE notification_events SET retry_count = retry_count + 1, last_error = %s,
           next_retry_at = now() + INTERVAL '1 minute'
     WHERE id = %s
"""
BURY = "UPDATE notification_events SET status = 'dead', next_retry_at = NULL, last_error = %s WHERE id = %s"
REQUEUE = """
    UPDATE notification_events SET status = 'pending', retry_count = 0, next_retry_at = NULL,
           last_error = NULL
     WHERE id = %s
"""
PENDING = "SELECT id, recipient FROM notification_events WHERE status = 'pending' LIMIT 50"
DUE = """
    SELECT id, recipient FROM notification_events WHERE status = 'failed' AND next_retry_at IS NOT NULL
       AND next_retry_at <= now() AND retry_count < 5 ORDER BY next_retry_at LIMIT 1000
"""


class Certctl:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def _affected(self, statement: str, *values: Any) -> int:
        return self._connection.execute(statement, values).rowcount

    def insert(
        self, id: str, recipient: str, channel: str = "Webhook", certificate: str | None = None
    ) -> int:
        return self._affected(
            *(INSERT, id, "ExpirationWarning", certificate, channel, recipient),
            *("expires soon", None, "pending", None),
        )

    def send(self, id: str, recipient: str) -> bool:
        request = urllib.request.Request(recipient, b"{}", {"webhook-id": id, "X-Sender": "certctl"})
        try:
            with urllib.request.urlopen(request, timeout=30):
                return True
        except (urllib.error.URLError, TimeoutError):
            return False

    def mark(self, id: str, sent: bool) -> int:
        status, at = ("sent", datetime.now(UTC)) if sent else ("failed", ZERO)
        return self._affected(UPDATE_STATUS, status, at, id)

    def read(self, id: str) -> int:
        return self._affected(UPDATE_STATUS, "read", datetime.now(UTC), id)

    def requeue(self, id: str) -> int:
        return self._affected(REQUEUE, id)

    def reschedule(self, id: str) -> int:
        return self._affected(RESCHEDULE, "HTTP 503", id)

    def bury(self, id: str) -> int:
        return self._affected(BURY, "HTTP 503", id)

    def delete(self, certificate: str) -> int:
        return self._affected(DELETE_CERTIFICATE, certificate)

    def alerts(self, count: int, recipient: str, notifier: bool, seed: int) -> dict[str, bool]:
        """What its send answered, by id."""
        chance, answered = random.Random(seed), {}
        for n in range(count):
            pk = f"free-{seed}-{n}"
            self.insert(pk, recipient)
            time.sleep(chance.choice((0, 0, 0.005, 0.02)))
            answered[pk] = self.send(pk, recipient) if notifier else True
            time.sleep(chance.choice((0, 0, 0.005, 0.02)))
            self.mark(pk, answered[pk])
        return answered

    def loops(self, rounds: int, notifier: bool) -> None:
        """The minute's loop and that of the retries, so many times."""
        for _ in range(rounds):
            for pk, recipient in self._connection.execute(PENDING).fetchall():
                self.mark(pk, not notifier or self.send(pk, recipient))
            for pk, recipient in self._connection.execute(DUE).fetchall():
                if not notifier or self.send(pk, recipient):
                    self.mark(pk, True)
                else:
                    self.reschedule(pk)
            time.sleep(0.1)


def main() -> None:
    certctl = Certctl(os.environ["DATABASE_URL"])
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(certctl, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    main()
