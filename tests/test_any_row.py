"""Rows with any value that their columns take, beside twenty good ones: these go out exactly once, and no
surface fails.

ANY_ROW_EXAMPLES=2000 explores at random; otherwise every run tries the same rows.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from notifications import conf, delivery
from notifications.api.models import ApiToken
from notifications.engine.loop import Engine
from notifications.engine.source import DueRows, Schedule
from notifications.engine.sweep import Options
from notifications.models import NotificationEvent, SweepKind
from tests import factories
from tests.factories import wipe
from tests.fixtures import Configure
from tests.management.support import Run, run
from tests.receiver import HttpReceiver
from tests.settings import TEST_DATABASE

__all__ = ["run"]

EXPLORE = int(os.environ.get("ANY_ROW_EXAMPLES", 0))
GOOD = 20
PATIENCE = 20.0  # seconds in which a worker must have delivered the good rows
LIST = "/admin/notifications/notificationevent/"
API = "/api/v1/notifications"
LONG_ID = "".join(chr(33 + (n * n * 7919 + n * 104729) % 90) for n in range(2684))

Row = dict[str, Any]


@dataclass(frozen=True)
class Odd:
    """Bytes that are stored as text."""

    text: bytes


def stored(**columns: Any) -> Row:
    """A row of another program's, with these columns as they are given."""
    plain = {
        "id": "odd",
        "type": "ExpirationWarning",
        "channel": "Webhook",
        "recipient": "ops",
        "message": "soon",
        "status": "pending",
        "retry_count": 0,
    }
    return {**plain, **columns}


def failed(**columns: Any) -> Row:
    return stored(status="failed", next_retry_at="2026-01-01 00:00:00+00", **columns)


