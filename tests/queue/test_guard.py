"""What the trigger of migration 0016 lets another program say about a row, statement by statement."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from notifications import delivery
from notifications.checks import check_beside
from notifications.database import database_now
from notifications.models import Beside, NotificationEvent
from notifications.queue.reap import bury
from tests import factories
from tests.factories import ago, ahead
from tests.fixtures import Configure
from tests.migrations.catalog import execute
from tests.migrations.certctl_tables import UPDATE_STATUS
from tests.reliability.certctl import BURY, REQUEUE, RESCHEDULE, ZERO
from tests.scripted import Script

pytestmark = pytest.mark.django_db
CERTIFICATES = "CREATE TABLE managed_certificates (id TEXT PRIMARY KEY)"
SAYS = {
    "sent": (UPDATE_STATUS, "sent", ago()),
    "failed": (UPDATE_STATUS, "failed", ZERO),
    "reschedule": (RESCHEDULE, "HTTP 503"),
    "dead": (BURY, "HTTP 503"),
}
ASKS = {"requeue": (REQUEUE,), "read": (UPDATE_STATUS, "read", ago())}
ROWS: dict[str, dict[str, Any]] = {
    "pending": {"status": "pending"},
    "pending in hand": {"status": "pending", "leased_until": ahead(minutes=1)},
    "failed": {"status": "failed", "next_retry_at": ago(minutes=1), "retry_count": 1},
    "failed in hand": {
        **{"status": "failed", "next_retry_at": ahead(minutes=1), "retry_count": 1},
        "leased_until": ahead(minutes=1),
    },
    "dead": {"status": "dead", "retry_count": 4},
    "sent": {"status": "sent", "sent_at": ago(minutes=1)},
    "read": {"status": "read", "sent_at": ago(minutes=1)},
}
WAITING = ("pending", "failed")
# What has an effect, but for what an operator asks for: (mode, whose, row, what is said). Of what is dead
# another program may say so again, and why.
HEARD = {
    *(("rescue", "theirs", row, says) for row in WAITING for says in SAYS),
    *(("rescue", "theirs", f"{row} in hand", "sent") for row in WAITING),
    *(("rescue", "ours", row, "sent") for row in WAITING),
    *((mode, whose, "dead", "dead") for mode in ("rescue", "takeover") for whose in ("ours", "theirs")),
    *(("off", whose, row, says) for whose in ("ours", "theirs") for row in ROWS for says in SAYS),
}


def say(event: NotificationEvent, statement: str, *values: Any) -> int:
    """As another program, which knows nothing of ours: how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, event.pk])
        event.refresh_from_db()
        return int(cursor.rowcount)


def live(mode: str) -> None:
    Beside.objects.create(mode=mode, since=database_now())


@pytest.mark.parametrize("mode", ["rescue", "takeover", "off"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("row", ROWS)
def test_what_another_program_says(mode: str, whose: str, row: str) -> None:
    live(mode)
    for name, statement in SAYS.items():
        event = factories.notification(**{"ours": True if whose == "ours" else None, **ROWS[row]})
        before = NotificationEvent.objects.filter(pk=event.pk).values().get()
        heard = say(event, *statement) == 1
        assert heard == ((mode, whose, row, name) in HEARD), name
        if not heard:
            assert NotificationEvent.objects.filter(pk=event.pk).values().get() == before


@pytest.mark.parametrize("mode", ["rescue", "takeover"])
@pytest.mark.parametrize("row", ROWS)
def test_what_an_operator_asks_for_in_the_other_program(mode: str, row: str) -> None:
    live(mode)
    for name, statement in ASKS.items():
        event = factories.notification(**{"ours": None, **ROWS[row]})
        assert say(event, *statement) == 1
        assert event.status == {"requeue": "pending", "read": "read"}[name]
        if row != "pending in hand" or name == "read":
            assert (event.leased_until, event.next_retry_at) == (None, None)
        if name == "requeue" and not row.startswith("pending"):
            assert event.requeued_at


def test_what_they_mark_as_sent_of_ours_is_taken_from_both_their_loops() -> None:
    live("rescue")
    event = factories.pending()
    say(event, *SAYS["sent"])
    assert (event.status, event.next_retry_at, event.sent_at) == ("failed", None, None)
    assert (event.stranded, event.probably_delivered) == (True, False)
    assert event.requeued_at


def test_our_own_verbs_need_no_lease() -> None:
    live("takeover")
    factories.pending().mark_as_sent(database_now())
    factories.failed().mark_as_dead("HTTP 404")
    factories.pending().record_failed_attempt("HTTP 503", ahead(minutes=1))
    dead = factories.dead()
    dead.requeue(by="ada")
    factories.dead().mark_read(by="ada")
    factories.failed(retry_count=7)
    assert bury(NotificationEvent.objects.all(), now=database_now(), max_attempts=5, limit=9) == 1
    assert sorted(NotificationEvent.objects.values_list("status", flat=True)) == [
        *("dead", "dead", "failed", "pending", "read", "sent")
    ]


def test_the_other_programs_role_need_not_know_our_tables() -> None:
    live("takeover")
    event = factories.pending(ours=None)
    execute("CREATE ROLE certctl_only; GRANT SELECT, UPDATE ON notification_events TO certctl_only")
    execute("SET LOCAL ROLE certctl_only")
    assert say(event, *SAYS["sent"]) == 0
    assert say(event, *ASKS["requeue"]) == 1
    execute("RESET ROLE; REVOKE ALL ON notification_events FROM certctl_only; DROP ROLE certctl_only")


def test_where_certctl_is_it_is_rescue(script: Script) -> None:
    execute(CERTIFICATES)
    factories.notification(ours=None)
    assert delivery.send_pending().claimed == 0
    assert Beside.objects.get().mode == "rescue"


def test_the_checks(configure: Configure) -> None:
    execute(CERTIFICATES)
    configure(BESIDE="takeover")
    assert check_beside(["default"]) == []
    execute("ALTER TABLE notification_events DISABLE TRIGGER notification_events_guard")
    assert [message.id for message in check_beside(["default"])] == ["notifications.W011"]
