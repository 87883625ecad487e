"""Where PostgreSQL's own rules matter: certctl's foreign key, texts it refuses, two that record at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from notifications.certificates import record as recording
from notifications.certificates import watcher
from notifications.certificates.claims import claim, claim_these, release
from notifications.certificates.models import Certificate, Checks, Raised, Sighting, Watch
from notifications.certificates.readings import Reading, Seen
from notifications.certificates.record import KEPT, forget, record
from notifications.models import Deadline, NotificationEvent
from tests.certificates.authority import NOW, Authority
from tests.certificates.support import alerts, days, look, seen, texts, watch

CA = Authority()
A, B = CA.issue("www.example.com", since=NOW), CA.issue("www.example.com", since=NOW + days(1))


@pytest.mark.django_db
def test_where_certctls_certificates_are_meant_ours_is_none_of_them() -> None:
    """Its database has a foreign key there."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE managed_certificates (id text PRIMARY KEY)")
        cursor.execute(
            "ALTER TABLE notification_events ADD CONSTRAINT theirs FOREIGN KEY (certificate_id)"
            " REFERENCES managed_certificates (id)"
        )
    look(NOW + days(61), (watch(), seen(NOW + days(61), A)))
    [event] = alerts()
    assert event.certificate_id is None
    assert Raised.objects.get().event == event.pk


@pytest.mark.django_db
def test_one_targets_fault_is_its_own() -> None:
    """What the database refuses is found, whichever it is."""
    good, bad = watch(), watch("bad.example.com")
    broken = Reading((Seen("a place\x00", seen(NOW, B).seen[0].facts),))
    look(NOW, (bad, broken), (good, seen(NOW, A)))
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.problem, bad.problem) == ("", "the database cannot hold what was read there")
    assert [row.watch for row in Sighting.objects.all()] == [good]