OVER = "2026-01-01 00:00:00+00"
ANYWHERE: list[Row] = [
    failed(id="spent", retry_count=2**31 - 1),
    failed(id="far below", retry_count=-(2**31)),
    stored(id="full", retry_count=2**31 - 1),
    stored(id="over", retry_count=2**31 - 1, leased_until=OVER),
    stored(id="no channel", channel=""),
    stored(id="long", message="\n" * 300_000),
    stored(id="direction", recipient="\u202e\u2066", message="\u2028\x1b[2J"),
    stored(id="<script>", type="<b>", channel="Webhook", certificate_id="'; --"),
    stored(id="status", status="Pending?"),
    stored(id="line\nbreak\r", recipient="http://[", message=" "),
    stored(id="日本語/%2f?#..", channel="wEBHOOK"),
]
ON_POSTGRESQL: list[Row] = [
    stored(id="due for ever", status="failed", next_retry_at="-infinity", retry_count=5),
    stored(id="due long ago", status="failed", next_retry_at="-infinity", retry_count=1),
    stored(id="never due", status="failed", next_retry_at="infinity"),
    stored(id="of the future", created_at="infinity", leased_until=OVER),
    stored(id="of the year 20000", created_at="20000-01-01 00:00:00+00", leased_until=OVER),
    stored(id="of the past", created_at="-infinity"),
    failed(id="certctl's", sent_at="0001-01-01 00:00:00+00"),
    stored(id="stranded", status="failed", sent_at="0001-01-01 00:00:00+00"),
    stored(id="before Christ", sent_at="0044-03-15 12:00:00+00 BC", status="sent"),
    stored(id="dead before Christ", created_at="0044-03-15 12:00:00+00 BC", status="dead"),
    stored(id="never free", leased_until="infinity"),
    stored(id="lost long ago", leased_until="-infinity"),
    stored(id=LONG_ID, status="failed", next_retry_at=OVER, retry_count=7),
    stored(id=LONG_ID[:-1], leased_until=OVER, retry_count=7),
    stored(id=LONG_ID[:-2], recipient="http://127.0.0.1:9/"),
]
TEXTS = ("type", "channel", "recipient", "message", "error")
NO_TIMES: tuple[Any, ...] = ("soon", "now", 5, 1e300, b"\xff", "2026-13-45 25:61:61", "0001-01-01 00:00:00")
ON_SQLITE: list[Row] = [
    stored(id=b"blob"),
    stored(id=b"\xff\xfe", leased_until=OVER),
    stored(id=Odd(b"caf\xe9")),
    stored(id="nul\0nul"),
    failed(id=Odd(b"nul\0\xff"), retry_count=9),
    stored(id="words", retry_count="abc"),
    failed(id="a half", retry_count=1.5),
    stored(id="too many", retry_count=2**40),
    failed(id="far too many", retry_count=2**62, leased_until=OVER),
    *(
        stored(id=f"a blob in {name}", **{name: b"\xff\0"})
        for name in ("type", "channel", "recipient", "message")
    ),
    *(
        stored(id=f"no text in {name}", **{name: Odd(b"\xff")})
        for name in ("type", "channel", "message", "error")
    ),
    stored(id="an odd certificate", certificate_id=Odd(b"\xff"), dedup_key=b"\xff"),
    *(
        stored(id=f"no time {at!r}", created_at=at)
        for at in ("soon", 5, 1e300, b"\xff", "2026-13-45 25:61:61", "now")
    ),
    stored(
        id="another program's time", created_at="2026-01-01T00:00:00Z", leased_until="2026-01-01T00:00:00Z"
    ),
    *(stored(id=f"leased until {at!r}", leased_until=at) for at in ("soon", 5, b"\xff")),
    *(stored(id=f"due {at!r}", status="failed", next_retry_at=at) for at in ("soon", 5, b"\xff")),
    *(
        stored(id=f"sent {at!r}", status="sent", sent_at=at)
        for at in ("soon", 5, b"\xff", "0001-01-01 00:00:00")
    ),
    stored(id="dead", status="dead", retry_count="many", last_error=b"\xff", created_at=Odd(b"\xff")),
]
NAMED = ANYWHERE + (ON_SQLITE if TEST_DATABASE == "sqlite" else ON_POSTGRESQL)

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
STATUSES = st.sampled_from(["pending", "failed", "failed", "sent", "dead", "read", "", "PENDING"])
TIMES = [
    "infinity",
    "-infinity",
    "20000-01-01 00:00:00+00",
    "0001-01-01 00:00:00+00",
    "0044-03-15 00:00:00 BC",
]
TIMES += [OVER, "2026-06-01 12:00:00.123456+14", "9999-12-31 23:59:59.999999+00", "294276-12-31 00:00:00+00"]
NUMBERS = st.one_of(st.integers(-3, 9), st.integers(-(2**31), 2**31 - 1))


def columns(text: Any, number: Any, time: Any) -> Any:
    """Any row: `text` of a length, a number and a time."""
    return st.fixed_dictionaries(
        {
            "id": text(600),
            "type": text(255),
            "channel": st.one_of(st.just("Webhook"), text(255)),
            "recipient": text(255),
            "message": text(600),
            "status": STATUSES,
            "retry_count": number,
            "created_at": time,
        },
        optional={
            "certificate_id": text(300),
            "dedup_key": text(300),
            "error": text(300),
            "last_error": text(300),
            **dict.fromkeys(("sent_at", "next_retry_at", "leased_until"), time),
        },
    )


def any_row() -> Any:
    if TEST_DATABASE == "postgresql":
        return columns(lambda most: st.text(CHARACTERS, max_size=most), NUMBERS, st.sampled_from(TIMES))
    odd = st.one_of(st.binary(max_size=8), st.binary(max_size=8).map(Odd), st.text(max_size=8).map(encoded))
    numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
    return columns(
        lambda most: st.one_of(st.text(CHARACTERS, max_size=most), odd),
        st.one_of(NUMBERS, numbers, odd),
        st.one_of(st.sampled_from(TIMES), numbers, odd),
    )


def encoded(text: str) -> Odd:
    return Odd(text.encode("utf-8", "surrogatepass"))


def insert(row: Row) -> None:
    """By SQL, as another program does. What the table itself refuses is not in it."""
    cast = {name: "CAST(%s AS TEXT)" for name, value in row.items() if isinstance(value, Odd)}
    values = [value.text if isinstance(value, Odd) else value for value in row.values()]
    places = ", ".join(cast.get(name, "%s") for name in row)
    statement = f"INSERT INTO notification_events ({', '.join(row)}) VALUES ({places})"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, values)
    except IntegrityError as error:
        note(f"not taken: {error}")