def at_once(*work: Callable[[], object]) -> list[object]:
    """What each answers, begun together in threads with connections of their own."""
    start, answers = threading.Barrier(len(work)), list[object]()

    def run(one: Callable[[], object]) -> None:
        try:
            start.wait(20)
            answers.append(one())
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == len(work)
    return answers


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_looks_at_a_target() -> None:
    for n in range(40):
        watch(f"host-{n}.example.com")
    Watch.objects.update(next_check_at=NOW)
    claimed = at_once(*(lambda: [one.pk for one in claim(NOW, "here", 20)] for _ in range(6)))
    taken = [pk for part in claimed for pk in part]  # type: ignore[attr-defined]
    assert len(taken) == len(set(taken))
    while more := claim(NOW, "here", 20):
        taken += [one.pk for one in more]
    assert sorted(taken) == sorted(Watch.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_what_many_see_at_once_is_raised_once() -> None:
    """One certificate at six endpoints, recorded by six at the same time."""
    now, watches = NOW + days(61), [watch(f"host-{n}.example.com") for n in range(6)]
    claimed = [claim_these([one.pk], now)[0] for one in watches]
    at_once(*(lambda one=one: record([(one, seen(now, A, place=one.target))], now) for one in claimed))
    assert len(alerts()) == 1
    assert Raised.objects.count() == 1
    assert Sighting.objects.count() == 6


# What another program keeps locked


@contextmanager
def locked(*rows: Model) -> Iterator[None]:
    """Another program's open transaction holds these. Whoever waits for them without an end fails."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '20s'")
        dsn = connection.connection.info.dsn  # type: ignore[union-attr]
        with psycopg.connect(dsn) as other:
            for row in rows:
                found = f"SELECT 1 FROM {row._meta.db_table} WHERE id = %s FOR UPDATE"
                assert other.execute(found.encode(), [row.pk]).fetchone()
            yield
            other.rollback()
        cursor.execute("RESET lock_timeout")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "PATIENCE", "50ms")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "table",
    [NotificationEvent, Deadline, Watch, Certificate, Sighting, Raised, Checks],
    ids=lambda t: t.__name__,
)
def test_a_locked_row_stops_no_round(table: Any, brief: None, tmp_path: Path) -> None:
    """Its certificate was renewed; what is beside it is told, and it is settled once the lock is gone."""
    now = timezone.now()
    for name, since in (("shop", now - days(62)), ("shop", now), ("other", now - days(62))):
        file = tmp_path / f"{name}.pem"
        if again := file.exists():
            watcher.check_due()
            held = table.objects.get()
        file.write_bytes(CA.issue(f"{name}.example.com", since=since).chain)
        if not again:
            watch(str(file))
    Watch.objects.update(next_check_at=now)
    with locked(held):
        assert watcher.check_due(seconds=5).watches
        assert [text.partition(" ")[0] for text in texts()] == ["shop.example.com", "other.example.com"]
    Watch.objects.update(next_check_at=now)
    watcher.check_due()
    shop, other = alerts()
    assert (shop.withdrawn, other.status) == (True, "pending")
    assert Raised.objects.exclude(settled_at=None).get().event == shop.pk
    assert not Watch.objects.filter(checked_at=None).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", [Watch, Certificate])
def test_what_could_not_be_recorded_for_a_lock_is_told_in_a_later_round(table: Any, brief: None) -> None:
    now, free, busy = NOW + days(61), watch(), watch("busy.example.com")
    others = CA.issue("busy.example.com", since=NOW)
    look(NOW, (busy, seen(NOW, others, place=busy.target)))
    claimed = claim_these([free.pk, busy.pk], now)
    readings = {free.pk: seen(now, A), busy.pk: seen(now, others, place=busy.target)}
    held = busy if table is Watch else Certificate.objects.get()
    with locked(held):
        record([(one, readings[one.pk]) for one in claimed], now)
        assert [text.partition(" ")[0] for text in texts()] == ["www.example.com"]
    look(now + days(0.01), (busy, readings[busy.pk]))
    assert [text.partition(" ")[0] for text in texts()] == ["www.example.com", "busy.example.com"]


@pytest.mark.django_db(transaction=True)
def test_a_locked_endpoint_keeps_no_file_that_it_serves_from_being_recorded(brief: None) -> None:
    one = watch()
    file = watch("/etc/ssl/www.pem", served_by=[one.target])
    look(NOW + days(1), (one, seen(NOW, A, place=one.target)), (file, seen(NOW, A, place=file.target)))
    with locked(one):
        look(NOW + days(2), (file, seen(NOW, B, place=file.target)))
    assert Sighting.objects.filter(watch=file, current=True).get().certificate.fingerprint == B.fingerprint


@pytest.mark.django_db(transaction=True)
def test_what_is_locked_is_neither_given_back_nor_forgotten_yet() -> None:
    for n in range(2):
        one, issued = watch(f"host-{n}.example.com"), CA.issue(f"host-{n}.example.com", since=NOW)
        look(NOW, (one, seen(NOW, issued, place=one.target)))
    claimed = claim_these(list(Watch.objects.values_list("pk", flat=True)), NOW)
    long_after = NOW + KEPT + days(91)
    Sighting.objects.update(current=False)
    with locked(claimed[0], Certificate.objects.get(names=["host-0.example.com"])):
        release(claimed)
        forget(long_after)
    assert {one.pk for one in Watch.objects.filter(next_check_at__gt=NOW)} >= {claimed[0].pk}
    assert Watch.objects.get(pk=claimed[1].pk).next_check_at != claimed[1].next_check_at
    assert [one.names for one in Certificate.objects.all()] == [["host-0.example.com"]]
    forget(long_after)
    assert not Certificate.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_session_that_watches_waits_for_nothing_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, stop = list[str](), threading.Event()

    def note(**_: object) -> watcher.Round:
        with connection.cursor() as cursor:
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                cursor.execute(f"SHOW {name}")
                limits.extend(cursor.fetchone())
        stop.set()
        return watcher.Round()

    monkeypatch.setattr(watcher, "check_due", note)
    with watcher.watching(stop):
        assert stop.wait(20)
    assert limits == ["5s", "48s", "48s"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("column", ["served_by", "notify", "at"])
def test_what_nobody_can_read_stops_no_round(column: str, tmp_path: Path) -> None:
    """Another program's, nested thousands of levels deep."""
    (tmp_path / "a.pem").write_bytes(CA.issue("a.example.com").chain)
    odd, other = watch("/nowhere/x.pem"), watch(str(tmp_path / "a.pem"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE notification_watches SET {column} = %s::jsonb WHERE id = %s",
            ["[" * 5000 + "]" * 5000, odd.pk],
        )
    watcher.check_due()
    other.refresh_from_db()
    assert other.checked_at