class World:
    """Everything that reads or changes the rows."""

    def __init__(self, receiver: HttpReceiver, run: Run) -> None:
        self.receiver = receiver
        self.run = run
        operator = User.objects.create_superuser("operator")
        self.browser = Client()
        self.browser.force_login(operator)
        self.api = APIClient()
        self.api.credentials(HTTP_AUTHORIZATION=f"Bearer {ApiToken.objects.issue(operator, 'test')[1]}")

    def live(self, rows: list[Row]) -> None:
        wipe()
        self.receiver.requests.clear()
        for row in rows:
            insert(row)
        odd = [event.pk for event in NotificationEvent.objects.all()]
        good = [factories.pending().pk for _ in range(GOOD // 2)]
        good += [factories.failed().pk for _ in range(GOOD // 2)]
        self.look(odd)
        delivery.send_pending()
        delivery.retry_failed(include_unscheduled=True)
        self.work(good)
        counts = Counter(self.receiver.ids)
        assert {pk: counts[pk] for pk in good} == dict.fromkeys(good, 1)
        self.look([event.pk for event in NotificationEvent.objects.exclude(pk__in=good)])
        assert self.run("requeue", "--all", "--yes").code == 0

    def work(self, good: list[str]) -> None:
        """A worker that is at it for some sweeps."""
        deadline, ended = time.monotonic() + PATIENCE, time.monotonic() + 0.3

        def enough() -> bool:
            now = time.monotonic()
            return now > deadline or (now > ended and set(good) <= set(self.receiver.ids))

        settings, options = conf.current(), Options(limit=1000, stop=enough, patient=True)
        schedules = [
            Schedule(DueRows(kind, settings, options), 0.1) for kind in (SweepKind.PENDING, SweepKind.RETRY)
        ]
        Engine(settings, options, schedules).run()

    def look(self, at: list[str]) -> None:
        for query in ("", "?status=dead", "?status=failed", "?q=odd", "?age=7d", "?o=-6"):
            assert self.browser.get(LIST + query).status_code == 200
        for place in ("dashboard/", "endpoints/", "operations/"):
            assert self.browser.get(LIST + place).status_code == 200
        for query in ({}, {"cursor": ""}, {"status": "dead"}):
            assert self.api.get(API, {"per_page": 500, **query}).status_code == 200
        for pk in at:
            assert self.browser.get(f"{LIST}{quote(admin_quote(pk), safe='')}/change/").status_code < 500
            assert self.api.get(f"{API}/{quote(pk, safe='')}").status_code in (200, 404)
            if pk and not pk.startswith("-") and "\0" not in pk:
                assert self.run("show", pk).code in (0, 1, 2)
        for command in (["list"], ["list", "--json"], ["stats"], ["stats", "--json"]):
            ran = self.run(*command)
            assert ran.code == 0, ran.err
        assert self.browser.get("/metrics").status_code == 200


@pytest.fixture
def world(
    transactional_db: None, receiver: HttpReceiver, run: Run, configure: Configure, settings: Any
) -> World:
    """In a time zone west of Greenwich, where the year 1 begins in the year 0."""
    settings.TIME_ZONE = "America/Los_Angeles"
    webhook = {
        "NOTIFIER": "notifications.notifiers.webhook.WebhookNotifier",
        "URL": receiver.url(),
        "ALLOWED_NETWORKS": ["127.0.0.0/8"],
    }
    configure(CHANNELS={"Webhook": webhook})
    return World(receiver, run)


def test_all_that_is_known_at_once(world: World) -> None:
    world.live(NAMED)


def test_any_rows(world: World) -> None:
    @settings(
        max_examples=EXPLORE or 12,
        derandomize=not EXPLORE,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # to shrink what fails takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(rows=st.lists(any_row(), min_size=1, max_size=8))
    def lived(rows: list[Row]) -> None:
        world.live(rows)

    lived()
